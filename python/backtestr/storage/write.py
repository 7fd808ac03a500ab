"""Sorted rows → immutable Parquet files, durable, each with its line in the log's index."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import crc32c, index_runs, measure_layout, narrow, sync_file, sync_folder
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.schema import FIELD_IDS
from backtestr.storage.commit import FILES, INDEX, LAST_ROW
from backtestr.storage.groups import cut_groups, groups_of_runs
from backtestr.storage.layout import BARS, TICKS, Layout

ColumnLayout = tuple[bool, bool, int, int]
"""Whether a column is present, whether it has nulls, its decimal places, and its digits before the point."""
ColumnLayouts = list[ColumnLayout]

_DELTA = {
    "timestamp_utc", "sequence", "price", "bid", "ask", "open", "high", "low", "close", "trade_count",
}  # fmt: skip
_DERIVED = {"vwap"}
_KEYS = {BARS: ("timeframe", "symbol", "price_basis")}
_COUNTS = ("rows", "trades", "bids", "asks", "composites")


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

    Args:
        layout: the store's paths.
        table: ``"ticks"`` or ``"bars"``.
        interval: the folder below the table's.
        zstd_level: compression level.
        max_bytes: size at which a file is cut, between two row groups.
        columns: the layout that fits all rows to come; None takes that of the first rows, which then must be all.
    """

    def __init__(
        self,
        layout: Layout,
        table: str,
        interval: str,
        *,
        zstd_level: int,
        max_bytes: int,
        columns: ColumnLayouts | None = None,
    ) -> None:
        self._layout, self._table, self._interval = layout, table, interval
        self._zstd_level, self._max_bytes, self._columns = zstd_level, max_bytes, columns
        self._keys = _KEYS.get(table, ("symbol",))
        self._carry: pa.Table | None = None
        self._continues: tuple[str, ...] | None = None
        self._file: _OpenFile | None = None
        self._done: list[Written] = []

    def add(self, rows: pa.Table, *, last: bool = False) -> None:
        """Take rows in that follow the ones before; rows whose row group is not settled yet wait for the next call."""
        rows = rows.select([name for name in rows.column_names if name not in _DERIVED])
        if self._carry is not None:
            rows, self._carry = pa.concat_tables([self._carry, rows]), None
        if rows.num_rows == 0:
            return
        rows = rows.unify_dictionaries()
        runs = index_runs(rows, self._keys)
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
            self._write(rows.slice(0, settled), groups)

    def finish(self) -> Written:
        """Write what waits; all files are durable when this returns."""
        if self._carry is not None:
            rows, self._carry = self._carry, None
            self.add(rows, last=True)
        self._close()
        return Written.join(self._done)

    def abandon(self) -> None:
        """Close the open file without using it; no record will list it."""
        if self._file is not None:
            self._file.writer.close()
            self._file.sink.close()
            self._file = None

    def _key_at(self, rows: pa.Table, row: int) -> tuple[str, ...]:
        return tuple(rows[key][row].as_py() for key in self._keys)

    def _write(self, rows: pa.Table, groups: list[tuple[int, int]]) -> None:
        if self._columns is None:
            self._columns = measure_layout(rows)
        begun = 0
        for position, (start, stop) in enumerate(groups):
            # group by group: what is narrowed stays in the cache and its memory is used again
            narrowed = narrow(rows.slice(start, stop - start), self._columns)
            file = self._file or self._open(narrowed.schema)
            file.writer.write_table(_own_dictionaries(narrowed, file.schema), row_group_size=stop - start)
            largest = file.note_group(file.sink.tell())
            is_full = file.sink.tell() + largest > self._max_bytes
            if is_full or position == len(groups) - 1:
                mine = [(a - begun, b - begun) for a, b in groups[: position + 1] if a >= begun]
                file.note_rows(rows.slice(begun, stop - begun), mine, self._keys, self._table)
                begun = stop
            if is_full:
                self._close()

    def _open(self, narrowed: pa.Schema) -> _OpenFile:
        file_id, relative = self._layout.new_file(self._table, self._interval)
        path = self._layout.root / relative
        schema = pa.schema([stored_field(self._table, column) for column in narrowed])
        sink = pa.OSFile(str(path), "wb")
        writer = pq.ParquetWriter(sink, schema, **_options(self._table, schema, self._zstd_level))
        self._file = _OpenFile(file_id, relative, path, schema, sink, writer)
        return self._file

    def _close(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        file.writer.close()
        file.sink.close()
        sync_file(file.path)
        sync_folder(file.path.parent)
        index = file.index_table(self._keys)
        low, high = (min(file.index["min_ns"]), max(file.index["max_ns"])) if file.rows else (None, None)
        line = _file_line(self._layout, file.file_id, self._table, self._interval, file.relative, file.rows, low, high)
        self._done.append(Written(line, index))


@dataclass(slots=True)
class _OpenFile:
    """A file being written, and its index so far."""

    file_id: str
    relative: str
    path: Path
    schema: pa.Schema
    sink: pa.NativeFile
    writer: pq.ParquetWriter
    rows: int = 0
    groups: int = 0
    index: dict[str, list[Any]] = field(default_factory=dict)
    last: list[pa.Table] = field(default_factory=list)
    _bytes: int = 0
    _largest: int = 0

    def note_group(self, bytes_: int) -> int:
        """Note the file's size after a group; returns the largest group's size."""
        self._largest = max(self._largest, bytes_ - self._bytes)
        self._bytes = bytes_
        return self._largest

    def note_rows(self, rows: pa.Table, groups: list[tuple[int, int]], keys: Sequence[str], table: str) -> None:
        """Extend the index by rows just written; a run may go on from the rows before."""
        runs = index_runs(rows, keys)
        columns = {name: runs[name].to_pylist() for name in runs.column_names}
        firsts = rows.take(runs["first_row"])
        columns |= {key: firsts[key].cast(pa.string()).to_pylist() for key in keys}
        first_group, count = groups_of_runs(runs["first_row"].to_numpy(), runs["rows"].to_numpy(), groups)
        columns["first_group"] = [self.groups + group for group in first_group]
        columns["groups"] = count
        columns["first_row"] = [self.rows + row for row in columns["first_row"]]
        last = None
        if table == TICKS:
            ends = runs["first_row"].to_numpy() + runs["rows"].to_numpy() - 1
            last = rows.select([name for name in rows.column_names if name in LAST_ROW.names]).take(pa.array(ends))
        if self.index and all(self.index[key][-1] == columns[key][0] for key in keys):
            self._join(columns)
            if self.last:
                self.last[-1] = self.last[-1].slice(0, self.last[-1].num_rows - 1)
        for name, values in columns.items():
            self.index.setdefault(name, []).extend(values)
        if last is not None:
            self.last.append(last)
        self.rows += rows.num_rows
        self.groups += len(groups)

    def _join(self, columns: dict[str, list[Any]]) -> None:
        """Make the last run and the first of ``columns`` one, in ``columns``."""
        before = {name: values.pop() for name, values in self.index.items()}
        for name in (*_COUNTS, "groups"):
            columns[name][0] += before[name]
        for name in ("first_row", "first_group"):
            columns[name][0] = before[name]
        for name in ("min_ns", "min_sequence"):
            columns[name][0] = min(columns[name][0], before[name])
        for name in ("max_ns", "max_sequence"):
            columns[name][0] = max(columns[name][0], before[name])

    def index_table(self, keys: Sequence[str]) -> pa.Table:
        """The index as rows of `INDEX`."""
        runs = len(self.index.get(keys[-1], ()))
        made = self.index | {"file_id": [self.file_id] * runs, "last": _last_rows(self.last, runs)}
        columns = [
            value
            if isinstance(value := made.get(column.name, [None] * runs), pa.Array)
            else pa.array(value, column.type)
            for column in INDEX
        ]
        return pa.Table.from_arrays(columns, schema=INDEX)


def _last_rows(parts: Sequence[pa.Table], runs: int) -> pa.Array:
    if not parts:
        return pa.nulls(runs, INDEX.field("last").type)
    rows = pa.concat_tables(parts)
    columns = [
        rows[column.name].cast(column.type).combine_chunks()
        if column.name in rows.column_names
        else pa.nulls(runs, column.type)
        for column in LAST_ROW
    ]
    return pa.StructArray.from_arrays(columns, fields=list(LAST_ROW))


def measure_bytes(ticks: pa.Table, *, zstd_level: int) -> int:
    """Bytes that ticks take in a file."""
    narrowed = narrow(ticks, measure_layout(ticks))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, narrowed.schema, **_options(TICKS, narrowed.schema, zstd_level)) as writer:
        writer.write_table(_own_dictionaries(narrowed.unify_dictionaries(), narrowed.schema))
    return len(sink.getvalue())


def describe_file(layout: Layout, file_id: str, table: str, interval: str, relative: str, rows: int) -> pa.Table:
    """The `FILES` line of a file that has no index (quarantine)."""
    return _file_line(layout, file_id, table, interval, relative, rows, None, None)


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


def stored_field(table: str, column: pa.Field) -> pa.Field:
    """The field as files hold it: named by its id."""
    return column.with_metadata({"PARQUET:field_id": str(FIELD_IDS[table][column.name])})


def layout_of(column: pa.Field | None) -> ColumnLayout:
    """The layout that a stored column has; None stands for one that was left out."""
    if column is None:
        return False, False, 0, 0
    digits = whole = 0
    if pa.types.is_decimal(column.type):
        digits = column.type.scale
        whole = (38 if column.type.precision > 18 else 18) - digits
    elif pa.types.is_timestamp(column.type):
        digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[column.type.unit]
    return True, column.nullable, digits, whole


def _options(table: str, schema: pa.Schema, zstd_level: int) -> dict[str, object]:
    delta = {name: "DELTA_BINARY_PACKED" for name in schema.names if name in _DELTA}
    delta = {name: how for name, how in delta.items() if not pa.types.is_decimal128(schema.field(name).type)}
    keys = [*_KEYS.get(table, ("symbol",)), "timestamp_utc"]
    return {
        "compression": "zstd",
        "compression_level": zstd_level,
        "use_dictionary": [name for name in schema.names if name not in delta],
        "column_encoding": delta,
        "store_decimal_as_integer": True,
        "store_schema": False,
        "write_page_checksum": True,
        "write_page_index": True,
        "data_page_size": 64 << 10,
        "sorting_columns": [pq.SortingColumn(schema.get_field_index(name)) for name in keys],
    }


def _own_dictionaries(group: pa.Table, schema: pa.Schema) -> pa.Table:
    """The group with dictionaries of its own values only: a file's whole dictionary in every group is waste."""
    group = group.combine_chunks()
    columns = []
    for column, values in zip(schema, group.columns, strict=True):
        if pa.types.is_dictionary(column.type) and values.num_chunks:
            whole = values.chunk(0)
            if len(whole.dictionary) > 1:
                codes = whole.indices.dictionary_encode()
                values = pa.DictionaryArray.from_arrays(codes.indices, whole.dictionary.take(codes.dictionary))  # noqa: PLW2901
        columns.append(values)
    return pa.Table.from_arrays(columns, schema=schema)


assert set(BAR_SCHEMA.names) >= _DERIVED  # noqa: S101 - a renamed column must not silently be stored
