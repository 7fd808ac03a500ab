"""A change of ticks → new files, bars in step with them, one commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr._native import tally_ticks
from backtestr.ingest.bars import BarBuilder, coarsest, rebuild_window
from backtestr.ingest.dedup import Removed
from backtestr.models import Timeframe
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.layout import BARS, DAY_NS, TICKS, intervals
from backtestr.storage.snapshot import Version
from backtestr.storage.write import Written, write_file

MAX_FILE_ROWS = 8_000_000
_ENCODERS = 2
KINDS = ("trades", "bids", "asks", "composites")


@dataclass(slots=True)
class Touched:
    """What a change does to one symbol: the instants between which rows come or go, and rows by tick type."""

    low: int
    high: int
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, np.int64))

    def widen(self, low: int, high: int, counts: npt.NDArray[np.int64]) -> None:
        """Take more rows into account."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.counts = self.counts + counts


def touch(touched: dict[str, Touched], rows: pa.Table, sign: int = 1) -> list[tuple[int, int]]:
    """Note rows that come (or go, with ``sign=-1``); returns how many there are of each day."""
    symbols, days = tally_ticks(rows)
    for symbol, low, high, kinds in symbols:
        touched.setdefault(symbol, Touched(low, high)).widen(low, high, sign * np.array(kinds))
    return days


@dataclass(slots=True)
class Change:
    """What a commit of ticks does.

    Attributes:
        kind: the verb, for the history.
        touched: every symbol that gains or loses rows.
        removed: existing rows to take out.
        rows: rows of small tables to commit along.
        extra: files already written to commit along (quarantine).
        note: facts for the history.
    """

    kind: str
    touched: dict[str, Touched]
    removed: Removed
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    extra: Written | None = None
    note: Mapping[str, Any] = field(default_factory=dict)


def commit_change(
    storage: Storage, base: Version, change: Change, additions: Iterable[tuple[str, Iterator[pa.Table]]]
) -> tuple[Version, Written]:
    """Write the files of a change, rebuild the bars it touches, and commit all of it as one record.

    Args:
        storage: the open store, its writer's lock held.
        base: the version the change was computed against.
        change: what goes and what is known of what comes.
        additions: complete rows by interval, each interval's chunks sorted as ticks are.

    Returns:
        The version after the commit and the files written.
    """
    step = coarsest(storage.settings.materialized_timeframes)
    stale = _stale_windows(base, change.touched, step)
    builder = BarBuilder(storage.settings.materialized_timeframes, base.bar_spec)
    bases = {symbol: price_bases(base, symbol, touch) for symbol, touch in change.touched.items()}
    fresh = {symbol: names for symbol, names in bases.items() if symbol not in stale}
    written = [*_write_ticks(storage, additions, builder, fresh)]
    written.extend(_rewrite_ticks(storage, base, change.removed))
    joined = Written.join(written)
    if not joined.files.num_rows and not change.removed.rows:
        stale = {}
        if change.extra is None and not change.rows:
            return base, joined
    interim = base.apply(base.lsn, base.time_ns, Commit("", joined.files, joined.index, tuple(change.removed.rows)))
    for symbol, window in stale.items():
        rebuild_window(storage.reader, interim, symbol, bases[symbol], window, builder)
    bars, replaced = _write_bars(storage, base, builder.finish(), stale)
    joined = Written.join([*written, *bars, *([change.extra] if change.extra else [])])
    commit = Commit(
        kind=change.kind,
        added=joined.files,
        index=joined.index,
        removed=(*change.removed.rows, *replaced),
        rows=change.rows,
        note=change.note,
    )
    return storage.journal.commit(commit), joined


def price_bases(base: Version, symbol: str, touch: Touched) -> tuple[str, ...]:
    """The bases whose bars are materialised after a change (design decision 10)."""
    counts = touch.counts + np.array([base.symbols.get(symbol, {}).get(kind, 0) for kind in KINDS])
    trades, bids, asks, composites = counts.tolist()
    if trades:
        return ("trade",)
    if composites:
        return ("mid",)
    return tuple(name for name, count in (("bid", bids), ("ask", asks)) if count)


def _stale_windows(base: Version, touched: Mapping[str, Touched], step: int) -> dict[str, tuple[int, int]]:
    """The whole coarsest buckets that a change touches, for symbols with rows there; all time if the basis changes."""
    windows = {}
    for symbol, touch in touched.items():
        known = base.symbols.get(symbol)
        if known is None:
            continue
        window = touch.low // step * step, (touch.high // step + 1) * step
        if price_bases(base, symbol, touch) != base.bases.get(symbol, ()):
            window = (
                min(window[0], known["min_ns"] // step * step),
                max(window[1], (known["max_ns"] // step + 1) * step),
            )
        if base.spans(symbol, *window):
            windows[symbol] = window
    return windows


def _write_ticks(
    storage: Storage,
    additions: Iterable[tuple[str, Iterator[pa.Table]]],
    builder: BarBuilder,
    fresh: Mapping[str, tuple[str, ...]],
) -> Iterator[Written]:
    """Tick files of the additions, encoded on threads of their own while the next rows are merged."""
    waiting: deque[Future[Written]] = deque()
    with ThreadPoolExecutor(_ENCODERS, "backtestr-write") as pool:
        for interval, rows in _file_parts(additions, builder, fresh):
            if len(waiting) == _ENCODERS:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_write, storage, TICKS, interval, rows))
        while waiting:
            yield waiting.popleft().result()


def _file_parts(
    additions: Iterable[tuple[str, Iterator[pa.Table]]],
    builder: BarBuilder,
    fresh: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[str, list[pa.Table]]]:
    """Rows of one file each, their bars built on the way."""
    for interval, chunks in additions:
        parts: list[pa.Table] = []
        rows = 0
        for chunk in chunks:
            builder.feed(chunk, fresh)
            parts.append(chunk)
            rows += chunk.num_rows
            if rows >= MAX_FILE_ROWS:
                yield interval, parts
                parts, rows = [], 0
        if rows:
            yield interval, parts


def _write(storage: Storage, table: str, interval: str, parts: list[pa.Table]) -> Written:
    rows = pa.concat_tables(parts)
    return write_file(storage.layout, table, interval, rows, zstd_level=storage.settings.zstd_level)


def _rewrite_ticks(storage: Storage, base: Version, removed: Removed) -> Iterator[Written]:
    """Files that lose rows, written anew without them."""
    for file_id in removed.rows:
        file = base.file_by_id[file_id]
        rows = storage.reader.file(file)
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[removed.of(file_id)] = False
        if keep.any():
            yield _write(storage, TICKS, file.interval, [rows.filter(pa.array(keep))])


def _write_bars(
    storage: Storage, base: Version, bars: pa.Table, stale: Mapping[str, tuple[int, int]]
) -> tuple[list[Written], list[str]]:
    """Bar files by interval, with what stays of the files that hold stale bars; and the ids of those files."""
    parts: dict[str, list[pa.Table]] = {}
    replaced = []
    for file_id, symbols in _stale_files(base, stale).items():
        file = base.file_by_id[file_id]
        rows = storage.reader.file(file)
        replaced.append(file_id)
        parts.setdefault(file.interval, []).append(rows.filter(pa.array(~_within(rows, symbols, stale))))
    if bars.num_rows:
        days = np.concatenate([c.cast(pa.int64()).to_numpy() for c in bars["timestamp_utc"].chunks]) // DAY_NS
        unique, inverse, counts = np.unique(days, return_inverse=True, return_counts=True)
        labels = intervals(unique, counts, BAR_BYTES, storage.settings.day_interval_bytes)
        for interval in sorted(set(labels.values())):
            mine = np.array([labels[day] == interval for day in unique.tolist()])[inverse]
            parts.setdefault(interval, []).append(bars.filter(pa.array(mine)))
    written = []
    for interval, tables in parts.items():
        rows = sort_bars(pa.concat_tables(tables))
        if rows.num_rows:
            written.append(_write(storage, BARS, interval, [rows]))
    return written, replaced


BAR_BYTES = 12.0
"""A bar's usual size on disk, to judge whether a day's bars stand alone."""


def _stale_files(base: Version, stale: Mapping[str, tuple[int, int]]) -> dict[str, list[str]]:
    index = base.index.filter(pc.is_valid(base.index["timeframe"]))
    index = index.filter(pc.is_in(index["symbol"], pa.array(list(stale), pa.string())))
    files: dict[str, set[str]] = {}
    columns = (index[name].to_pylist() for name in ("file_id", "symbol", "min_ns", "max_ns"))
    for file_id, symbol, low, high in zip(*columns, strict=True):
        if high >= stale[symbol][0] and low < stale[symbol][1]:
            files.setdefault(file_id, set()).add(symbol)
    return {file_id: sorted(symbols) for file_id, symbols in files.items()}


def _within(rows: pa.Table, symbols: list[str], stale: Mapping[str, tuple[int, int]]) -> npt.NDArray[np.bool_]:
    rows = rows.unify_dictionaries()
    names = rows["symbol"].chunk(0).dictionary.to_pylist()
    empty = (0, 0)
    lows = np.array([stale[name][0] if name in symbols else empty[0] for name in names], np.int64)
    highs = np.array([stale[name][1] if name in symbols else empty[1] for name in names], np.int64)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in rows["symbol"].chunks])
    times = np.concatenate([chunk.cast(pa.int64()).to_numpy() for chunk in rows["timestamp_utc"].chunks])
    return (times >= lows[codes]) & (times < highs[codes])  # type: ignore[no-any-return]


def sort_bars(bars: pa.Table) -> pa.Table:
    """Bars by timeframe (finest first), symbol, price basis and time."""
    bars = bars.unify_dictionaries().combine_chunks()
    if bars.num_rows == 0:
        return bars
    keys = [bars["timestamp_utc"].chunk(0).cast(pa.int64()).to_numpy()]
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


def complete(rows: pa.Table, feed_id: int | None = None) -> pa.Table:
    """Validated rows with all canonical columns, in order; of one feed where it is given."""
    columns = []
    for field_ in TICK_SCHEMA:
        if field_.name == "feed_id" and feed_id is not None:
            columns.append(pa.chunked_array([pa.array(np.full(rows.num_rows, feed_id, np.uint16))]))
        elif field_.name in rows.column_names:
            columns.append(rows[field_.name])
        elif field_.nullable:
            columns.append(pa.chunked_array([pa.nulls(rows.num_rows, field_.type)]))
        else:
            columns.append(pa.chunked_array([pa.array(np.zeros(rows.num_rows, np.int64), field_.type)]))
    return pa.Table.from_arrays(columns, schema=TICK_SCHEMA)
