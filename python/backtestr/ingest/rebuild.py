"""Bars made anew from the ticks that are there, where their files are lost or wrong."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow.compute as pc

from backtestr.ingest.barfiles import write_bars
from backtestr.ingest.bars import BarBuilder, coarsest, rebuild_window
from backtestr.ingest.encode import Encoder
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.snapshot import KINDS, Version, price_bases


def rebuild_bars(storage: Storage, base: Version, file_ids: Collection[str], symbols: Collection[str]) -> Version:
    """Make the bars of some files, which are not read, and all bars of some symbols anew, as one commit.

    Args:
        storage: the open store, its writer's lock held.
        base: the newest version.
        file_ids: files of bars to replace.
        symbols: those whose bars are made anew from their first tick or bar to their last.
    """
    lacking = base.apply(base.lsn, base.time_ns, Commit("", removed=tuple(file_ids)))
    windows = _windows(base, set(file_ids), set(symbols))
    builder = BarBuilder(base.timeframes, base.bar_spec)
    for symbol, window in windows.items():
        counts = base.symbols.get(symbol)
        if counts is not None:
            bases = price_bases([counts[kind] for kind in KINDS])
            rebuild_window(storage.reader, lacking, symbol, bases, window, builder)
    with Encoder(storage) as encoder:
        replaced = write_bars(storage, lacking, builder.finish(), windows, encoder)
        written = encoder.written()
    removed = (*sorted(file_ids), *replaced)
    note = {"symbols": sorted(windows)}
    return storage.journal.commit(Commit("repair", written.files, written.index, removed, note=note))


def _windows(base: Version, file_ids: set[str], symbols: set[str]) -> dict[str, tuple[int, int]]:
    """The whole coarsest buckets to make anew, by symbol."""
    step = coarsest(base.timeframes)
    windows: dict[str, tuple[int, int]] = {}
    index = base.listing.rows(["file_id", "symbol", "min_ns", "max_ns", "timeframe"])
    is_bar = pc.is_valid(index["timeframe"])
    rows = zip(*(column.to_pylist() for column in index.columns[:-1]), is_bar.to_pylist(), strict=True)
    for file_id, symbol, low, high, of_bars in rows:
        if symbol in symbols or (of_bars and file_id in file_ids):
            first, last = windows.get(symbol, (low, high))
            windows[symbol] = min(first, low // step * step), max(last, (high // step + 1) * step)
    return windows
