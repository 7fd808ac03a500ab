"""Rows to files on threads of their own, while the next rows are merged."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa

from backtestr.storage import Storage
from backtestr.storage.write import ColumnLayouts, FileWriter, Written

_THREADS = 2
_PART_ROWS = 1 << 20


class Encoder:
    """Writes several files at a time, the rows of each in order; rows that wait for a thread are bounded.

    Use it in a ``with`` block: files left open by an error are closed and no record lists them.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._pool = ThreadPoolExecutor(_THREADS, "backtestr-write")
        self._open: dict[tuple[str, str], _Stream] = {}
        self._streams: list[_Stream] = []
        self._waiting: deque[Future[None]] = deque()
        self._written: list[Written] = []

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
                self._storage.layout,
                table,
                interval or name,
                zstd_level=settings.zstd_level,
                max_bytes=settings.max_file_bytes,
                columns=columns,
            )
            stream = self._open[table, name] = _Stream(writer)
            self._streams.append(stream)
        stream.parts.append(rows)
        stream.rows += rows.num_rows
        if columns is not None and stream.rows >= _PART_ROWS:
            self._submit(stream, is_last=False)

    def end(self, table: str, name: str) -> None:
        """No more rows come for a file."""
        stream = self._open.pop((table, name), None)
        if stream is not None:
            self._submit(stream, is_last=True)

    def written(self) -> Written:
        """Wait for all files that were ended; they are durable."""
        while self._waiting:
            self._waiting.popleft().result()
        self._written.extend(stream.written for stream in self._streams if stream.written is not None)
        self._streams = [stream for stream in self._streams if stream.written is None]
        return Written.join(self._written)

    def _submit(self, stream: _Stream, *, is_last: bool) -> None:
        parts, stream.parts, stream.rows = stream.parts, [], 0
        if len(self._waiting) > _THREADS:
            self._waiting.popleft().result()
        stream.previous = self._pool.submit(stream.write, stream.previous, parts, is_last=is_last)
        self._waiting.append(stream.previous)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        for stream in self._streams:
            with contextlib.suppress(Exception):
                stream.writer.abandon()


class _Stream:
    """One file's rows on their way; tasks of it run one after the other."""

    def __init__(self, writer: FileWriter) -> None:
        self.writer = writer
        self.parts: list[pa.Table] = []
        self.rows = 0
        self.previous: Future[None] | None = None
        self.written: Written | None = None

    def write(self, previous: Future[None] | None, parts: list[pa.Table], *, is_last: bool) -> None:
        if previous is not None:
            previous.result()
        if parts:
            self.writer.add(pa.concat_tables(parts), last=is_last)
        if is_last:
            self.written = self.writer.finish()
