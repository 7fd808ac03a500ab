"""A store: ticks, bars and what backtests make of them, in one folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backtestr import config, machine
from backtestr.errors import ArgumentError, StoreClosedError, StoreReadOnlyError
from backtestr.ingest.load import LoadOptions, load_source
from backtestr.ingest.progress import Progress
from backtestr.ingest.revise import cancel_rows, correct_rows, delete_rows, set_bar_spec
from backtestr.instants import Instant, range_ns
from backtestr.models import BarSpec, IngestReport, ReviseReport, StoreInfo, ValidationRules, VersionDiff
from backtestr.persist.history import compare, read_history, revert_to, tag_version, version_at
from backtestr.persist.migrate import create_store, known_schema
from backtestr.persist.upgrade import Migrations
from backtestr.query.describe import describe
from backtestr.query.frame import Frame
from backtestr.query.request import read_bars, read_ticks
from backtestr.query.sql import run_sql
from backtestr.storage import Storage
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout
from backtestr.storage.read import Reader
from backtestr.storage.session import Session
from backtestr.storage.snapshot import Version


class Store:
    """An open store. Get one from `backtestr.open`; close it, or use it in a ``with`` block.

    Reading is safe from many threads. The first write takes the writer's lock, which is held until `close`.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, **settings: Any) -> None:
        self._path = Path(path)
        self._read_only = read_only
        self._options = settings
        self._settings = config.Settings.load(**settings)
        self._pid = os.getpid()
        layout = Layout(self._path.absolute())
        if self._settings.network_fs == "refuse":
            machine.refuse_network(layout.root)
        journal = Journal(layout, known_schema())
        if not layout.identity.exists() and not read_only:
            create_store(layout, journal, self._settings.materialized_timeframes)
        layout.check()
        journal.refresh()
        self._pinned: Version | None = None
        reader = Reader(layout, verify=self._settings.verify == "always")
        self._storage: Storage | None = Storage(layout, self._settings, journal, reader)
        self._session: Session | None = None
        self._session_lock = threading.Lock()

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
            data: a file or folder, or Arrow data of any library.
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
            >>> import backtestr as bt, pyarrow as pa, datetime as dt, tempfile
            >>> at = [dt.datetime(2024, 1, 2, 14, 30)]
            >>> ticks = pa.table({"timestamp_utc": at, "price": ["1.5"], "volume": ["2"]})
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     store.ingest(ticks, symbol="A", feed="example").accepted
            1
        """
        storage = self._writable()
        if mode not in {"merge", "replace"}:
            raise ArgumentError(f"mode={mode!r}: choose 'merge' or 'replace'")
        if max_rejected is not None and not (isinstance(max_rejected, int | float) and 0 <= max_rejected <= 1):
            raise ArgumentError(f"max_rejected={max_rejected!r}: give a share from 0 to 1")
        if rules is not None and not isinstance(rules, ValidationRules):
            raise ArgumentError(f"rules={rules!r}: give a ValidationRules")
        if feed is not None and not (isinstance(feed, str) and feed):
            raise ArgumentError(f"feed={feed!r}: give a name")
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

    def ticks(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        as_of: int | Instant | None = None,
    ) -> Frame:
        """Ticks with start ≤ timestamp_utc < end, ordered by (symbol, timestamp_utc, sequence).

        Args:
            symbols: one, several, or None for all.
            start: earliest instant.
            end: exclusive.
            columns: those to return; None for all.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            SymbolNotFoundError: no such symbol; a known one without rows in range is an empty frame.
        """
        storage, version = self._readable(), self._version(as_of)
        return read_ticks(storage, version, symbols, *range_ns(start, end), columns)

    def bars(
        self,
        symbols: str | Iterable[str] | None,
        timeframe: str,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        price: str | None = None,
        as_of: int | Instant | None = None,
    ) -> Frame:
        """Bars with start ≤ timestamp_utc < end, ordered by (symbol, timestamp_utc).

        Args:
            symbols: one, several, or None for all.
            timeframe: such as ``"5m"``; it divides a day or is a whole number of days.
            start: first bar's earliest start.
            end: exclusive.
            price: ``"trade"``, ``"bid"``, ``"ask"`` or ``"mid"``; None takes the symbol's own basis.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            SymbolNotFoundError: no such symbol.
            TimeframeError: no such timeframe.
            ArgumentError: the basis must be named, or does not exist.
        """
        storage, version = self._readable(), self._version(as_of)
        return read_bars(storage, version, symbols, timeframe, *range_ns(start, end), price)

    def sql(
        self,
        text: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        as_of: int | Instant | None = None,
    ) -> Frame:
        """Run one SELECT over ``ticks``, ``bars`` and the other tables.

        A timeframe that is not stored is computed where the statement requires it of ``bars``: ``timeframe = '20s'``.

        Args:
            text: the statement, in DuckDB's SQL.
            params: values for ``?``, ``$1`` or ``$name``.
            tables: your own frames, by the name the statement uses.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            SQLError: not one read-only statement over known tables, or it does not run.
        """
        storage, version = self._readable(), self._version(as_of)
        with self._session_lock:
            if self._session is None:
                self._session = Session(storage.layout, storage.settings)
        return run_sql(storage, self._session, version, text, params, tables or {})

    def symbols(self) -> list[str]:
        """All symbols, by name."""
        return list(self._version().symbols)

    def info(self) -> StoreInfo:
        """What the store holds and how much it takes on disk."""
        return describe(self._readable(), self._version(), read_only=self._read_only)

    def quarantine(self) -> Frame:
        """Rejected rows with reason, source line and raw text."""
        return self.sql("select * from quarantine order by source, member, line")

    def delete(
        self,
        symbols: str | Iterable[str],
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        dry_run: bool = False,
    ) -> ReviseReport:
        """Remove ticks with start ≤ timestamp_utc < end, and rebuild the bars they were in.

        Raises:
            SymbolNotFoundError: no such symbol.
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
        """
        storage = self._writable()
        with storage.journal.writing:
            return cancel_rows(storage, rows, dry_run=dry_run)

    @property
    def bar_spec(self) -> BarSpec:
        """The bar specification in force: which ticks make bars."""
        return self._version().bar_spec

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
        past._pinned = self._version(when)
        past._read_only = True
        past._session, past._session_lock = None, threading.Lock()
        return past

    def history(self) -> Frame:
        """All commits, oldest first: LSN, time, kind, files added and removed, tags, and a note (JSON)."""
        return Frame(read_history(self._readable(), self._version()))

    def tag(self, name: str, when: int | Instant | None = None) -> int:
        """Name a version, by default the newest, for `at` and ``as_of=``; returns its LSN.

        Raises:
            ArgumentError: the name is taken by another version, or reads as an instant.
            VersionNotFoundError: there is no such version.
        """
        storage = self._writable()
        with storage.journal.writing:
            storage.journal.begin()
            return tag_version(storage, name, self._version(when))

    def diff(self, old: int | Instant, new: int | Instant | None = None) -> VersionDiff:
        """What changed from one version to another, by default the newest: files, ticks, bars, symbols.

        Raises:
            VersionNotFoundError: there is no such version.
        """
        return compare(self._readable(), self._version(old), self._version(new))

    def revert(self, when: int | Instant) -> int:
        """Make everything as it was at a version, as a new commit; returns its LSN. `at` still shows what was between.

        Raises:
            VersionNotFoundError: there is no such version.
        """
        storage = self._writable()
        with storage.journal.writing:
            storage.journal.begin()
            return revert_to(storage, self._version(when)).lsn

    @property
    def migrations(self) -> Migrations:
        """The schema's versions: ``status()``, ``plan()``, ``up()``, ``down()``."""
        return Migrations(self._readable, self._writable, self._version)

    def checkpoint(self) -> int:
        """Write a snapshot, so that the store opens without replaying its log up to here; returns its LSN.

        Closing the store does so after many commits. Snapshots can be deleted: the log alone is the truth.
        """
        storage = self._writable()
        with storage.journal.writing:
            return storage.journal.checkpoint().lsn

    def refresh(self) -> int:
        """Move forward to the last commit of the writer; returns its LSN."""
        storage = self._readable()
        return self._pinned.lsn if self._pinned is not None else storage.journal.refresh().lsn

    def close(self) -> None:
        """Release the writer's lock and all files; further use raises StoreClosedError."""
        if self._storage is not None and os.getpid() == self._pid:
            if self._pinned is None:
                self._storage.journal.close()
            if self._session is not None:
                self._session.close()
        self._storage = self._session = None

    def _version(self, when: int | Instant | None = None) -> Version:
        newest = self._readable().journal.version if self._pinned is None else self._pinned
        return newest if when is None else version_at(self._readable(), newest, when)

    def _readable(self) -> Storage:
        if self._storage is None:
            raise StoreClosedError(f"store {self._path} is closed; open it again")
        if os.getpid() != self._pid:
            raise StoreClosedError(f"store {self._path} was opened before a fork; open it again in this process")
        return self._storage

    def _writable(self) -> Storage:
        storage = self._readable()
        if self._pinned is not None:
            raise StoreReadOnlyError(f"version {self._pinned.lsn} is the past; write to the store itself")
        if self._read_only:
            raise StoreReadOnlyError(f"store {self._path} was opened with read_only=True; open it again to write")
        return storage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self._path), self._options, None if self._pinned is None else self._pinned.lsn)

    def __repr__(self) -> str:
        state = "closed" if self._storage is None else f"lsn {self._version().lsn}"
        return f"Store({str(self._path)!r}, {state})"


def open_store(path: str | os.PathLike[str], *, read_only: bool = False, **settings: Any) -> Store:
    """Open the store in a folder, creating it where there is none.

    Args:
        path: the store's folder.
        read_only: write nothing.
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


def _reopen(path: str, settings: dict[str, Any], lsn: int | None) -> Store:
    store = Store(path, read_only=True, **settings)
    return store if lsn is None else store.at(lsn)
