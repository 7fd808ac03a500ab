"""Rows → Parquet in memory: the smallest exact types, encodings by column, checksums on every page."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import measure_layout, narrow
from backtestr.schema import FIELD_IDS
from backtestr.storage.groups import Groups
from backtestr.storage.layout import BARS, TICKS

ColumnLayout = tuple[bool, bool, int, int]
"""Whether a column is present, whether it has nulls, its decimal places, and its digits before the point."""
ColumnLayouts = list[ColumnLayout]

KEYS = {TICKS: ("symbol",), BARS: ("timeframe", "symbol", "price_basis")}
"""What files are sorted by, before time."""
_DELTA = {
    "timestamp_utc", "sequence", "price", "bid", "ask", "open", "high", "low", "close", "trade_count",
}  # fmt: skip


def encode(table: str, rows: pa.Table, groups: Groups, columns: ColumnLayouts, *, zstd_level: int) -> bytes:
    """A Parquet file of rows of ``"ticks"`` or ``"bars"``.

    Args:
        table: whose rows they are.
        rows: in canonical types.
        groups: where row groups start and stop; the first starts at 0.
        columns: the layout that fits the rows.
        zstd_level: compression level.
    """
    sink = pa.BufferOutputStream()
    writer = None
    for start, stop in groups:
        # group by group: what is narrowed stays in the cache and its memory is used again
        narrowed = narrow(rows.slice(start, stop - start), columns)
        if writer is None:
            schema = pa.schema([stored_field(table, column) for column in narrowed.schema])
            writer = pq.ParquetWriter(sink, schema, **_options(table, schema, zstd_level))
        writer.write_table(_own_dictionaries(narrowed, schema), row_group_size=stop - start)
    assert writer is not None  # noqa: S101 - a piece has rows
    writer.close()
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def measure_bytes(ticks: pa.Table, *, zstd_level: int) -> int:
    """Bytes that ticks take in a file."""
    ticks = ticks.unify_dictionaries()
    return len(encode(TICKS, ticks, [(0, ticks.num_rows)], measure_layout(ticks), zstd_level=zstd_level))


def stored_field(table: str, column: pa.Field) -> pa.Field:
    """The field as files hold it: named by its id."""
    return column.with_metadata({"PARQUET:field_id": str(FIELD_IDS[table][column.name])})


def merge_layouts(parts: Sequence[ColumnLayouts]) -> ColumnLayouts:
    """The layout that fits all parts of some rows."""
    return [
        (any(present), any(nulls), max(digits), max(whole))
        for present, nulls, digits, whole in (zip(*column, strict=True) for column in zip(*parts, strict=True))
    ]


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
    keys = [*KEYS[table], "timestamp_utc"]
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
