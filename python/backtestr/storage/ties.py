"""The order of ticks that differ only by exchange or feed: by its name, since ids are given in order of sight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import sort_ticks
from backtestr.storage.snapshot import Version

_NAMED = {"exchange_id": ("exchanges", "code"), "feed_id": ("feeds", "name")}
_IDS = 1 << 16


def sort_as_stored(rows: pa.Table, version: Version) -> pa.Table:
    """Sort complete ticks in the order of the store: as `sort_by_names` does, by the names that a version has."""
    names = {
        column: {row["id"]: row[name] for row in version.rows_of(table)} for column, (table, name) in _NAMED.items()
    }
    return sort_by_names(rows, names)


def sort_by_names(rows: pa.Table, names: Mapping[str, Mapping[int, str]]) -> pa.Table:
    """Sort ticks as `sort_ticks` does, but by the names of the ids in some columns."""
    ranks = {}
    for column, known in names.items():
        encoded = {number: name.encode() for number, name in known.items()}
        if column in rows.column_names and sorted(encoded) != sorted(encoded, key=encoded.__getitem__):
            ranks[column] = _ranks(encoded)
    for column, rank in ranks.items():
        rows = _replaced(rows, column, rank)
    rows = sort_ticks(rows)
    for column, rank in ranks.items():
        ids = np.empty_like(rank)
        ids[rank] = np.arange(_IDS, dtype=np.uint16)
        rows = _replaced(rows, column, ids)
    return rows


def _ranks(names: dict[int, bytes]) -> npt.NDArray[np.uint16]:
    """The rank of every id; the known ones change places among themselves, so that no two ids share one."""
    ranks = np.arange(_IDS, dtype=np.uint16)
    ranks[sorted(names, key=names.__getitem__)] = sorted(names)
    return ranks


def _replaced(rows: pa.Table, column: str, values: npt.NDArray[np.uint16]) -> pa.Table:
    position = rows.schema.get_field_index(column)
    return rows.set_column(position, rows.schema.field(position), pa.array(values).take(rows[column]))
