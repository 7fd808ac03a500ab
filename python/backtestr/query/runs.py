"""The runs of requests, noted as they end: a tuple in memory, counted and written down later."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from backtestr.models import Timeframe
from backtestr.query.alike import MAX_STATEMENT, request_kind, statement_kind, symbol_count
from backtestr.query.ranges import Range
from backtestr.query.sql import Prepared
from backtestr.query.tally import SLOW_NS, Run, SlowRead, Tallies, Tally, join_all, keep_tallies, read_tallies
from backtestr.schema import END_NS, MIN_NS
from backtestr.storage.layout import BARS, TICKS

_COUNTED_AT: Final = 1_024
"""Runs noted at which they are counted."""
_SAVED_EVERY_NS: Final = 300_000_000_000

SCHEMA: Final = pa.schema(
    [
        pa.field("request", pa.string(), nullable=False),
        pa.field("runs", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("median_ms", pa.float64(), nullable=False),
        pa.field("slowest_ms", pa.float64(), nullable=False),
        pa.field("total_ms", pa.float64(), nullable=False),
        pa.field("last_utc", pa.timestamp("ns", "UTC"), nullable=False),
    ]
)


class Runs:
    """What requests took. Safe to share between threads.

    Args:
        folder: where they are kept; None remembers nothing.
        clock: gives ns, for what takes how long.
        now: gives ns since 1970.
    """

    def __init__(
        self,
        folder: Path | None,
        clock: Callable[[], int] = time.perf_counter_ns,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.clock = clock
        self._now = now
        # What one machine took says little of another that shares the home.
        host = re.sub(r"[^\w.-]", "_", platform.node()) or "host"
        self._path = None if folder is None else folder / f"queries-{host}.json"
        self._noted: deque[tuple[Any, ...]] = deque()
        self._tallies: Tallies = {}
        # Garbage collection may save in the middle of either.
        self._counting, self._saving = threading.RLock(), threading.RLock()
        self._saved_ns = now()
        self._pid = os.getpid()

    def request(
        self,
        began: int,
        rows: pa.Table,
        symbols: object,
        timeframe: str | None,
        window: tuple[int | None, int | None],
        columns: Sized | None = None,
        limit: int | None = None,
        price: str | None = None,
    ) -> None:
        """Note a request for ticks, or for bars of a timeframe, that began at a time of the clock."""
        if self._path is None:
            return
        took = self.clock() - began
        size = rows.num_rows, rows.num_columns
        named = None if columns is None else len(columns)
        self._note((took, self._now(), size, window, timeframe, symbol_count(symbols), named, limit is not None, price))

    def statement(self, began: int, rows: pa.Table, prepared: Prepared) -> None:
        """Note a statement that began at a time of the clock."""
        if self._path is None:
            return
        took = self.clock() - began
        size = sum(part.file.size for _, part in prepared.reads())
        computed = () if prepared.named is None else prepared.named.timeframes
        slow = _slow_reads(prepared, took) if took > SLOW_NS else []
        text = prepared.request[:MAX_STATEMENT]
        self._note((took, self._now(), (rows.num_rows, size), text, computed, slow))

    def known(self) -> Tallies:
        """All that is remembered, of other processes too; written down on the way, where that can be."""
        self.save()
        tallies = {} if self._path is None else read_tallies(self._path)
        with self._counting:
            join_all(tallies, self._tallies)
        return tallies

    def save(self) -> None:
        """Write down what was noted. What cannot be written stays in memory."""
        if self._path is None or os.getpid() != self._pid:
            return
        with self._saving:
            self._saved_ns = self._now()
            with self._counting:
                self._count()
                more, self._tallies = self._tallies, {}
            if more and not keep_tallies(self._path, more):
                with self._counting:
                    join_all(more, self._tallies)
                    self._tallies = more

    def _note(self, entry: tuple[Any, ...]) -> None:
        self._noted.append(entry)
        # One thread counts while others go on, up to a point.
        waiting = len(self._noted)
        if waiting < _COUNTED_AT or not self._counting.acquire(blocking=waiting >= 4 * _COUNTED_AT):
            return
        try:
            self._count()
        finally:
            self._counting.release()
        if self._now() - self._saved_ns > _SAVED_EVERY_NS:
            self._saved_ns = self._now()
            # without a thread to spare it is written later
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self.save, name="backtestr-history").start()

    def _count(self) -> None:
        """Add what was noted to the tallies."""
        for _ in range(len(self._noted)):
            took, ended, (rows, width), *told = self._noted.popleft()
            kind, family, timeframes, slow = _of_request(took, *told) if len(told) > 3 else _of_statement(*told)
            if (tally := self._tallies.get(kind)) is None:
                tally = self._tallies[kind] = Tally(family)
            tally.timeframes = timeframes
            tally.add(Run(took, rows, width if family == "sql" else rows * width), ended, slow)
        join_all(self._tallies, {})


def as_table(tallies: Tallies) -> pa.Table:
    """Rows of `SCHEMA`, those first that took most time in all."""
    rows = []
    for kind, tally in sorted(tallies.items(), key=lambda item: (-item[1].total_ns, item[0])):
        rows.append(
            {
                "request": kind,
                "runs": tally.runs,
                "rows": tally.median_rows,
                "median_ms": tally.median_ns / 1e6,
                "slowest_ms": tally.slowest_ns / 1e6,
                "total_ms": tally.total_ns / 1e6,
                "last_utc": tally.last_ns,
            }
        )
    return pa.Table.from_pylist(rows, SCHEMA)


def _of_request(
    took: int, window: tuple[int | None, int | None], timeframe: str | None, *told: Any
) -> tuple[str, str, tuple[str, ...], list[SlowRead]]:
    family = TICKS if timeframe is None else BARS
    timeframes = () if timeframe is None else (str(Timeframe.parse(timeframe)),)
    slow = [SlowRead(family, *window, took)] if took > SLOW_NS else []
    return _kind(timeframe, window, *told), family, timeframes, slow


def _of_statement(
    text: str, computed: tuple[str, ...], slow: list[SlowRead]
) -> tuple[str, str, tuple[str, ...], list[SlowRead]]:
    return statement_kind(text), "sql", computed, slow


@lru_cache(maxsize=1024)
def _kind(
    timeframe: str | None,
    window: tuple[int | None, int | None],
    symbols: int | None,
    columns: int | None,
    limited: bool,
    price: str | None,
) -> str:
    return request_kind(timeframe, symbols, window, columns, limited=limited, price=price)


def _slow_reads(prepared: Prepared, took: int) -> list[SlowRead]:
    """The range of time that a statement read of ticks, and that of bars."""
    ranges: dict[str, Range] = {}
    for table, part in prepared.reads():
        if table in {TICKS, BARS}:
            ranges[table] = ranges.get(table, part.range) | part.range
    return [SlowRead(table, _valid(within.start), _valid(within.end), took) for table, within in ranges.items()]


def _valid(instant: int | None) -> int | None:
    return instant if instant is not None and MIN_NS <= instant <= END_NS else None
