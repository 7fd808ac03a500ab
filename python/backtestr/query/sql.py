"""SQL over the store: one read-only statement, over our names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from backtestr.errors import ArgumentError, SQLError
from backtestr.query.frame import Frame
from backtestr.query.gate import check_frame_name, check_statement
from backtestr.query.values import bound_values
from backtestr.storage.session import Session
from backtestr.storage.snapshot import SMALL_TABLES, Version


def run_sql(
    session: Session,
    version: Version,
    text: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    frames: Mapping[str, Any],
) -> Frame:
    """Run one statement against a version.

    Args:
        session: the store's DuckDB.
        version: what to read.
        text: one SELECT.
        params: values bound to ``?``/``$1`` (sequence) or ``$name`` (mapping).
        frames: Arrow data to query beside the store's tables, by name.

    Raises:
        SQLError: not one read-only statement over known tables, or the engine refuses it.
        ArgumentError: a parameter or frame that is not taken.
    """
    known = {*version.tables["data_columns"]["table_name"].unique().to_pylist(), *SMALL_TABLES}
    for name in frames:
        check_frame_name(name, known)
    values = bound_values(params)
    statement = check_statement(text, known, set(frames))
    cursor = session.cursor(version, {table: version.of(table) for table in statement.tables})
    try:
        for name, frame in frames.items():
            cursor.register(name, _arrow(name, frame))
        return Frame(cursor.sql(text, params=values).to_arrow_table())
    except (duckdb.Error, pa.ArrowException, UnicodeError, OverflowError, RuntimeError) as error:
        raise SQLError(f"the query failed: {error}") from None
    finally:
        cursor.close()


def _arrow(name: str, frame: Any) -> pa.Table:
    if isinstance(frame, (pa.Table, pa.RecordBatch)):
        return frame
    if not hasattr(frame, "__arrow_c_stream__") and not hasattr(frame, "__arrow_c_array__"):
        raise ArgumentError(f"tables={{{name!r}: …}}: pass Arrow data or a frame, got {type(frame).__name__}")
    return pa.table(frame)
