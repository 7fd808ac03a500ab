"""A store: ticks, bars and what backtests make of them, in one folder."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any, overload

from backtestr.errors import ArgumentError
from backtestr.ingest.append import Appender
from backtestr.ingest.load import LoadOptions, load_source
from backtestr.ingest.progress import Progress
from backtestr.ingest.revise import cancel_rows, correct_rows, delete_rows, set_bar_spec
from backtestr.instants import Instant, range_ns
from backtestr.models import AppendReport, BarSpec, IngestReport, ReviseReport, TableReport, ValidationRules
from backtestr.persist.history import revert_to, tag_version, untag_version
from backtestr.persist.upgrade import Migrations
from backtestr.upkeep import Upkeep


class Store(Upkeep):
    """An open store. Get one from `backtestr.open`; close it, or use it in a ``with`` block.

    Reading is safe from many threads. The first write takes the writer's lock, which is held until `close`.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, **settings: Any) -> None:
        super().__init__(path, read_only=read_only, **settings)
        self._appender: Appender | None = None

    @overload
    def append(self, rows: Any, *, table: str, batch_id: str | None = None) -> TableReport: ...

    @overload
    def append(
        self,
        rows: Any,
        *,
        table: None = None,
        symbol: str | None = None,
        feed: str | None = None,
        batch_id: str | None = None,
        rules: ValidationRules | None = None,
        allow_mixed: bool = False,
        **options: Any,
    ) -> AppendReport: ...

    def append(
        self,
        rows: Any,
        *,
        table: str | None = None,
        symbol: str | None = None,
        feed: str | None = None,
        batch_id: str | None = None,
        rules: ValidationRules | None = None,
        allow_mixed: bool = False,
        **options: Any,
    ) -> AppendReport | TableReport:
        """Add a small batch of ticks, such as a live feed's: durable in the log when this returns, visible at once.

        Threads that append at the same time share one sync of the disk. The rows are written to files later: when there
        are ``flush_rows`` of them, after ``flush_seconds``, or before any other verb that changes the store.

        With ``table=`` the rows are those of a relational table (``orders``, ``fills``, ``positions``, ``backtests``,
        ``backtest_metrics``, ``daily_performance``): each takes the place of the row with its key. Columns that are
        left out get their default, values are converted exactly or refused, and nothing is added where one is refused.

        Args:
            rows: Arrow data of any library, or columns by name; for a table also a list of rows as dicts.
            table: a relational table; None for ticks. It takes ``batch_id`` and none of the rest.
            symbol: the rows' symbol where no column holds it, or the name to store them under.
            feed: identity for deduplication; a symbol that has rows needs it. Where the rows have a ``sequence`` it
                names them, and those that are there already are counted as duplicates.
            batch_id: names the batch within its feed, so that sending it again adds nothing.
            rules: which reasons reject a row, into quarantine, and which only count.
            allow_mixed: let a symbol have rows of several feeds.
            **options: ``columns=`` and ``timezone=``, as for `ingest` of such data.

        Returns:
            Rows in = accepted + rejected + duplicate; for a table, rows in and rows stored.

        Raises:
            SourceStructureError: a column is missing; nothing was added.
            ArgumentError: rows that a table does not take; nothing was added.
            FeedConflictError: a symbol belongs to another feed.
            SequenceConflictError: a key that is stored arrived with other values.
            StoreLockedError: another process writes.

        Example:
            >>> import backtestr as bt, tempfile
            >>> ticks = {"timestamp_utc": ["2024-01-02T14:30:00"], "price": ["1.5"], "volume": ["2"]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     first = store.append(ticks, symbol="A", feed="live", batch_id="1")
            ...     again = store.append(ticks, symbol="A", feed="live", batch_id="1")
            ...     first.accepted, again.duplicate, len(store.ticks("A").to_pylist())
            (1, 1, 1)
        """
        storage = self._writable()
        _check_feed(feed, rules)
        if batch_id is not None and not (isinstance(batch_id, str) and batch_id):
            raise ArgumentError(f"batch_id={batch_id!r}: give a text")
        with self._session_lock:
            appender = self._appender = self._appender or Appender(storage)
        given = {"symbol": symbol, "feed": feed, **options}
        taken = {name: value for name, value in given.items() if value is not None}
        if table is not None:
            if taken or rules is not None or allow_mixed:
                raise ArgumentError("append: only batch_id= goes with table=; the rest is for ticks")
            return appender.append_table(rows, table=table, batch_id=batch_id)
        return appender.append(rows, rules=rules, batch_id=batch_id, allow_mixed=allow_mixed, **taken)

    def ingest(
        self,
        data: Any,
        *,
        source: str | None = None,
        symbol: str | None = None,
        feed: str | None = None,
        mode: str = "merge",
        start: Instant | None = None,
        end: Instant | None = None,
        rules: ValidationRules | None = None,
        max_rejected: float | None = None,
        allow_mixed: bool = False,
        dry_run: bool = False,
        progress: bool | Progress | None = None,
        **options: Any,
    ) -> IngestReport:
        """Validate a source's rows and commit them with their bars.

        Args:
            data: a file, several, or a folder; Arrow data of any library; or columns by name.
            source: vendor preset; None finds out and says what it found.
            symbol: the rows' symbol where the source has none, or the name to store them under.
            feed: identity for deduplication; the preset has a default.
            mode: ``"merge"`` adds what is not there yet; ``"replace"`` first takes out each symbol's rows between the
                first and last accepted instant, or between ``start`` and ``end``.
            start: first instant to replace.
            end: instant after the last to replace.
            rules: which reasons reject a row and which only count.
            max_rejected: share of rejected rows (0 to 1) above which nothing is loaded.
            allow_mixed: let a symbol have rows of several feeds.
            dry_run: report without writing.
            progress: True for a bar on the terminal or in the notebook, or a function that is called with (rows done,
                rows in all or None, what is being done).
            **options: the source's own options, such as ``market=``, ``timezone=`` or ``columns=``.

        Returns:
            Rows in = accepted + rejected + duplicate, reasons, times, bytes and speed.

        Raises:
            SourceStructureError: the source is broken; nothing was loaded.
            TooManyRejectedError: more rows were rejected than allowed; nothing was loaded.
            FeedConflictError: a symbol belongs to another feed.
            SequenceConflictError: a key that is stored arrived with other values.

        Example:
            >>> import backtestr as bt, tempfile
            >>> ticks = {"timestamp_utc": ["2024-01-02T14:30:00"], "price": ["1.5"], "volume": ["2"]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     store.ingest(ticks, symbol="A", feed="example").accepted
            1
        """
        storage = self._writable()
        if mode not in {"merge", "replace"}:
            raise ArgumentError(f"mode={mode!r}: choose 'merge' or 'replace'")
        if max_rejected is not None and not (isinstance(max_rejected, int | float) and 0 <= max_rejected <= 1):
            raise ArgumentError(f"max_rejected={max_rejected!r}: give a share from 0 to 1")
        _check_feed(feed, rules)
        low, high = range_ns(start, end)
        given = {"symbol": symbol, "feed": feed, **options}
        how = LoadOptions(
            mode=mode,
            start=low,
            end=high,
            rules=rules,
            max_rejected=self._settings.max_rejected if max_rejected is None else max_rejected,
            allow_mixed=allow_mixed,
            dry_run=dry_run,
            progress=progress,
        )
        taken = {name: value for name, value in given.items() if value is not None}
        return load_source(storage, data, how, source=source, **taken)

    def delete(
        self,
        symbols: str | Iterable[str],
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        dry_run: bool = False,
    ) -> ReviseReport:
        """Remove ticks with start ≤ timestamp_utc < end, and rebuild the bars they were in, as one commit.

        Args:
            symbols: one or several.
            start: first instant to remove; None is the first there is.
            end: exclusive.
            dry_run: say what would go, remove nothing.

        Raises:
            SymbolNotFoundError: no such symbol.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     print(store.delete("A", end="2024-01-02T14:30:30", dry_run=True))
            delete: 1 rows removed, 0 added (A) (tried only)
        """
        storage = self._writable()
        with storage.journal.writing:
            return delete_rows(storage, symbols, *range_ns(start, end), dry_run=dry_run)

    def correct(self, rows: Any, *, replacing: Any = None, dry_run: bool = False) -> ReviseReport:
        """Replace stored ticks, in one commit with their bars.

        Args:
            rows: the right rows, as `ticks` returns them. Where the feed numbers its rows, each replaces the stored
                row of the same symbol, epoch, kind and sequence.
            replacing: for feeds that do not number their rows, the stored rows that ``rows`` replace, value by value.
            dry_run: say what would change, change nothing.

        Raises:
            InvalidTickError: a row to replace is not stored.
            SequenceConflictError: a corrected row's key is another stored row's.

        Example:
            >>> import backtestr as bt, pyarrow as pa, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     wrong = store.ticks("A", start="2024-01-02T14:30:30").to_arrow()
            ...     position = wrong.schema.get_field_index("price")
            ...     right = wrong.set_column(position, "price", pa.array(["11"]))
            ...     print(store.correct(right, replacing=wrong))
            correct: 1 rows removed, 1 added (A), commit 3
        """
        storage = self._writable()
        with storage.journal.writing:
            return correct_rows(storage, rows, replacing, dry_run=dry_run)

    def cancel(self, rows: Any, *, dry_run: bool = False) -> ReviseReport:
        """Remove stored ticks by key (without a sequence: by their exact values), in one commit with their bars.

        Args:
            rows: the rows to remove, as `ticks` returns them.
            dry_run: say what would go, remove nothing.

        Raises:
            InvalidTickError: a row to remove is not stored.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     print(store.cancel(store.ticks("A", end="2024-01-02T14:30:30")))
            cancel: 1 rows removed, 0 added (A), commit 3
        """
        storage = self._writable()
        with storage.journal.writing:
            return cancel_rows(storage, rows, dry_run=dry_run)

    def set_bar_spec(self, spec: BarSpec) -> ReviseReport:
        """Put a bar specification in force and rebuild all bars by it, as one commit.

        Args:
            spec: eligibility by tick type and condition; every specification is kept in the table ``bar_specs``.

        Example:
            >>> import backtestr as bt, tempfile
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.set_bar_spec(bt.BarSpec(high_low_excludes=("W",)))
            ...     store.bar_spec.high_low_excludes
            ('W',)
        """
        storage = self._writable()
        with storage.journal.writing:
            return set_bar_spec(storage, spec)

    def at(self, when: int | Instant) -> Store:
        """The store as it was, to read only.

        Args:
            when: an LSN, a tag, or an instant: the last version committed by then.

        Raises:
            VersionNotFoundError: there is no such version.

        Example:
            >>> import backtestr as bt, pyarrow as pa, datetime as dt, tempfile
            >>> ticks = pa.table({"timestamp_utc": [dt.datetime(2024, 1, 2)], "price": ["1.5"], "volume": ["2"]})
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     lsn = store.ingest(ticks, symbol="A", feed="example").lsn
            ...     deleted = store.delete("A")
            ...     store.symbols(), store.at(lsn).symbols()
            ([], ['A'])
        """
        # copy.copy would open the store anew, as pickle does
        past = object.__new__(type(self))
        vars(past).update(vars(self))
        with self._reading(when) as (storage, version):
            storage.lease.hold(version.lsn)
        past._pinned = version
        past._unpin = weakref.finalize(past, storage.lease.release, version.lsn)
        past._read_only = True
        past._session, past._session_lock = None, threading.Lock()
        past._settled, past._settling = {}, threading.Lock()
        past._appender = None
        past._walks, past._ahead = weakref.WeakSet(), None
        return past

    def tag(self, name: str, when: int | Instant | None = None) -> int:
        """Name a version, by default the newest, for `at` and ``as_of=``; returns its LSN. `gc` keeps it.

        Raises:
            ArgumentError: the name is taken by another version, or reads as an instant.
            VersionNotFoundError: there is no such version.
        """
        storage = self._writable()
        with storage.journal.writing:
            storage.journal.settle()
            with self._reading(when) as (_, version):
                return tag_version(storage, name, version)

    def untag(self, name: str) -> None:
        """Take a name from its version, which `gc` then removes like any other.

        Raises:
            VersionNotFoundError: there is no such tag.
        """
        storage = self._writable()
        with storage.journal.writing:
            untag_version(storage, name)

    def revert(self, when: int | Instant) -> int:
        """Make everything as it was at a version, as a new commit; returns its LSN. `at` still shows what was between.

        Raises:
            VersionNotFoundError: there is no such version.
        """
        with self._changing() as storage, self._reading(when) as (_, version):
            return revert_to(storage, version).lsn

    @property
    def migrations(self) -> Migrations:
        """The schema's versions: ``status()``, ``plan()``, ``up()``, ``down()``."""
        return Migrations(self._readable, self._changing, self._version)

    def close(self) -> None:
        """Release the writer's lock and all files; further use raises StoreClosedError.

        A change that another thread has under way is committed first. Appended rows are safe in the log.
        """
        if self._appender is not None and os.getpid() == self._pid:
            self._appender.close()
        super().close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self._path), self._options, None if self._pinned is None else self._pinned.lsn)


def open_store(path: str | os.PathLike[str], *, read_only: bool = False, **settings: Any) -> Store:
    """Open the store in a folder, creating it where there is none.

    Args:
        path: the store's folder.
        read_only: write nothing but a lease, which keeps what the store reads from `gc`.
        **settings: settings that override the environment and files; see `backtestr config show`.

    Raises:
        StoreNotFoundError: ``read_only`` and nothing there.
        StoreFormatError: the folder holds something else.
        StoreLockedError: creating it while another process does.
        MigrationNewerError: its schema is newer than this release knows.

    Example:
        >>> import backtestr as bt, tempfile
        >>> with bt.open(tempfile.mkdtemp()) as store:
        ...     store.symbols()
        []
    """
    return Store(path, read_only=read_only, **settings)


def _check_feed(feed: object, rules: object) -> None:
    if rules is not None and not isinstance(rules, ValidationRules):
        raise ArgumentError(f"rules={rules!r}: give a ValidationRules")
    if feed is not None and not (isinstance(feed, str) and feed):
        raise ArgumentError(f"feed={feed!r}: give a name")


def _reopen(path: str, settings: dict[str, Any], lsn: int | None) -> Store:
    store = Store(path, read_only=True, **settings)
    return store if lsn is None else store.at(lsn)
