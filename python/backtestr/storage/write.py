"""Sorted rows → one immutable Parquet file, durable, with its line in the log's index."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backtestr._native import crc32c, index_runs, measure_layout, narrow, sync_file, sync_folder
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.schema import FIELD_IDS
from backtestr.storage.commit import FILES, INDEX
from backtestr.storage.layout import BARS, TICKS, Layout

OWN_GROUPS_FROM = 8_192
OWN_GROUP_ROWS = 32_768
SHARED_GROUP_ROWS = 8_192
_DELTA = {
    "timestamp_utc", "sequence", "price", "bid", "ask", "open", "high", "low", "close", "trade_count",
}  # fmt: skip
_DERIVED = {"vwap"}
_KEYS = {BARS: ("timeframe", "symbol", "price_basis")}


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


def write_file(layout: Layout, table: str, interval: str, rows: pa.Table, *, zstd_level: int) -> Written:
    """Write rows of one table and interval, sorted as the table is, to a new durable file.

    Args:
        layout: the store's paths.
        table: ``"ticks"`` or ``"bars"``.
        interval: the folder below the table's.
        rows: canonical columns; derived ones (vwap) are not stored.
        zstd_level: compression level.

    Returns:
        The file's line and its index, to be committed.
    """
    rows = rows.select([name for name in rows.column_names if name not in _DERIVED])
    rows = rows.unify_dictionaries()
    keys = _KEYS.get(table, ("symbol",))
    runs = index_runs(rows, keys)
    own_rows = SHARED_GROUP_ROWS if table == BARS else OWN_GROUP_ROWS
    groups, first_group, group_count = _cut_groups(runs, own_rows)
    file_id, relative = layout.new_file(table, interval)
    path = layout.root / relative
    narrowed = narrow(rows, measure_layout(rows))
    schema = pa.schema([stored_field(table, field) for field in narrowed.schema])
    with pq.ParquetWriter(path, schema, **_options(table, schema, zstd_level)) as writer:
        for start, stop in groups:
            writer.write_table(
                _own_dictionaries(narrowed.slice(start, stop - start), schema), row_group_size=stop - start
            )
    sync_file(path)
    sync_folder(path.parent)
    low, high = pc.min(runs["min_ns"]).as_py(), pc.max(runs["max_ns"]).as_py()
    line = _file_line(layout, file_id, table, interval, relative, rows.num_rows, low, high)
    first = rows.take(runs["first_row"])
    index = {name: runs[name] for name in runs.column_names}
    index |= {key: first[key].cast(pa.string()) for key in keys}
    index |= {
        "file_id": [file_id] * runs.num_rows,
        "first_group": first_group,
        "groups": group_count,
        "last": list(_last_rows(rows, runs)) if table == TICKS else [None] * runs.num_rows,
    }
    columns = [_as_array(index.get(field.name, [None] * runs.num_rows), field.type) for field in INDEX]
    return Written(line, pa.Table.from_arrays(columns, schema=INDEX))


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
    return pa.table([pa.array([value], field.type) for field, value in zip(FILES, line, strict=True)], schema=FILES)


def read_footer(file: object) -> bytes:
    """A Parquet file's footer, without the length and magic behind it."""
    file.seek(-8, 2)  # type: ignore[attr-defined]
    tail = file.read(8)  # type: ignore[attr-defined]
    (length,) = struct.unpack("<I", tail[:4])
    file.seek(-8 - length, 2)  # type: ignore[attr-defined]
    return file.read(length)  # type: ignore[attr-defined, no-any-return]


def _as_array(values: object, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)


def _cut_groups(runs: pa.Table, own_rows: int) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Row groups as (start, stop), and each run's first group and number of groups."""
    groups: list[tuple[int, int]] = []
    first: list[int] = []
    count: list[int] = []
    shared_from: int | None = None
    for start, rows in zip(runs["first_row"].to_pylist(), runs["rows"].to_pylist(), strict=True):
        stop = start + rows
        if shared_from is not None and (rows >= OWN_GROUPS_FROM or stop - shared_from > SHARED_GROUP_ROWS):
            groups.append((shared_from, start))
            shared_from = None
        first.append(len(groups))
        count.append(1)
        if rows >= OWN_GROUPS_FROM:
            edges = np.linspace(start, stop, -(-rows // own_rows) + 1).astype(int).tolist()
            groups.extend(itertools.pairwise(edges))
            count[-1] = len(edges) - 1
        elif shared_from is None:
            shared_from = start
    if shared_from is not None:
        groups.append((shared_from, stop))
    return groups, first, count


def stored_field(table: str, field: pa.Field) -> pa.Field:
    """The field as files hold it: named by its id."""
    return field.with_metadata({"PARQUET:field_id": str(FIELD_IDS[table][field.name])})


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
    columns = []
    for field, column in zip(schema, group.columns, strict=True):
        has_others = pa.types.is_dictionary(field.type) and len(column.chunk(0).dictionary) > 1
        columns.append(column.cast(field.type.value_type).dictionary_encode() if has_others else column)
    return pa.Table.from_arrays(columns, schema=schema)


def _last_rows(rows: pa.Table, runs: pa.Table) -> Iterator[bytes]:
    last = rows.take(pc.add(runs["first_row"], pc.subtract(runs["rows"], 1))).combine_chunks()
    for row in range(runs.num_rows):
        yield last.slice(row, 1).to_batches()[0].serialize().to_pybytes()


assert set(BAR_SCHEMA.names) >= _DERIVED  # noqa: S101 - a renamed column must not silently be stored
