"""Bars to files by interval, with what stays of the files whose bars are rebuilt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.ingest.encode import Encoder
from backtestr.ingest.spool import split_intervals
from backtestr.models import Timeframe
from backtestr.storage import Storage
from backtestr.storage.keys import symbol_codes, times_ns
from backtestr.storage.layout import BARS
from backtestr.storage.snapshot import Version

_BAR_BYTES = 12.0
"""A bar's usual size on disk, to judge whether a day's bars stand alone."""

Windows = Mapping[str, tuple[int, int]]
"""By symbol, the instants [start, end) ns whose bars are rebuilt."""


def split_bars(storage: Storage, bars: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Bars by interval, each sorted as files are."""
    for interval, rows in split_intervals(bars, _BAR_BYTES, storage.settings.day_interval_bytes):
        yield interval, sort_bars(rows)


def write_bars(storage: Storage, base: Version, bars: pa.Table, stale: Windows, encoder: Encoder) -> list[str]:
    """Write bars and what stays of the files that hold stale ones; returns the ids of those files."""
    parts: dict[str, list[pa.Table]] = {}
    replaced = []
    for file_id, symbols in _stale_files(base, stale).items():
        file = base.file_by_id[file_id]
        replaced.append(file_id)
        for _, rows in storage.reader.file_parts(file):
            kept = rows.filter(pa.array(~_within(rows, symbols, stale)))
            parts.setdefault(file.interval, []).append(kept)
    for interval, rows in split_bars(storage, bars):
        parts.setdefault(interval, []).append(rows)
    for interval, tables in parts.items():
        rows = sort_bars(pa.concat_tables(tables))
        if rows.num_rows:
            encoder.add(BARS, interval, rows)
            encoder.end(BARS, interval)
    return replaced


def _stale_files(base: Version, stale: Windows) -> dict[str, list[str]]:
    names = ("file_id", "symbol", "min_ns", "max_ns")
    index = base.listing.of_symbols(list(stale), [*names, "timeframe"])
    index = index.filter(pc.is_valid(index["timeframe"]))
    files: dict[str, set[str]] = {}
    columns = (index[name].to_pylist() for name in names)
    for file_id, symbol, low, high in zip(*columns, strict=True):
        if high >= stale[symbol][0] and low < stale[symbol][1]:
            files.setdefault(file_id, set()).add(symbol)
    return {file_id: sorted(symbols) for file_id, symbols in files.items()}


def _within(rows: pa.Table, symbols: list[str], stale: Windows) -> npt.NDArray[np.bool_]:
    rows = rows.unify_dictionaries()
    names = rows["symbol"].chunk(0).dictionary.to_pylist()
    empty = (0, 0)
    lows = np.array([stale[name][0] if name in symbols else empty[0] for name in names], np.int64)
    highs = np.array([stale[name][1] if name in symbols else empty[1] for name in names], np.int64)
    codes = symbol_codes(rows)
    times = times_ns(rows)
    return (times >= lows[codes]) & (times < highs[codes])


def sort_bars(bars: pa.Table) -> pa.Table:
    """Bars by timeframe (finest first), symbol, price basis and time."""
    bars = bars.unify_dictionaries().combine_chunks()
    if bars.num_rows == 0:
        return bars
    keys = [times_ns(bars)]
    for name in ("price_basis", "symbol", "timeframe"):
        column = bars[name].chunk(0)
        values = column.dictionary.to_pylist()
        ranks = np.zeros(len(values), np.int64)
        ranks[sorted(range(len(values)), key=lambda code: _rank(name, values[code]))] = np.arange(len(values))
        keys.append(ranks[column.indices.to_numpy()])
    order = np.lexsort(keys)
    return bars if np.array_equal(order, np.arange(len(order))) else bars.take(pa.array(order))


def _rank(column: str, value: str) -> tuple[int, bytes]:
    return (Timeframe.parse(value).ns, b"") if column == "timeframe" else (0, value.encode())
