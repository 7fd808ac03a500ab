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
    rows_expected: int
    """Rows within the symbols and times asked for, their instants taken to be spread evenly between known bounds."""
    bytes: int
    """Parquet bytes of the columns and row groups that are read."""
    bytes_considered: int
    """Bytes of all data files of the table."""
    columns: tuple[str, ...] | None
    """Columns that are read; None for all."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What answering a request costs, before it runs."""

    rows: int
    """Rows that pass the conditions on symbol and time; of a request, rows of its answer."""
    bytes: int
    """Parquet bytes to be read."""
    ms: float | None = None
    """Time, by runs recorded on this machine; None where there are none."""
    runs: int = 0
    """How many of them it is from."""

    def __str__(self) -> str:
        time = "time unknown: no runs yet" if self.ms is None else f"{_ms(self.ms)} by {_runs(self.runs)}"
        return f"{self.rows:,} rows, {size_text(self.bytes)}, {time}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What runs of the same request took: the same but for values, and for instants and symbols of like number."""

    runs: int
    rows: int
    """Rows of the answers: the median of the newest."""
    median_ms: float
    """The newest runs' median."""
    slowest_ms: float
    last: str
    """When the last one ended (ISO 8601, UTC)."""

    def __str__(self) -> str:
        took = f"median {_ms(self.median_ms)}, slowest {_ms(self.slowest_ms)}"
        return f"{self.rows:,} rows, {took} in {_runs(self.runs)}, the last {self.last}"


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one run did that was made to be measured."""

    ms: float
    rows: int
    """Rows of the answer."""
    rows_read: int | None = None
    """Rows that passed DuckDB's scans and the conditions in them; None where it has no count, as for requests."""
    bytes_read: int | None = None
    row_groups_read: int | None = None

    def __str__(self) -> str:
        said = f"{self.rows:,} rows, {_ms(self.ms)}"
        if self.rows_read is None or self.bytes_read is None or self.row_groups_read is None:
            return said
        return (
            f"{said}; read {self.rows_read:,} rows, {size_text(self.bytes_read)}, {self.row_groups_read:,} row groups"
        )


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
    estimate: Estimate | None = None
    measured: Measured | None = None
    """None where the request has not run, or nothing is remembered."""
    analysis: Analysis | None = None
    """None where it was not asked for."""
    advice: str | None = None
    """What would help most, by the requests that are remembered."""

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
        costs = {
            "estimate": self.estimate,
            "measured": self.measured or (self.estimate and "no runs yet"),
            "analyzed": self.analysis,
            "advice": self.advice,
        }
        lines += [f"  {name:{_WIDTH}} {said}" for name, said in costs.items() if said is not None]
        return "\n".join(lines)

    __repr__ = __str__


def _scanned(scan: Scan) -> str:
    columns = "all columns" if scan.columns is None else f"{len(scan.columns)} columns ({', '.join(scan.columns)})"
    asked = "" if scan.rows_expected == scan.rows else f" for about {scan.rows_expected:,} asked for"
    return (
        f"{scan.what}: {scan.files:,} of {scan.files_considered:,} files, {scan.row_groups:,} row groups, "
        f"{scan.rows:,} rows{asked}, {size_text(scan.bytes)} of {size_text(scan.bytes_considered)}, {columns}"
    )


def _ms(ms: float) -> str:
    return f"{ms / 1000:,.2f} s" if ms >= 1000 else f"{ms:.3g} ms"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"
