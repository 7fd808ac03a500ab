"""Sorted rows → immutable Parquet files, durable, each with its line in the log's index."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import ParquetStitcher, crc32c, index_runs, measure_layout, sync_file, sync_folder
from backtestr.storage.commit import FILES, INDEX
from backtestr.storage.encode import KEYS, ColumnLayouts, encode, merge_layouts
from backtestr.storage.entry import Entry
from backtestr.storage.groups import Groups, cut_groups
from backtestr.storage.layout import BARS, Layout

PIECE_ROWS = 1 << 18
"""Rows that are encoded at a time, by one thread."""
_ROW_BYTES = 64


@dataclass(frozen=True, slots=True)
class Written:
    """Files written and not yet committed: rows of `FILES` and `INDEX`."""

    files: pa.Table
    index: pa.Table

    @classmethod
    def join(cls, parts: Sequence[Written]) -> Written:
        """All parts as one."""
        files = pa.concat_tables([FILES.empty_table(), *(part.files for part in parts)])
        return cls(files, pa.concat_tables([INDEX.empty_table(), *(part.index for part in parts)]))

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return int(np.sum(self.files["bytes"].to_numpy()))


class FileWriter:
    """Writes the rows of one table and interval, sorted as the table is, to files of at most ``max_bytes``.

    Pieces of whole row groups are encoded on the pool's threads; `advance` puts them to the file in order. All
    methods are called from one thread, which is none of the pool's.

    Args:
        pool: where pieces are encoded and files are made durable.
        layout: the store's paths.
        table: ``"ticks"`` or ``"bars"``.
        interval: the folder below the table's.
        zstd_level: compression level.
        max_bytes: size at which a file is cut, between two pieces.
        columns: the layout that fits all rows to come; None takes that of the first rows, which then must be all.
    """

    def __init__(
        self,
        pool: Executor,
        layout: Layout,
        table: str,
        interval: str,
        *,
        zstd_level: int,
        max_bytes: int,
        columns: ColumnLayouts | None = None,
    ) -> None:
        self._pool, self._layout, self._table, self._interval = pool, layout, table, interval
        self._zstd_level, self._max_bytes, self._columns = zstd_level, max_bytes, columns
        self._piece_rows = min(PIECE_ROWS, max_bytes // _ROW_BYTES)
        self._carry: pa.Table | None = None
        self._continues: tuple[str, ...] | None = None
        self._pieces: deque[_Piece] = deque()
        self._file: _OpenFile | None = None
        self._done: list[Future[Written]] = []
        self._made: list[Path] = []

    @property
    def waiting(self) -> int:
        """Pieces that `advance` has not put to a file yet."""
        return len(self._pieces)

    def add(self, rows: pa.Table, *, last: bool = False) -> None:
        """Take rows in that follow the ones before; rows whose row group is not settled yet wait for the next call."""
        if self._carry is not None:
            rows, self._carry = pa.concat_tables([self._carry, rows]), None
        if rows.num_rows == 0:
            return
        rows = rows.unify_dictionaries()
        runs = index_runs(rows, KEYS[self._table])
        goes_on = self._continues is not None and self._key_at(rows, 0) == self._continues
        groups, settled = cut_groups(
            runs["first_row"].to_numpy(),
            runs["rows"].to_numpy(),
            is_bars=self._table == BARS,
            goes_on=goes_on,
            last=last,
        )
        if settled < rows.num_rows:
            self._carry = rows.slice(settled)
        if settled:
            self._continues = self._key_at(rows, settled - 1)
            self._submit(rows.slice(0, settled), groups)

    def advance(self) -> None:
        """Put the oldest piece to its file, once it is encoded."""
        piece = self._pieces.popleft()
        encoded = piece.encoded.result()
        if self._file is None:
            self._file = _OpenFile.create(self._layout, self._table, self._interval)
            self._made.append(self._layout.root / self._file.relative)
        file = self._file
        file.append(encoded, piece)
        if file.written + file.largest > self._max_bytes:
            self._close()

    def finish(self) -> None:
        """Take in what waits for its row group: no more rows come."""
        if self._carry is not None:
            rows, self._carry = self._carry, None
            self.add(rows, last=True)

    def written(self) -> Written:
        """All files; they are durable when this returns."""
        while self._pieces:
            self.advance()
        self._close()
        return Written.join([file.result() for file in self._done])

    def discard(self) -> None:
        """Remove all files, which nothing lists; the pool's threads are done."""
        for path in self._made:
            path.unlink(missing_ok=True)

    def _key_at(self, rows: pa.Table, row: int) -> tuple[str, ...]:
        return tuple(rows[key][row].as_py() for key in KEYS[self._table])

    def _submit(self, rows: pa.Table, groups: Groups) -> None:
        pieces = list(self._cut(rows, groups))
        if self._columns is None:
            # One piece must not wait behind those of other files.
            measure = map if len(pieces) == 1 else self._pool.map
            self._columns = merge_layouts(list(measure(measure_layout, (mine for mine, _ in pieces))))
        for mine, own in pieces:
            task = self._pool.submit(encode, self._table, mine, own, self._columns, zstd_level=self._zstd_level)
            self._pieces.append(_Piece(mine, own, task))

    def _cut(self, rows: pa.Table, groups: Groups) -> Iterator[tuple[pa.Table, Groups]]:
        first = 0
        for number, (_, stop) in enumerate(groups, 1):
            begun = groups[first][0]
            if number < len(groups) and groups[number][1] - begun <= self._piece_rows:
                continue
            yield rows.slice(begun, stop - begun), [(a - begun, b - begun) for a, b in groups[first:number]]
            first = number

    def _close(self) -> None:
        if self._file is not None:
            self._done.append(self._pool.submit(self._file.close))
            self._file = None


@dataclass(frozen=True, slots=True)
class _Piece:
    rows: pa.Table
    groups: Groups
    encoded: Future[bytes]


@dataclass(slots=True)
class _OpenFile:
    """A file being written."""

    layout: Layout
    file_id: str
    interval: str
    relative: str
    stitcher: ParquetStitcher
    entry: Entry
    written: int = 0
    largest: int = 0

    @classmethod
    def create(cls, layout: Layout, table: str, interval: str) -> _OpenFile:
        file_id, relative = layout.new_file(table, interval)
        return cls(layout, file_id, interval, relative, ParquetStitcher(layout.root / relative), Entry(table))

    def append(self, encoded: bytes, piece: _Piece) -> None:
        before, self.written = self.written, self.stitcher.append(encoded)
        self.largest = max(self.largest, self.written - before)
        self.entry.add(piece.rows, piece.groups)

    def close(self) -> Written:
        self.stitcher.finish()
        sync_folder((self.layout.root / self.relative).parent)
        line = _file_line(
            self.layout,
            self.file_id,
            self.entry.table,
            self.interval,
            self.relative,
            self.entry.rows,
            *self.entry.times,
        )
        return Written(line, self.entry.lines(self.file_id))


def write_plain(layout: Layout, table: str, interval: str, rows: pa.Table, *, folder: str | None = None) -> Written:
    """A durable file of a table that has no index, its columns as they are.

    Args:
        layout: the store's paths.
        table: whose rows they are.
        interval: the folder below the table's.
        rows: their fields carry the ids of the columns.
        folder: the table's folder; None where it has the table's name.
    """
    file_id, relative = layout.new_file(folder or table, interval)
    path = layout.root / relative
    pq.write_table(rows, path, compression="zstd", write_page_checksum=True, store_schema=False)
    sync_file(path)
    sync_folder(path.parent)
    line = _file_line(layout, file_id, table, interval, relative, rows.num_rows, None, None)
    return Written(line, INDEX.empty_table())


def _file_line(
    layout: Layout,
    file_id: str,
    table: str,
    interval: str,
    relative: str,
    rows: int,
    low: int | None,
    high: int | None,
) -> pa.Table:
    path = layout.root / relative
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        footer = read_footer(file)
    line = (file_id, table, interval, relative, path.stat().st_size, rows, digest, crc32c(footer), low, high)
    return pa.table([pa.array([value], column.type) for column, value in zip(FILES, line, strict=True)], schema=FILES)


def read_footer(file: Any) -> bytes:
    """A Parquet file's footer, without the length and magic behind it."""
    file.seek(-8, 2)
    (length,) = struct.unpack("<I", file.read(8)[:4])
    file.seek(-8 - length, 2)
    return file.read(length)  # type: ignore[no-any-return]
