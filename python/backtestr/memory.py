"""What an open store keeps in memory, and reads before it is asked for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from backtestr.errors import ArgumentError
from backtestr.instants import MIN_NS, Instant, range_ns
from backtestr.models import AheadStats, CacheReport, Timeframe
from backtestr.query.ahead.prefetch import ReadAhead
from backtestr.query.ahead.steps import Cover, Step, windows
from backtestr.query.ahead.stretch import Bounds
from backtestr.query.ahead.walk import Walk, rows_of_windows
from backtestr.query.frame import Frame
from backtestr.reader import StoreReader


class Memory(StoreReader):
    """What `backtestr.Store` offers around its reads: walks that are read ahead, and the rows kept in memory."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, **settings: Any) -> None:
        super().__init__(path, read_only=read_only, **settings)
        self._walks: weakref.WeakSet[Walk] = weakref.WeakSet()
        if self._settings.read_ahead == "on" and self._settings.hot_cache_bytes:
            self._ahead = ReadAhead(self._readable())
            # a store that nobody closes ends its thread, too, which must not refer to it
            weakref.finalize(self, self._ahead.stop)

    def walk(
        self,
        symbols: str | Iterable[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        by: str | Timeframe = "day",
        timeframe: str | None = None,
        columns: Sequence[str] | None = None,
        price: str | None = None,
        empty: bool = False,
        as_of: int | Instant | None = None,
    ) -> Walk:
        """Go through [start, end) window by window: a thread reads the next ones while you work on one.

        All windows are of one version, whatever is written meanwhile, and have the rows that `ticks` or `bars` gives
        for them. A few windows wait at most, and what was passed stays neither in memory nor in the cache.

        Args:
            symbols: one, several, or None for all.
            start: first instant; None begins with the window of the first tick.
            end: exclusive; None ends with the window of the last tick.
            by: ``"hour"``, ``"day"``, ``"week"`` (from Monday), ``"month"`` or ``"year"``, in UTC, or a timeframe such
                as ``"4h"``. The first and the last window are cut by start and end.
            timeframe: walk bars of this timeframe; None walks ticks.
            columns: which columns of ticks, in the order wanted; None for all.
            price: which bars, as for `bars`.
            empty: whether windows without rows come too.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Returns:
            An iterator of (start, end, rows): two `datetime` and a `Frame`.

        Raises:
            SymbolNotFoundError: no such symbol.
            ArgumentError: no such column, basis or ``by``, or start is not before end.
            TimeframeError: no such timeframe.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-05T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     for start, end, ticks in store.walk("A", by="day"):
            ...         print(start.date(), ticks.num_rows)
            2024-01-02 1
            2024-01-05 1
        """
        step, window = Step.parse(by), range_ns(start, end)
        if timeframe is None and price is not None:
            raise ArgumentError(f"price={price!r} is for bars: say timeframe=, too")
        if timeframe is not None and columns is not None:
            raise ArgumentError("columns= is for ticks; bars come with all of theirs")
        columns = list(columns) if columns else None
        with self._reading(as_of) as (storage, version):
            names = version.known(symbols)
            read = rows_of_windows(version, names, timeframe, columns, price)
            # what is wrong with the request shows here, and not in the thread
            read(storage, MIN_NS, MIN_NS + 1)
            cover = Cover.of(version, names, 1 if timeframe is None else Timeframe.parse(timeframe).ns)
            bounds = windows(step, *cover.ends(step, *window), None if empty else cover)
            asked: dict[str, Any] = {"timeframe": timeframe, "columns": columns, "price": price, "as_of": version.lsn}

            def framed(window: Bounds, rows: pa.Table) -> Frame:
                explain = partial(self.explain, symbols=names, start=window[0], end=window[1], **asked)
                return Frame(rows.select(columns) if columns else rows, explain=explain)

            storage.lease.hold(version.lsn)
            done = partial(storage.lease.release, version.lsn)
            try:
                walk = Walk(storage, bounds, read, framed, empty=empty, done=done)
            except BaseException:
                done()
                raise
        self._walks.add(walk)
        return walk

    def cache_stats(self) -> CacheReport:
        """What is held in memory and was read ahead: ``hot``, rows of ticks and bars, and ``ahead``.

        Example:
            >>> import backtestr as bt, tempfile
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     store.cache_stats()["hot"].hits
            0
        """
        ahead = AheadStats() if self._ahead is None else self._ahead.stats()
        return {"hot": self._readable().reader.groups.stats(), "ahead": ahead}

    def clear_cache(self, symbols: str | Iterable[str] | None = None) -> None:
        """Drop rows from memory: those of some symbols, or all.

        Args:
            symbols: one, several, or None for all. Small symbols share groups of rows with others, which go too.

        Raises:
            SymbolNotFoundError: no such symbol.
        """
        with self._reading() as (storage, version):
            places = None if symbols is None else version.listing.groups_of(version.known(symbols))
            storage.reader.groups.forget(places)

    def close(self) -> None:
        """End what reads ahead, then close the store."""
        for walk in list(self._walks):
            walk.abandon(self._path)
        if self._ahead is not None:
            self._ahead.close()
        super().close()
