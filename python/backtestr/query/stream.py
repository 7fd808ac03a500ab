"""The rows of a statement batch by batch, as the engine makes them."""

from __future__ import annotations

import contextlib
import weakref
from typing import Self

import duckdb
import pyarrow as pa

from backtestr.errors import SQLError, StoreClosedError
from backtestr.query.sql import FAILURES, Prepared, ready_cursor, run_in_engine
from backtestr.storage import Storage
from backtestr.storage.session import Session


def stream_sql(
    storage: Storage, session: Session, prepared: Prepared, batch_rows: int, held: contextlib.ExitStack
) -> pa.RecordBatchReader:
    """Begin a statement.

    Args:
        storage: the store.
        session: its DuckDB.
        prepared: the statement.
        batch_rows: most rows of a batch.
        held: what is to be let go when the rows were read, or nobody has the reader any more.

    Raises:
        SQLError: the engine refuses it.
    """
    with held:
        cursor = held.enter_context(ready_cursor(storage, session, prepared))
        try:
            for name, frame in prepared.frames.items():
                cursor.register(name, frame)
            reader = run_in_engine(
                cursor, lambda: cursor.sql(prepared.text, params=prepared.values).to_arrow_reader(batch_rows)
            )
        except FAILURES as error:
            raise SQLError(f"the query failed: {error}") from None
        return pa.RecordBatchReader.from_batches(reader.schema, _Batches(session, cursor, reader, held.pop_all()))


class _Batches:
    """The batches of a reader of the engine; the last one, an error, or the end of this object lets go what is held."""

    def __init__(
        self,
        session: Session,
        cursor: duckdb.DuckDBPyConnection,
        reader: pa.RecordBatchReader,
        held: contextlib.ExitStack,
    ) -> None:
        self._session, self._cursor, self._reader = session, cursor, reader
        self._let_go = weakref.finalize(self, held.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        if self._session.is_closed:
            self._let_go()
            raise StoreClosedError("the store was closed while rows of a statement were read; open it again")
        try:
            return run_in_engine(self._cursor, self._reader.read_next_batch)
        except StopIteration:
            self._let_go()
            raise
        # Arrow tells of an error of the engine as one of input.
        except (*FAILURES, OSError) as error:
            self._let_go()
            if self._session.is_closed:
                raise StoreClosedError("the store was closed while a statement ran; open it again") from None
            raise SQLError(f"the query failed: {error}") from None
