"""A change of ticks → new files, bars in step with them, one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import tally_ticks
from backtestr.ingest.barfiles import split_bars, write_bars
from backtestr.ingest.bars import BarBuilder, coarsest, rebuild_window
from backtestr.ingest.encode import Encoder
from backtestr.ingest.identity import Removed
from backtestr.models import BarSpec
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.encode import ColumnLayout, ColumnLayouts, measure_bytes
from backtestr.storage.layout import BARS, DAY_NS, TICKS
from backtestr.storage.snapshot import KINDS, Version, price_bases
from backtestr.storage.write import Written

_MOST_BYTES_PER_ROW = 64.0
"""More Parquet bytes than a row of ticks takes in practice: a commit that is small even so is not measured."""


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


@dataclass(frozen=True, slots=True)
class Addition:
    """Complete rows of one interval, in chunks sorted as ticks are.

    Attributes:
        interval: the interval's label.
        chunks: the rows.
        columns: the layout that fits them all; None where there is one chunk.
    """

    interval: str
    chunks: Iterator[pa.Table]
    columns: ColumnLayouts | None = None


@dataclass(slots=True)
class Change:
    """What a commit of ticks does.

    Attributes:
        kind: the verb, for the history.
        touched: every symbol that gains or loses rows.
        removed: existing rows to take out.
        rows: rows of small tables to commit along.
        extra: files already written to commit along, of other tables.
        note: facts for the history.
        check: looks at the new tick files alone before the commit, and raises to stop it.
        spec: the bar specification from now on; None leaves the one in force.
        settles: live rows of records up to this LSN are among those that come.
    """

    kind: str
    touched: dict[str, Touched]
    removed: Removed
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    extra: Sequence[Written] = ()
    note: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Version], None] | None = None
    spec: BarSpec | None = None
    settles: int = 0


def commit_change(
    storage: Storage, base: Version, change: Change, additions: Iterable[Addition]
) -> tuple[Version, Written]:
    """Write the files of a change, rebuild the bars it touches, and commit all of it as one record.

    Args:
        storage: the open store, its writer's lock held.
        base: the version the change was computed against.
        change: what goes and what is known of what comes.
        additions: the rows that come.

    Returns:
        The version after the commit and the files written.
    """
    commit, written = write_change(storage, base, change, additions)
    return base if commit is None else storage.journal.commit(commit), written


def write_change(
    storage: Storage, base: Version, change: Change, additions: Iterable[Addition]
) -> tuple[Commit | None, Written]:
    """Write the files of a change as `commit_change` does; returns the commit to make, None where nothing changes."""
    step = coarsest(base.timeframes)
    bases = {symbol: bases_after(base, symbol, touch) for symbol, touch in change.touched.items()}
    stale = _stale_windows(base, change.touched, step)
    fresh = {symbol: names for symbol, names in bases.items() if symbol not in stale}
    builder = BarBuilder(base.timeframes, change.spec or base.bar_spec)
    with Encoder(storage) as encoder:
        for addition in additions:
            is_one = addition.columns is None
            for chunk in addition.chunks:
                encoder.add(TICKS, addition.interval, chunk, addition.columns)
                if is_one:
                    encoder.end(TICKS, addition.interval)
                builder.feed(chunk, fresh, is_whole=is_one)
            encoder.end(TICKS, addition.interval)
            # Intervals are whole days, and a month goes on behind a day of its own: no bar may wait for the next one.
            builder.close()
            if not stale:
                _encode_bars(storage, encoder, builder)
        _rewrite_ticks(storage, base, change.removed, encoder)
        ticks = encoder.written()
        gone = tuple(change.removed.rows)
        if change.check is not None:
            change.check(Version().apply(0, 0, Commit("", ticks.files, ticks.index)))
        if not ticks.files.num_rows and not gone and change.spec is None:
            stale = {}
            if not change.extra and not change.rows:
                return None, ticks
        interim = base.apply(base.lsn, base.time_ns, Commit("", ticks.files, ticks.index, gone))
        for symbol, window in stale.items():
            rebuild_window(storage.reader, interim, symbol, bases[symbol], window, builder)
        replaced = write_bars(storage, base, builder.finish(), stale, encoder)
        joined = Written.join([encoder.written(), *change.extra])
    commit = Commit(
        kind=change.kind,
        added=joined.files,
        index=joined.index,
        removed=(*gone, *replaced),
        rows=change.rows,
        settles=change.settles,
        note=change.note,
    )
    return commit, joined


def bases_after(base: Version, symbol: str, touch: Touched) -> tuple[str, ...]:
    """The bases whose bars are materialised after a change."""
    known = base.symbols.get(symbol, {})
    return price_bases([int(count) + known.get(kind, 0) for count, kind in zip(touch.counts, KINDS, strict=True)])


def _stale_windows(base: Version, touched: Mapping[str, Touched], step: int) -> dict[str, tuple[int, int]]:
    """The whole coarsest buckets that a change touches, for symbols with rows there; all time if the basis changes.

    Bars longer than a day reach over intervals, so those of every symbol are made from what is stored.
    """
    windows = {}
    for symbol, touch in touched.items():
        known = base.symbols.get(symbol)
        if known is None and step <= DAY_NS:
            continue
        window = touch.low // step * step, (touch.high // step + 1) * step
        if known is not None and bases_after(base, symbol, touch) != price_bases([known[kind] for kind in KINDS]):
            window = (
                min(window[0], known["min_ns"] // step * step),
                max(window[1], (known["max_ns"] // step + 1) * step),
            )
        if step > DAY_NS or base.listing.spans(symbol, *window):
            windows[symbol] = window
    return windows


def _encode_bars(storage: Storage, encoder: Encoder, builder: BarBuilder) -> None:
    for interval, bars in split_bars(storage, builder.finish()):
        encoder.add(BARS, interval, bars)
        encoder.end(BARS, interval)


def _rewrite_ticks(storage: Storage, base: Version, removed: Removed, encoder: Encoder) -> None:
    """Files that lose rows, written anew without them."""
    for file_id in removed.rows:
        file = base.file_by_id[file_id]
        gone = removed.of(file_id)
        if len(gone) == file.rows:
            continue
        columns = storage.reader.columns(file)
        for first, rows in storage.reader.file_parts(file):
            keep = np.ones(rows.num_rows, dtype=bool)
            keep[gone[(gone >= first) & (gone < first + rows.num_rows)] - first] = False
            encoder.add(TICKS, file_id, rows.filter(pa.array(keep)), columns, interval=file.interval)
        encoder.end(TICKS, file_id)


def bytes_per_row(storage: Storage, rows: int, sample: Callable[[], pa.Table]) -> float:
    """Parquet bytes that a row of so many complete ticks takes; where they are few, the most it takes in practice."""
    settings = storage.settings
    if rows * _MOST_BYTES_PER_ROW < settings.day_interval_bytes:
        return _MOST_BYTES_PER_ROW
    taken = sample()
    return float(measure_bytes(taken, zstd_level=settings.zstd_level) / taken.num_rows)


def complete_layouts(known: Mapping[str, ColumnLayout]) -> ColumnLayouts:
    """The layouts of `complete` rows, from those of the rows' own columns; of those added only the feed is not 0."""
    wanted = [column for column in TICK_SCHEMA if column.name in known or not column.nullable]
    return [known.get(column.name, (column.name == "feed_id", False, 0, 0)) for column in wanted]
