"""Rejected rows, kept with the reason, the source's line and its raw text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import pyarrow as pa

from backtestr._native import REASONS
from backtestr.schema import QUARANTINE as SCHEMA
from backtestr.storage import Storage
from backtestr.storage.encode import stored_field
from backtestr.storage.layout import QUARANTINE
from backtestr.storage.write import Written, write_plain

Locate = Callable[[Sequence[int]], list[tuple[int, str]]]


class Quarantine:
    """Collects rejected rows of a load."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._parts: list[pa.Table] = []

    def add(self, rejected: pa.Table, member: str, first_row: int, locate: Locate) -> None:
        """Take the rejected rows of a batch in; ``first_row`` is the number of the batch's first row in the load."""
        rows = [row - first_row for row in rejected["row"].to_pylist()]
        places = locate(rows)
        masks = rejected["reasons"].to_pylist()
        known = set(rejected.column_names)
        self._parts.append(
            pa.table(
                {
                    "source": pa.array([self._source] * len(rows), pa.string()),
                    "member": pa.array([member] * len(rows), pa.string()),
                    "line": pa.array([line for line, _ in places], pa.int64()),
                    "reasons": pa.array([_names(mask) for mask in masks], pa.list_(pa.string())),
                    "raw": pa.array([raw for _, raw in places], pa.string()),
                    "symbol": rejected["symbol"].cast(pa.string())
                    if "symbol" in known
                    else pa.nulls(len(rows), pa.string()),
                },
                schema=SCHEMA,
            )
        )

    @property
    def rows(self) -> pa.Table | None:
        """All rows so far; None where there are none."""
        return pa.concat_tables(self._parts) if self._parts else None


def write_quarantine(storage: Storage, rows: pa.Table | None) -> list[Written]:
    """A durable file of rejected rows, to be committed with what they came with; none without rows."""
    if rows is None:
        return []
    today = dt.datetime.now(dt.UTC).date().isoformat()
    rows = rows.cast(pa.schema([stored_field(QUARANTINE, field) for field in SCHEMA]))
    return [write_plain(storage.layout, QUARANTINE, today, rows)]


def _names(mask: int) -> list[str]:
    return [name for name, bit in REASONS.items() if mask & bit]
