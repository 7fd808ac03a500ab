"""SQL over the store: one read-only statement, over our names only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import duckdb
import pyarrow as pa

from backtestr.errors import ArgumentError, SQLError
from backtestr.query.frame import Frame
from backtestr.query.gate import check_frame_name, check_statement, reading_computed
from backtestr.query.named import Requirements
from backtestr.query.values import bound_values
from backtestr.storage import Storage
from backtestr.storage.computed import write_computed
from backtestr.storage.session import Session
from backtestr.storage.snapshot import SMALL_TABLES, Version


def run_sql(
    storage: Storage,
    session: Session,
    version: Version,
    in_files: Callable[[Version, Collection[str]], Version],
    text: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    frames: Mapping[str, Any],
) -> Frame:
    """Run one statement against a version.

    Args:
        storage: the open store.
        session: its DuckDB.
        version: what to read.
        in_files: gives a version whose live rows of some tables are in files.
        text: one SELECT.
        params: values bound to ``?``/``$1`` (sequence) or ``$name`` (mapping).
        frames: Arrow data to query beside the store's tables, by name.

    Raises:
        SQLError: not one read-only statement over known tables, or the engine refuses it.
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
    required = Requirements(statement, values, version.timeframes, columns)
    named = required.named()
    with contextlib.ExitStack() as cleanup:
        computed = None
        if named is not None:
            text = reading_computed(text, statement, named.references)
            symbols = [name for name in version.symbols if named.symbols is None or name in named.symbols]
            computed = cleanup.enter_context(session.scratch_file())
            write_computed(computed, storage.reader, version, named.timeframes, symbols)
        files = {table: version.of(table) for table in statement.tables}
        cursor = cleanup.enter_context(contextlib.closing(session.cursor(version, files, computed)))
        try:
            for name, frame in data.items():
                cursor.register(name, frame)
            return Frame(_run(cursor, lambda: cursor.sql(text, params=values).to_arrow_table()))
        except (duckdb.Error, pa.ArrowException, UnicodeError, OverflowError, RuntimeError) as error:
            raise SQLError(f"the query failed: {error}") from None


def _run(cursor: duckdb.DuckDBPyConnection, query: Callable[[], pa.Table]) -> pa.Table:
    """Run a query so that Ctrl-C ends it: signals reach the main thread only, and not while it is in the engine."""
    if threading.current_thread() is not threading.main_thread():
        return query()
    done = Future[pa.Table]()

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
