"""SQL over the store: one read-only statement, over our names only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from backtestr.errors import ArgumentError, SQLError
from backtestr.query.gate import Statement, check_frame_name, check_statement, reading_computed
from backtestr.query.named import Named, Requirements
from backtestr.query.pruning import Part, Wanted, needed
from backtestr.query.references import VIEWS, Source
from backtestr.query.routing import Route, routed
from backtestr.query.values import Params, bound_values
from backtestr.storage import Storage
from backtestr.storage.computed import write_computed
from backtestr.storage.layout import BARS, TICKS
from backtestr.storage.session import Session
from backtestr.storage.snapshot import SMALL_TABLES, Version

FAILURES: Final = (duckdb.Error, pa.ArrowException, UnicodeError, OverflowError, RuntimeError)
"""What the engine raises."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that passed the gate, and what it reads."""

    request: str
    """As it was asked."""
    text: str
    """As it is run."""
    values: Params
    frames: dict[str, pa.Table]
    version: Version
    parts: dict[str, list[Part]]
    """The files of each table that the text reads."""
    named: Named | None
    """Bars that are to be computed for it."""
    routes: list[Route]
    sources: list[Source]

    def reads(self) -> Iterator[tuple[str, Part]]:
        """Every part of a file that is read, with its table."""
        for table, parts in self.parts.items():
            yield from ((table, part) for part in parts)
        for route in self.routes:
            for piece in route.pieces:
                table = TICKS if piece.timeframe is None else BARS
                yield from ((table, part) for part in piece.parts)


def prepare(
    session: Session,
    version: Version,
    in_files: Callable[[Version, Collection[str]], Version],
    text: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    frames: Mapping[str, Any],
    *,
    route: bool = True,
) -> Prepared:
    """Judge a statement and settle what it reads.

    Args:
        session: the store's DuckDB.
        version: what to read.
        in_files: gives a version whose live rows of some tables are in files.
        text: one SELECT.
        params: values bound to ``?``/``$1`` (sequence) or ``$name`` (mapping).
        frames: Arrow data to query beside the store's tables, by name.
        route: whether aggregations of ticks may be answered from bars.

    Raises:
        SQLError: not one read-only statement over known tables.
        ArgumentError: a parameter or frame that is not taken.
    """
    known = {*version.data_tables, *SMALL_TABLES}
    for name in frames:
        check_frame_name(name, known)
    values = bound_values(params)
    statement = check_statement(text, known, set(frames))
    version = in_files(version, statement.tables)
    data = {name: _arrow(name, frame) for name, frame in frames.items()}
    columns = _columns(version) | {
        name.lower(): {c.lower() for c in frame.schema.names} for name, frame in data.items()
    }
    asked = text
    required = Requirements(statement, values, version.timeframes, columns)
    wanted = _unseen(statement, required.sources)
    named = required.named()
    routes: list[Route] = []
    if named is not None:
        text = reading_computed(text, statement, named.references)
    elif route and TICKS in statement.tables:
        rewritten, routes = routed(session, statement, required.sources, values, version)
        text = rewritten or text
    by_bars = {id(taken.source) for taken in routes if taken.pieces}
    for source in required.sources:
        if id(source) not in by_bars:
            wanted.setdefault(source.kind, []).append(Wanted.of(source))
    parts = {
        table: needed(version, table, wanted.get(table, ()) if table in VIEWS else [Wanted()])
        for table in statement.tables
    }
    return Prepared(asked, text, values, data, version, parts, named, routes, required.sources)


def run_sql(storage: Storage, session: Session, prepared: Prepared) -> pa.Table:
    """Run a statement.

    Raises:
        SQLError: the engine refuses it.
    """
    with ready_cursor(storage, session, prepared) as cursor:
        return run_text(cursor, prepared.text, prepared)


@contextlib.contextmanager
def ready_cursor(storage: Storage, session: Session, prepared: Prepared) -> Iterator[duckdb.DuckDBPyConnection]:
    """A cursor that has what a statement reads."""
    version, named = prepared.version, prepared.named
    with contextlib.ExitStack() as cleanup:
        computed = None
        if named is not None:
            symbols = [name for name in version.symbols if named.symbols is None or name in named.symbols]
            computed = cleanup.enter_context(session.scratch_file())
            write_computed(computed, storage.reader, version, named.timeframes, symbols)
        files = {table: [part.file for part in parts] for table, parts in prepared.parts.items()}
        yield cleanup.enter_context(contextlib.closing(session.cursor(version, files, computed)))


def run_text(cursor: duckdb.DuckDBPyConnection, text: str, prepared: Prepared) -> pa.Table:
    """Run a text with a statement's values and frames.

    Raises:
        SQLError: the engine refuses it.
    """
    try:
        for name, frame in prepared.frames.items():
            cursor.register(name, frame)
        return run_in_engine(cursor, lambda: cursor.sql(text, params=prepared.values).to_arrow_table())
    except FAILURES as error:
        raise SQLError(f"the query failed: {error}") from None


def run_in_engine(cursor: duckdb.DuckDBPyConnection, query: Callable[[], Answer]) -> Answer:
    """Run a query so that Ctrl-C ends it: signals reach the main thread only, and not while it is in the engine."""
    if threading.current_thread() is not threading.main_thread():
        return query()
    done = Future[Answer]()

    def work() -> None:
        try:
            done.set_result(query())
        except BaseException as error:
            done.set_exception(error)

    worker = threading.Thread(target=work, name="backtestr-sql")
    worker.start()
    try:
        return done.result()
    except KeyboardInterrupt:
        # Again and again: an interrupt before the query has begun is lost.
        while worker.is_alive():
            cursor.interrupt()
            worker.join(0.05)
        raise
    finally:
        worker.join()


def _unseen(statement: Statement, sources: Sequence[Source]) -> dict[str, list[Wanted]]:
    """All rows of the tables that have a reference of which nothing is known."""
    seen = {id(source.node) for source in sources}
    named = (
        node["qualified_name"]["path"][-1]
        for node in statement.nodes()
        if node.get("type") == "BASE_TABLE" and id(node) not in seen
    )
    return {str(name).lower(): [Wanted()] for name in named}


def _columns(version: Version) -> dict[str, set[str]]:
    """Column names of the store's tables; those of ``bars`` and ``ticks`` as their views have them, and more."""
    known: dict[str, set[str]] = {name: set(schema.names) for name, (schema, _) in SMALL_TABLES.items()}
    for row in version.rows_of("data_columns"):
        known.setdefault(row["table_name"], {"timestamp_ns", "exchange", "feed"}).add(row["name"].lower())
    return known


def _arrow(name: str, frame: Any) -> pa.Table:
    if isinstance(frame, (pa.Table, pa.RecordBatch)):
        return frame
    if not hasattr(frame, "__arrow_c_stream__") and not hasattr(frame, "__arrow_c_array__"):
        raise ArgumentError(f"tables={{{name!r}: …}}: pass Arrow data or a frame, got {type(frame).__name__}")
    return pa.table(frame)
