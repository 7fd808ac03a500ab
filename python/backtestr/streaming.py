"""Answers that are never in memory whole."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtestr.errors import ArgumentError
from backtestr.instants import Instant
from backtestr.memory import Memory
from backtestr.query.stream import stream_sql


class Streaming(Memory):
    """What can be asked of an open store for answers larger than memory."""

    def stream(
        self,
        text: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        as_of: int | Instant | None = None,
        route: bool = True,
        batch_rows: int = 100_000,
    ) -> pa.RecordBatchReader:
        """Run one SELECT as `sql` does, and hand out its rows batch by batch while it runs.

        Rows come in the order of the statement, so that ``order by`` over more than memory holds goes through
        ``temp_dir``. The version that is read is kept until the last batch was read, or the reader is dropped; a commit
        meanwhile changes nothing of it.

        Args:
            text: the statement, in DuckDB's SQL.
            params: values for ``?``, ``$1`` or ``$name``.
            tables: your own frames, by the name the statement uses.
            as_of: the version to read: an LSN, a commit time or a tag, as for `at`.
            route: whether aggregations of ticks may be answered from bars.
            batch_rows: most rows of a batch.

        Returns:
            A reader that pandas, polars, DuckDB and all that takes Arrow streams reads once.

        Raises:
            SQLError: not one read-only statement over known tables, or it does not run; also while batches are read.
            StoreClosedError: the store was closed before all batches were read.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     sum(batch.num_rows for batch in store.stream("select * from ticks"))
            2
        """
        if isinstance(batch_rows, bool) or not isinstance(batch_rows, int) or batch_rows < 1:
            raise ArgumentError(f"batch_rows={batch_rows!r}: say how many rows, as a whole number from 1 on")
        with self._reading(as_of) as (storage, version), contextlib.ExitStack() as held:
            storage.lease.hold(version.lsn)
            held.callback(storage.lease.release, version.lsn)
            session = self._opened_session()
            prepared = self._prepared(storage, session, version, text, params, tables, route=route)
            return stream_sql(storage, session, prepared, batch_rows, held.pop_all())
