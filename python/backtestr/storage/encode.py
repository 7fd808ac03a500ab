"""Rows → Parquet in memory: the smallest exact types, encodings by column, checksums on every page."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from backtestr._native import encode_parquet, measure_layout
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
    ids = FIELD_IDS[table]
    return encode_parquet(
        rows,
        groups,
        columns,
        field_ids=[ids[name] for name in rows.column_names],
        delta=[name in _DELTA for name in rows.column_names],
        sorted_by=[*KEYS[table], "timestamp_utc"],
        zstd_level=zstd_level,
    )


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
