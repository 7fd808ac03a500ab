"""Rows to files of many tables and intervals, encoded on threads of their own while the next rows are merged."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa

from backtestr.storage import Storage
from backtestr.storage.encode import ColumnLayouts
from backtestr.storage.write import PIECE_ROWS, FileWriter, Written

_THREADS = 2
_MOST_WAITING = 2 * _THREADS


class Encoder:
    """Writes several files at a time, the rows of each in order; what waits for a thread is bounded.

    Use it in a ``with`` block: an error that leaves it removes the files.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._pool = ThreadPoolExecutor(_THREADS, "backtestr-write")
        self._open: dict[tuple[str, str], _Stream] = {}
        self._ended: list[FileWriter] = []
        self._waiting: deque[FileWriter] = deque()
        self._written: list[Written] = []
        self._writers: list[FileWriter] = []

    def add(
        self,
        table: str,
        name: str,
        rows: pa.Table,
        columns: ColumnLayouts | None = None,
        *,
        interval: str | None = None,
    ) -> None:
        """Take rows of one file in, named by its interval, or by a name of its own."""
        stream = self._open.get((table, name))
        if stream is None:
            settings = self._storage.settings
            writer = FileWriter(
                self._pool,
                self._storage.layout,
                table,
                interval or name,
                zstd_level=settings.zstd_level,
                max_bytes=settings.max_file_bytes,
                columns=columns,
            )
            self._writers.append(writer)
            stream = self._open[table, name] = _Stream(writer)
        stream.parts.append(rows)
        stream.rows += rows.num_rows
        if columns is not None and stream.rows >= PIECE_ROWS:
            self._submit(stream, is_last=False)

    def end(self, table: str, name: str) -> None:
        """No more rows come for a file."""
        stream = self._open.pop((table, name), None)
        if stream is not None:
            self._submit(stream, is_last=True)
            self._ended.append(stream.writer)

    def written(self) -> Written:
        """Wait for all files that were ended; they are durable."""
        self._drain(0)
        self._written.extend(writer.written() for writer in self._ended)
        self._ended = []
        return Written.join(self._written)

    def _submit(self, stream: _Stream, *, is_last: bool) -> None:
        before = stream.writer.waiting
        parts, stream.parts, stream.rows = stream.parts, [], 0
        if parts:
            stream.writer.add(pa.concat_tables(parts), last=is_last)
        if is_last:
            stream.writer.finish()
        self._waiting.extend([stream.writer] * (stream.writer.waiting - before))
        if not is_last:
            self._drain(_MOST_WAITING)

    def _drain(self, most: int) -> None:
        while len(self._waiting) > most:
            self._waiting.popleft().advance()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if kind is not None:
            for writer in self._writers:
                writer.discard()


class _Stream:
    """One file's rows on their way."""

    def __init__(self, writer: FileWriter) -> None:
        self.writer = writer
        self.parts: list[pa.Table] = []
        self.rows = 0
