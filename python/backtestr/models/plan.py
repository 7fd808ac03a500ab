"""How a request is answered: what is read, and what is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backtestr.models.report import size_text

_WIDTH = 22


@dataclass(frozen=True, slots=True)
class Scan:
    """What is read of one table."""

    table: str
    """``ticks``, ``bars``, …"""
    what: str
    """Which of its rows, such as ``bars of 5m``."""
    files: int
    """Data files that may hold rows that are asked for."""
    files_considered: int
    """All data files of the table."""
    row_groups: int
    """Row groups of these files that may."""
    rows: int
    """Rows that may be, as the index tells."""
    bytes: int
    """Parquet bytes of the columns and row groups that are read."""
    bytes_considered: int
    """Bytes of all data files of the table."""
    columns: tuple[str, ...] | None
    """Columns that are read; None for all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request is answered. Prints as text; `to_dict` and `to_json` give the same."""

    request: str
    lsn: int
    """The version that is read."""
    scans: tuple[Scan, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    """What each rule did, or why it did nothing, by its name."""
    routed: bool = False
    """Whether an aggregation of ticks is answered from bars."""

    @property
    def bytes(self) -> int:
        """Parquet bytes to be read."""
        return sum(scan.bytes for scan in self.scans)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return dataclasses.asdict(self) | {"rules": dict(self.rules), "bytes": self.bytes}

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        lines = [self.request, *(f"  {name:{_WIDTH}} {said}" for name, said in self.rules.items())]
        lines += [f"  {'read ' + scan.table:{_WIDTH}} {_scanned(scan)}" for scan in self.scans]
        rows = sum(scan.rows for scan in self.scans)
        lines.append(f"  {'estimate':{_WIDTH}} {rows:,} rows, {size_text(self.bytes)}")
        return "\n".join(lines)

    __repr__ = __str__


def _scanned(scan: Scan) -> str:
    columns = "all columns" if scan.columns is None else f"{len(scan.columns)} columns ({', '.join(scan.columns)})"
    return (
        f"{scan.what}: {scan.files:,} of {scan.files_considered:,} files, {scan.row_groups:,} row groups, "
        f"{scan.rows:,} rows, {size_text(scan.bytes)} of {size_text(scan.bytes_considered)}, {columns}"
    )
