"""A source's rows into the store: validated, merged, written with their bars, one commit."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import TickValidator, complete_ticks
from backtestr.errors import TooManyRejectedError
from backtestr.ingest.change import (
    Addition,
    Change,
    Touched,
    bytes_per_row,
    commit_change,
    complete_layouts,
    touch,
)
from backtestr.ingest.dedup import Merge
from backtestr.ingest.feeds import ExchangeIds, Feeds, LoadFeed
from backtestr.ingest.flush import flush
from backtestr.ingest.identity import Removed
from backtestr.ingest.members import MEMBER, Members
from backtestr.ingest.progress import Progress, shown
from backtestr.ingest.quarantine import Quarantine, write_quarantine
from backtestr.ingest.spool import Spool
from backtestr.models import IngestReport, ValidationRules
from backtestr.models.rules import split_counts
from backtestr.sources import OpenedSource, TickBatch, open_source
from backtestr.storage import Storage
from backtestr.storage.layout import intervals
from backtestr.storage.snapshot import Version
from backtestr.storage.ties import sort_by_names

_PREFETCHED = 2


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a source is taken in; see `backtestr.Store.ingest`. Instants are ns since 1970-01-01 UTC, end exclusive."""

    mode: str
    start: int | None
    end: int | None
    rules: ValidationRules | None
    max_rejected: float
    allow_mixed: bool
    dry_run: bool
    progress: bool | Progress | None


def load_source(storage: Storage, data: Any, how: LoadOptions, *, source: str | None, **options: Any) -> IngestReport:
    """Open data as `backtestr.sources.open_source` does, and load it.

    Raises:
        SourceError: the data is not of a known format, or ambiguous.
    """
    opened = open_source(data, source=source, **options)
    with storage.journal.writing, shown(how.progress) as progress:
        return load(storage, opened, dataclasses.replace(how, progress=progress))


def load(storage: Storage, source: OpenedSource, options: LoadOptions) -> IngestReport:
    """Take a source's rows in as one commit; on any error the store is as it was.

    Raises:
        SourceStructureError: the source's structure is broken.
        TooManyRejectedError: more rows were rejected than allowed.
        FeedConflictError: a symbol belongs to another feed.
        SequenceConflictError: a key arrived with other values.
    """
    began = time.perf_counter()
    base = flush(storage)
    spool = Spool(storage.layout.tmp, storage.settings.sort_memory_bytes)
    try:
        intake = _Intake(storage, base, source, options, spool)
        intake.read()
        return intake.commit(began)
    finally:
        spool.close()
        source.close()


class _Intake:
    """The state of one load."""

    def __init__(
        self, storage: Storage, base: Version, source: OpenedSource, options: LoadOptions, spool: Spool
    ) -> None:
        self._storage, self._base, self._spool = storage, base, spool
        self._source, self._options = source, options
        self._exchanges = ExchangeIds(base)
        self._feed = LoadFeed(Feeds.of(base), source)
        self._quarantine = Quarantine(source.name)
        self._reasons: Counter[str] = Counter()
        self._touched: dict[str, Touched] = {}
        self._gained: dict[str, Touched] = {}
        self._members, self._member, self._validated = Members(), 0, 0
        self._validator: TickValidator | None = None
        self._has_ties = False
        self._rows_in = self._rejected = 0

    def read(self) -> None:
        """Validate every batch and spool what is accepted."""
        rules = self._options.rules or ValidationRules()
        now = time.time_ns() if rules.now_ns is None else rules.now_ns
        rules = dataclasses.replace(rules, now_ns=now)
        with contextlib.closing(_prefetch(self._source.batches)) as batches:
            for batch in batches:
                self._take_in(batch, rules)
        if self._rejected > self._options.max_rejected * self._rows_in:
            raise TooManyRejectedError(
                f"{self._source.name}: {self._rejected} of {self._rows_in} rows were rejected "
                f"({_most(self._reasons)}); raise max_rejected= or change rules= if that is right. Nothing was loaded"
            )

    def _take_in(self, batch: TickBatch, rules: ValidationRules) -> None:
        member, first = self._members.place(batch)
        if self._validator is None or member != self._member:
            # A row is compared with those before it in its file only: files come in any order.
            self._validator, self._member, self._validated = TickValidator(rules=rules), member, 0
        self._has_ties = self._has_ties or "sequence" in batch.columns.schema.names
        rows = self._exchanges.replace_codes(batch.columns)
        accepted, rejected, counts = self._validator.validate(rows, first_sequence=first)
        self._rows_in += rows.num_rows
        self._reasons.update(counts)
        if rejected is not None:
            self._rejected += rejected.num_rows
            self._quarantine.add(rejected, batch.member, self._validated, batch.locate)
        self._validated += rows.num_rows
        days = touch(self._touched, accepted)
        if member and not self._feed.row_unique:
            accepted = accepted.append_column(MEMBER, pa.array(np.full(accepted.num_rows, member, np.int32)))
        self._spool.add(accepted, days)
        self._tell(self._rows_in, None, f"reading {batch.member}")

    def commit(self, began: float) -> IngestReport:
        """Merge with what is stored, write, commit and report."""
        self._feed.check(self._touched, allow_mixed=self._options.allow_mixed)
        merge = Merge(self._storage, self._base, self._feed.row_unique)
        replaced = self._take_out(merge.removed) if self._options.mode == "replace" else 0
        version, bytes_on_disk, files = self._base, 0, 0
        if self._options.dry_run:
            for addition in self._additions(merge):
                for _ in addition.chunks:
                    pass
        elif self._rows_in:
            change = Change(
                "ingest",
                self._touched,
                merge.removed,
                self._feed.new_rows(self._touched) | self._exchanges.new_rows(),
                write_quarantine(self._storage, self._quarantine.rows),
                self._note(),
                merge.check_repeats,
            )
            version, written = commit_change(self._storage, self._base, change, self._additions(merge))
            bytes_on_disk, files = written.bytes, written.files.num_rows
        gained = self._gained.values()
        seconds = time.perf_counter() - began
        reasons, flags = split_counts(self._reasons, self._options.rules)
        return IngestReport(
            source=self._source.described,
            feed=self._feed.name,
            rows_in=self._rows_in,
            accepted=self._rows_in - self._rejected - merge.duplicates,
            rejected=self._rejected,
            duplicate=merge.duplicates,
            replaced=replaced,
            reasons=reasons,
            flags=flags,
            skipped=dict(self._source.skipped),
            symbols=tuple(sorted(self._gained)),
            first=min((touched.low for touched in gained), default=None),
            last=max((touched.high for touched in gained), default=None),
            bytes_on_disk=bytes_on_disk,
            files=files,
            seconds=seconds,
            lsn=version.lsn,
            dry_run=self._options.dry_run,
        )

    def _additions(self, merge: Merge) -> Iterator[Addition]:
        """New rows by interval. What each symbol gains is known only when a chunk was merged, so it is noted here."""
        if not self._spool.rows:
            return
        per_row = self._bytes_per_row()
        day_bytes = self._storage.settings.day_interval_bytes

        def name(days: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> dict[int, str]:
            return intervals(days, counts, per_row, day_bytes)

        done = 0
        for interval, chunks, layouts in self._spool.by_interval(name):

            def merged(chunks: Iterator[pa.Table] = chunks, interval: str = interval) -> Iterator[pa.Table]:
                nonlocal done
                for chunk in chunks:
                    fresh = merge.filter(*self._ordered(chunk))
                    done += chunk.num_rows
                    self._tell(done, self._spool.rows, f"writing {interval}")
                    if fresh.num_rows:
                        touch(self._gained, fresh)
                        yield fresh

            yield Addition(interval, merged(), None if layouts is None else complete_layouts(layouts))

    def _ordered(self, chunk: pa.Table) -> tuple[pa.Table, npt.NDArray[np.int32] | None]:
        """Complete rows of a sorted chunk, and the member of each where the feed does not number its rows."""
        if not self._feed.row_unique and (self._has_ties or len(self._members) > 1):
            chunk = sort_by_names(chunk, {"exchange_id": self._exchanges.codes})
        members = chunk[MEMBER].to_numpy() if MEMBER in chunk.column_names else None
        return complete_ticks(chunk, self._feed.id), members

    def _tell(self, done: int, total: int | None, what: str) -> None:
        if callable(self._options.progress):
            self._options.progress(done, total, what)

    def _bytes_per_row(self) -> float:
        spool, feed_id = self._spool, self._feed.id
        return bytes_per_row(self._storage, spool.rows, lambda: complete_ticks(spool.sample(), feed_id))

    def _take_out(self, removed: Removed) -> int:
        """Everything that ``mode="replace"`` replaces; returns the rows taken out."""
        rows = 0
        for symbol, touched in list(self._touched.items()):
            low = touched.low if self._options.start is None else self._options.start
            high = touched.high + 1 if self._options.end is None else self._options.end
            located = self._storage.reader.located(self._base, symbol, low, high)
            mine = np.flatnonzero(located.rows["feed_id"].to_numpy() == self._feed.id)
            if len(mine):
                removed.add(located, mine)
                touch(self._touched, located.rows.take(pa.array(mine)), -1)
                rows += len(mine)
        return rows

    def _note(self) -> dict[str, object]:
        return {"source": self._source.described, "feed": self._feed.name, "rows_in": self._rows_in}


def _most(reasons: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in reasons.most_common(3))


def _prefetch(batches: Iterator[TickBatch]) -> Generator[TickBatch]:
    """Read ahead on a thread of its own: parsing overlaps with validation."""
    ready: queue.Queue[TickBatch | BaseException | None] = queue.Queue(_PREFETCHED)
    stopped = threading.Event()

    def put(item: TickBatch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:  # raised again where the batches are used
            put(error)

    thread = threading.Thread(target=read, name="backtestr-read", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
