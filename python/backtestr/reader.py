"""An open store as readers see it: one version at a time, from many threads."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from backtestr import config, machine
from backtestr.errors import StoreClosedError, StoreReadOnlyError
from backtestr.ingest.flush import settled
from backtestr.instants import Instant, range_ns
from backtestr.models import Plan
from backtestr.persist.history import held_version
from backtestr.persist.migrate import create_store, known_schema
from backtestr.query.ahead.prefetch import ReadAhead
from backtestr.query.analysis import analyze_request, analyze_sql
from backtestr.query.cut import Cut
from backtestr.query.frame import Frame
from backtestr.query.planning import plan_request, plan_sql
from backtestr.query.request import read_bars, read_latest, read_ticks
from backtestr.query.runs import Runs
from backtestr.query.sql import Prepared, prepare, run_sql
from backtestr.storage import Storage
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout
from backtestr.storage.lease import Lease
from backtestr.storage.read import Reader
from backtestr.storage.refusals import typed_refusals
from backtestr.storage.rowgroups import RowGroups
from backtestr.storage.session import Session, remove_folder
from backtestr.storage.snapshot import Version
from backtestr.storage.tables import KEYS, check_table


class StoreReader:
    """What can be asked of an open store. `backtestr.Store` adds what changes it."""

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
        with typed_refusals(f"opening store {layout.root}"):
            if not read_only and not layout.identity.exists():
                create_store(layout, journal, self._settings.materialized_timeframes)
            layout.check()
            # It holds everything until the version is known: a clean-up may be at work between.
            lease = Lease(layout, journal)
            try:
                journal.refresh()
            except BaseException:
                lease.settle()
                lease.leave()
                raise
            lease.settle()
        self._pinned: Version | None = None
        self._unpin: weakref.finalize[Any, Any] | None = None
        reader = Reader(RowGroups.of(layout, self._settings))
        self._storage: Storage | None = Storage(layout, self._settings, journal, reader, lease)
        self._runs = Runs(self._storage.state)
        weakref.finalize(self, self._runs.save)
        self._ahead: ReadAhead | None = None
        self._session: Session | None = None
        self._session_lock = threading.Lock()
        self._settled: dict[frozenset[str], tuple[Version, Version]] = {}
        self._settling = threading.Lock()

    def ticks(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "asc",
        as_of: int | Instant | None = None,
    ) -> Frame:
        """Ticks with start ≤ timestamp_utc < end, ordered by (symbol, timestamp_utc, sequence).

        Args:
            symbols: one, several, or None for all.
            start: first instant; one without a zone is UTC, and None is the first there is.
            end: exclusive.
            columns: which columns, in the order wanted; None for all of `backtestr.tick_schema`.
            limit: how many ticks of each symbol, the first ones in ``order``; None for all.
            order: ``"asc"``, oldest first, or ``"desc"``, each symbol's ticks in reverse.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            SymbolNotFoundError: no such symbol; a known one without rows in range is an empty frame.
            ArgumentError: no such column, or start is not before end.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     store.ticks("A", end="2024-01-02T14:30:30", columns=["price", "volume"]).to_numpy()
            {'price': array([10.]), 'volume': array([1.])}
        """
        with self._reading(as_of) as (storage, version):
            began = self._runs.clock()
            window = range_ns(start, end)
            rows = read_ticks(storage, version, symbols, *window, columns, Cut.parse(limit, order))
            if self._ahead is not None and as_of is None and limit is None:
                self._ahead.note("ticks", symbols, window, columns)
            self._runs.request(began, rows, symbols, None, window, columns, limit)
            asked: dict[str, Any] = {"symbols": symbols, "start": start, "end": end, "limit": limit, "order": order}
            return Frame(rows, explain=partial(self.explain, **asked, columns=columns, as_of=version.lsn))

    def bars(
        self,
        symbols: str | Iterable[str] | None,
        timeframe: str,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        price: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "asc",
        as_of: int | Instant | None = None,
    ) -> Frame:
        """Bars with start ≤ timestamp_utc < end, ordered by (symbol, timestamp_utc).

        Args:
            symbols: one, several, or None for all.
            timeframe: such as ``"5m"``; it divides a day or is a whole number of days.
            start: first bar's earliest start.
            end: exclusive.
            price: ``"trade"``, ``"bid"``, ``"ask"`` or ``"mid"``; None takes the symbol's own basis.
            limit: how many bars of each symbol, the first ones in ``order``; None for all.
            order: ``"asc"``, oldest first, or ``"desc"``, each symbol's bars in reverse.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            SymbolNotFoundError: no such symbol.
            TimeframeError: no such timeframe.
            ArgumentError: the basis must be named, or does not exist.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     store.bars("A", "1m").to_pylist()[0]["vwap"]
            Decimal('11.50000000')
        """
        with self._reading(as_of) as (storage, version):
            began = self._runs.clock()
            window = range_ns(start, end)
            rows = read_bars(storage, version, symbols, timeframe, *window, price, Cut.parse(limit, order))
            if self._ahead is not None and as_of is None and limit is None:
                self._ahead.note(str(timeframe), symbols, window, price=price)
            self._runs.request(began, rows, symbols, timeframe, window, None, limit, price)
            asked: dict[str, Any] = {"symbols": symbols, "start": start, "end": end, "limit": limit, "order": order}
            asked |= {"timeframe": timeframe, "price": price, "as_of": version.lsn}
            return Frame(rows, explain=partial(self.explain, **asked))

    def latest(self, symbols: str | Iterable[str] | None = None, *, as_of: int | Instant | None = None) -> Frame:
        """The newest tick of each symbol: of equal instants the last one, as `ticks` orders them; by symbol.

        Answered from the index: no file is read, unless two of them have ticks of that very instant.

        Args:
            symbols: one, several, or None for all.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            SymbolNotFoundError: no such symbol.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     store.latest("A").to_pylist()[0]["price"]
            Decimal('12.00000000')
        """
        with self._reading(as_of) as (storage, version):
            return Frame(read_latest(storage, version, symbols))

    def sql(
        self,
        text: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        as_of: int | Instant | None = None,
        route: bool = True,
    ) -> Frame:
        """Run one SELECT over ``ticks``, ``bars`` and the other tables.

        A timeframe that is not stored is computed where the statement requires it of ``bars``: ``timeframe = '20s'``.

        Args:
            text: the statement, in DuckDB's SQL.
            params: values for ``?``, ``$1`` or ``$name``.
            tables: your own frames, by the name the statement uses.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.
            route: whether aggregations of ticks may be answered from bars, where that is proved to be equal.

        Raises:
            SQLError: not one read-only statement over known tables, or it does not run.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     store.sql("select sum(volume) as volume from ticks where symbol = ?", ["A"]).to_pylist()
            [{'volume': Decimal('4.00000000')}]
        """
        with self._reading(as_of) as (storage, version):
            session, began = self._opened_session(), self._runs.clock()
            try:
                prepared = self._prepared(storage, session, version, text, params, tables, route=route)
                rows = run_sql(storage, session, prepared)
                self._runs.statement(began, rows, prepared)
                explain = partial(self.explain, text, params, tables=tables, route=route, as_of=version.lsn)
                return Frame(rows, explain=explain)
            except Exception:
                if session.is_closed:
                    raise StoreClosedError(
                        f"store {self._path} was closed while a statement ran; open it again"
                    ) from None
                raise

    def explain(
        self,
        text: str | None = None,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        route: bool = True,
        as_of: int | Instant | None = None,
        analyze: bool = False,
        **request: Any,
    ) -> Plan:
        """How a statement or request would be answered: what is read, what is not, why, and what that costs.

        Estimates of time, what the same request took, and advice come from the requests that are remembered: `queries`.

        Args:
            text: a statement, as for `sql`; None for a request.
            params: values for ``?``, ``$1`` or ``$name``.
            tables: your own frames, by the name the statement uses.
            route: whether aggregations of ticks may be answered from bars.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.
            analyze: also run it, and say what that took; nothing is run without.
            **request: what `bars` takes where there is a ``timeframe``, else what `ticks` takes, all by name.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     plan = store.explain("select date_trunc('hour', timestamp_utc), max(price) from ticks group by all")
            >>> plan.rules["aggregation routing"]
            'from bars of 1h'
        """
        with self._reading(as_of) as (storage, version):
            known, clock = self._runs.known(), self._runs.clock
            if text is None:
                plan = plan_request(storage, version, known, **request)
                return replace(plan, analysis=analyze_request(storage, version, clock, request)) if analyze else plan
            session = self._opened_session()
            prepared = self._prepared(storage, session, version, text, params, tables, route=route)
            plan = plan_sql(storage, prepared, version.lsn, known)
            return replace(plan, analysis=analyze_sql(storage, session, prepared, clock)) if analyze else plan

    def table(self, name: str, *, as_of: int | Instant | None = None) -> Frame:
        """All rows of a relational table, such as ``"orders"``: the newest of each key, ordered by key.

        Args:
            name: the table; see `append`.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.

        Raises:
            ArgumentError: no such table.

        Example:
            >>> import backtestr as bt, tempfile
            >>> day = {"backtest_id": "7e57d004-2b97-4e7a-b45f-5387367791cd", "date": "2024-01-02"}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     for value in (100, 101):
            ...         report = store.append([day | {"portfolio_value": value}], table="daily_performance")
            ...     store.table("daily_performance").to_numpy()["portfolio_value"]
            array([101.])
        """
        check_table(name)
        return self.sql(f"select * from {name} order by {', '.join(KEYS[name])}", as_of=as_of)

    def refresh(self) -> int:
        """Move forward to the last commit of the writer.

        Returns:
            Its LSN (log sequence number): commits are numbered from 1.
        """
        storage = self._readable()
        if self._pinned is not None:
            return self._pinned.lsn
        lsn = storage.journal.refresh().lsn
        storage.lease.narrow()
        return lsn

    def close(self) -> None:
        """Release the writer's lock and all files; further use raises StoreClosedError.

        A change that another thread has under way is committed first.
        """
        if (storage := self._storage) is not None and os.getpid() == self._pid:
            self._runs.save()
            if self._unpin is None:
                storage.journal.close()
                storage.lease.leave()
            else:
                self._unpin()
            with self._session_lock:
                session, self._storage, self._session = self._session, None, None
            if session is not None:
                session.close()
        self._storage = self._session = None
        self._settled = {}

    def _opened_session(self) -> Session:
        with self._session_lock:
            storage = self._readable()
            self._session = self._session or Session(storage.layout, storage.settings)
            return self._session

    def _prepared(
        self,
        storage: Storage,
        session: Session,
        version: Version,
        text: str,
        params: Sequence[Any] | Mapping[str, Any] | None,
        tables: Mapping[str, Any] | None,
        *,
        route: bool,
    ) -> Prepared:
        """A statement ready to run over a version, live rows that it needs in files."""
        in_files = partial(self._in_files, storage, session)
        return prepare(session, version, in_files, text, params, tables or {}, route=route)

    def _in_files(
        self, storage: Storage, session: Session, version: Version, tables: Collection[str] | None = None
    ) -> Version:
        """The version with its live rows of some tables, or of all, in files of the session: some only read files."""
        live = version.live if tables is None else version.live.behind(tables)
        if not live:
            return version
        names = live.names
        with self._settling:
            if (names not in self._settled) or self._settled[names][0] is not version:
                # those of other versions are of use no more
                self._settled = {known: pair for known, pair in self._settled.items() if pair[0] is version}
                folder = session.scratch_folder()
                made = settled(storage, replace(version, live=live), folder)
                weakref.finalize(made, remove_folder, folder, os.getpid())
                self._settled[names] = version, made
            return self._settled[names][1]

    def _version(self) -> Version:
        return self._readable().journal.version if self._pinned is None else self._pinned

    @contextlib.contextmanager
    def _reading(self, when: int | Instant | None = None) -> Iterator[tuple[Storage, Version]]:
        """A version whose files stay while the block reads them: by default the newest, or the one pinned."""
        storage = self._readable()
        with storage.lease.newest() as newest:
            current = newest if self._pinned is None else self._pinned
            if when is None:
                yield storage, current
                return
            with held_version(storage, current, when) as version:
                yield storage, version

    def _readable(self) -> Storage:
        if (storage := self._storage) is None:
            raise StoreClosedError(f"store {self._path} is closed; open it again")
        if os.getpid() != self._pid:
            raise StoreClosedError(f"store {self._path} was opened before a fork; open it again in this process")
        return storage

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

    def __repr__(self) -> str:
        state = "closed" if self._storage is None else f"lsn {self._version().lsn}"
        return f"Store({str(self._path)!r}, {state})"
