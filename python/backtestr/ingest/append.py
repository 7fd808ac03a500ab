"""Small batches of ticks into the log: durable when acknowledged, visible at once, in files later."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtestr._native import TickValidator, index_runs, sort_ticks
from backtestr.errors import ArgumentError
from backtestr.ingest.dedup import Merge, keys_ascend
from backtestr.ingest.feeds import ExchangeIds, Feeds, LoadFeed
from backtestr.ingest.flush import Flusher
from backtestr.ingest.quarantine import Quarantine
from backtestr.ingest.tables import TableRows
from backtestr.models import AppendReport, TableReport, ValidationRules
from backtestr.models.rules import split_counts
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.sources import OpenedSource, is_frame, open_source
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.keys import symbol_names
from backtestr.storage.layout import QUARANTINE, TICKS
from backtestr.storage.live import joined
from backtestr.storage.snapshot import Version

_LOWEST = np.iinfo(np.int64).min
_NO_TICKS = TICK_SCHEMA.empty_table()


class Appender:
    """Appends to a store, from many threads; keeps what the next append needs of those before."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._flusher = Flusher(storage)
        self._feeds: tuple[pa.Table, pa.Table, Feeds] | None = None
        self._judges: dict[str, _Judge] = {}
        self._sequences = _Sequences(Version())

    def append(
        self, data: Any, *, rules: ValidationRules | None, batch_id: str | None, allow_mixed: bool, **options: Any
    ) -> AppendReport:
        """Take rows in; see `backtestr.Store.append`."""
        if not is_frame(data):
            raise ArgumentError(f"append: give Arrow data or columns by name, not {type(data).__name__}; see ingest()")
        opened = open_source(data, source="arrow", **options)
        journal = self._storage.journal
        self._flusher.make_room()
        with journal.admission:
            journal.begin()
            report = self._admit(opened, rules or ValidationRules(), batch_id, allow_mixed=allow_mixed)
        self._wait(report.lsn)
        return report

    def append_table(self, data: Any, *, table: str, batch_id: str | None) -> TableReport:
        """Take rows of a relational table in; see `backtestr.Store.append`."""
        rows = TableRows(data, table)
        journal = self._storage.journal
        self._flusher.make_room()
        # most of the work is done before it is this one's turn
        rows.fit(journal.version)
        with journal.admission:
            journal.begin()
            report = rows.submit(self._storage, batch_id)
        self._wait(report.lsn)
        return report

    def _wait(self, lsn: int) -> None:
        self._storage.journal.wait(lsn)
        if live := self._storage.journal.ahead.live:
            self._flusher.appended(live.rows)

    def close(self) -> None:
        """Flush in the background no more."""
        self._flusher.close()

    def _admit(
        self, source: OpenedSource, rules: ValidationRules, batch_id: str | None, *, allow_mixed: bool
    ) -> AppendReport:
        """Judge rows against all that was submitted, and submit those that stay."""
        version = self._storage.journal.ahead
        if self._sequences.listing is not version.listing:
            self._sequences = _Sequences(version)
        feed = LoadFeed(self._feeds_of(version), source)
        batch = None if batch_id is None else (feed.id, batch_id)
        known = None if batch is None else version.batches.lsn_of(batch)
        if known is not None:
            count = sum(part.columns.num_rows for part in source.batches)
            return AppendReport(feed=feed.name, rows_in=count, accepted=0, duplicate=count, lsn=known)
        # where this append is refused, the next one begins anew
        judge = self._judges.pop(feed.name, None)
        if judge is None or judge.rules != rules:
            judge = _Judge(rules, TickValidator(rules=rules))
        exchanges = ExchangeIds(version)
        first = 0 if source.row_unique_sequence else self._sequences.next_of(feed.id)
        taken = judge.judge(source, feed.id, exchanges, first)
        symbols = symbol_names(taken.rows) if taken.rows.num_rows else []
        feed.check(symbols, allow_mixed=allow_mixed)
        fresh, duplicate = self._fresh(taken.rows, version) if feed.row_unique else (taken.rows, 0)
        rejected = taken.quarantine.rows
        live = {} if fresh.num_rows == 0 else {TICKS: fresh}
        live |= {} if rejected is None else {QUARANTINE: rejected}
        lsn = version.lsn
        if live or batch is not None:
            new = feed.new_rows(symbols) | exchanges.new_rows()
            note = {"feed": feed.name, "rows_in": taken.rows_in}
            lsn = self._storage.journal.submit(Commit("append", rows=new, live=live, batch=batch, note=note))
        self._sequences.note(feed.id, fresh, row_unique=feed.row_unique)
        self._judges[feed.name] = judge
        reasons, flags = split_counts(taken.reasons, rules)
        return AppendReport(
            feed=feed.name,
            rows_in=taken.rows_in,
            accepted=fresh.num_rows,
            rejected=0 if rejected is None else rejected.num_rows,
            duplicate=duplicate,
            reasons=reasons,
            flags=flags,
            lsn=lsn,
        )

    def _feeds_of(self, version: Version) -> Feeds:
        """The feeds of a version, made anew only where its tables are others: they have a row for every symbol."""
        feeds, owners = version.tables["feeds"], version.tables["symbol_feeds"]
        if self._feeds is None or self._feeds[0] is not feeds or self._feeds[1] is not owners:
            self._feeds = feeds, owners, Feeds.of(version)
        return self._feeds[2]

    def _fresh(self, rows: pa.Table, version: Version) -> tuple[pa.Table, int]:
        """Of rows whose sequence names them those that are new, and how many are not.

        Raises:
            SequenceConflictError: a key that exists has other values.
        """
        rows = sort_ticks(rows)
        if keys_ascend(rows) and self._sequences.are_behind(rows):
            return rows, 0
        merge = Merge(self._storage, version, row_unique=True)
        return merge.filter(rows), merge.duplicates


@dataclass(slots=True)
class _Taken:
    """Rows of one append."""

    rows: pa.Table
    quarantine: Quarantine
    reasons: Counter[str] = field(default_factory=Counter)
    rows_in: int = 0


@dataclass(slots=True)
class _Judge:
    """Judges a feed's rows, each also by those before it."""

    rules: ValidationRules
    validator: TickValidator
    rows: int = 0

    def judge(self, source: OpenedSource, feed_id: int, exchanges: ExchangeIds, first: int) -> _Taken:
        """Validate all rows; where the vendor does not number them they are numbered from ``first`` on."""
        taken = _Taken(_NO_TICKS, Quarantine(source.name))
        parts = []
        with contextlib.closing(source):
            for batch in source.batches:
                rows = exchanges.replace_codes(batch.columns)
                accepted, rejected, counts = self.validator.validate(
                    rows, first_sequence=first + taken.rows_in, feed_id=feed_id
                )
                if rejected is not None:
                    taken.quarantine.add(rejected, batch.member, self.rows, batch.locate)
                taken.reasons.update(counts)
                taken.rows_in += rows.num_rows
                self.rows += rows.num_rows
                parts.append(accepted)
        if parts:
            taken.rows = parts[0] if len(parts) == 1 else joined(parts)
        return taken


class _Sequences:
    """The highest sequences there are: of each feed, and of each symbol that was asked for."""

    def __init__(self, version: Version) -> None:
        self.listing = version.listing
        self._version = version
        self._of_feed: dict[int, int] = {}
        live = version.live.table(TICKS) or _NO_TICKS
        names = live["symbol"].cast(pa.string())
        live = pa.table({"symbol": names, "feed_id": live["feed_id"], "sequence": live["sequence"]})
        self._live_feed, self._of_symbol = (_highest(live, name) for name in ("feed_id", "symbol"))
        self._known: set[str] = set()

    def next_of(self, feed_id: int) -> int:
        """The ordinal of a feed's next row."""
        if feed_id not in self._of_feed:
            owned = self._version.tables["symbol_feeds"]
            mine = owned.filter(pc.equal(owned["feed_id"], feed_id))["symbol"]
            index = self.listing.of_symbols(mine.to_pylist(), ["timeframe", "max_sequence"])
            stored = pc.max(index["max_sequence"].filter(pc.is_null(index["timeframe"]))).as_py()
            self._of_feed[feed_id] = max(-1 if stored is None else stored, self._live_feed.get(feed_id, -1))
        return self._of_feed[feed_id] + 1

    def are_behind(self, rows: pa.Table) -> bool:
        """Whether all sequences of sorted rows are higher than those of their symbols before."""
        names, runs = _runs(rows)
        return all(low > self._of(name) for name, low in zip(names, runs["min_sequence"].to_pylist(), strict=True))

    def note(self, feed_id: int, rows: pa.Table, *, row_unique: bool) -> None:
        """Rows of a feed were submitted; they are sorted where its sequence names them."""
        if rows.num_rows == 0:
            return
        if feed_id in self._of_feed:
            # ordinals ascend
            last = pc.max(rows["sequence"]).as_py() if row_unique else rows["sequence"][-1].as_py()
            self._of_feed[feed_id] = max(self._of_feed[feed_id], last)
        if row_unique:
            names, runs = _runs(rows)
            for symbol, highest in zip(names, runs["max_sequence"].to_pylist(), strict=True):
                self._of_symbol[symbol] = max(self._of_symbol.get(symbol, highest), highest)

    def _of(self, symbol: str) -> int:
        if symbol not in self._known:
            stored = [span.max_sequence for span in self.listing.spans(symbol)]
            self._of_symbol[symbol] = max([*stored, self._of_symbol.get(symbol, _LOWEST)])
            self._known.add(symbol)
        return self._of_symbol[symbol]


def _runs(rows: pa.Table) -> tuple[list[str], pa.Table]:
    """The symbols of sorted rows, and the range of the sequences of each."""
    runs = index_runs(rows, ["symbol"])
    return rows["symbol"].take(runs["first_row"]).cast(pa.string()).to_pylist(), runs


def _highest(rows: pa.Table, key: str) -> dict[Any, int]:
    """The highest sequence of each value in a column."""
    found = rows.group_by(key).aggregate([("sequence", "max")])
    return dict(zip(found[key].to_pylist(), found["sequence_max"].to_pylist(), strict=True))
