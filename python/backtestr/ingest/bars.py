"""Bars of a commit: from rows as they stream by, or rebuilt from what the store will hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from backtestr._native import BarAggregator, aggregate_bars
from backtestr.models import BarSpec, Timeframe
from backtestr.schema import STORED_BARS
from backtestr.storage.computed import tick_chunks
from backtestr.storage.keys import listed_symbols, symbol_names
from backtestr.storage.read import Reader
from backtestr.storage.snapshot import Version

_NEEDED = {"trade": {"price"}, "bid": {"bid"}, "ask": {"ask"}, "mid": {"bid", "ask"}}


class BarBuilder:
    """Aggregates sorted rows to bars of every materialised timeframe, each symbol by its own price bases."""

    def __init__(self, timeframes: Sequence[str], spec: BarSpec) -> None:
        self._timeframes = list(timeframes)
        self._spec = spec
        self._aggregators: dict[tuple[str, ...], BarAggregator] = {}
        self._bars: list[pa.Table] = []

    def feed(self, rows: pa.Table, bases: Mapping[str, Iterable[str]], *, is_whole: bool = False) -> None:
        """Take rows in; a symbol that ``bases`` does not name is left out.

        Args:
            rows: sorted as ticks are.
            bases: the price bases of each symbol.
            is_whole: no bar of these rows has ticks among those fed before or after.
        """
        symbols: dict[str, list[str]] = {}
        for symbol, names in bases.items():
            for basis in names:
                symbols.setdefault(basis, []).append(symbol)
        for basis, wanted in symbols.items():
            mine = _only(rows, wanted)
            if mine.num_rows == 0 or not _NEEDED[basis] <= set(mine.column_names):
                continue
            if is_whole:
                bars = aggregate_bars(mine, self._timeframes, price=basis, bar_spec=self._spec)
            else:
                bars = self._aggregator(basis, mine.column_names).update(mine)
            self._bars.append(bars.select(STORED_BARS.names))

    def close(self) -> None:
        """End the running bars: what comes next may be of any time."""
        self._bars += [aggregator.finish().select(STORED_BARS.names) for aggregator in self._aggregators.values()]
        self._aggregators = {}

    def finish(self) -> pa.Table:
        """All bars, the running ones included; columns of the canonical schema without vwap."""
        self.close()
        bars, self._bars = self._bars, []
        return pa.concat_tables([STORED_BARS.empty_table(), *bars])

    def _aggregator(self, basis: str, columns: Sequence[str]) -> BarAggregator:
        # Symbols that are rebuilt bring all columns of the store, new ones those of the load.
        key = basis, *columns
        if key not in self._aggregators:
            self._aggregators[key] = BarAggregator(self._timeframes, price=basis, bar_spec=self._spec)
        return self._aggregators[key]


def _only(rows: pa.Table, symbols: list[str]) -> pa.Table:
    wanted = set(symbols)
    if listed_symbols(rows) <= wanted or wanted.issuperset(symbol_names(rows)):
        return rows
    return rows.filter(pc.is_in(rows["symbol"], pa.array(symbols, pa.string())))


def rebuild_window(
    reader: Reader,
    version: Version,
    symbol: str,
    bases: Iterable[str],
    window: tuple[int, int],
    builder: BarBuilder,
) -> None:
    """Feed the builder all ticks of a symbol in a window, a month at a time."""
    for rows in tick_chunks(reader, version, symbol, *window):
        builder.feed(rows, {symbol: bases})


def coarsest(timeframes: Iterable[str]) -> int:
    """Length in ns of the shortest window that holds whole bars of every timeframe."""
    return math.lcm(*(Timeframe.parse(text).ns for text in timeframes))
