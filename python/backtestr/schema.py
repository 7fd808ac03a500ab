"""Canonical columns: their Arrow types, and the integer ids that name them in files."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from backtestr.instants import END_NS, MIN_NS, Instant, to_datetime, to_iso, to_ns

__all__ = [
    "BARS",
    "END_NS",
    "FIELD_IDS",
    "FIXED",
    "INSTANT",
    "MIN_NS",
    "QUARANTINE",
    "STORED_BARS",
    "TEXT",
    "TICKS",
    "TURNOVER_SUM",
    "VOLUME_SUM",
    "Instant",
    "to_datetime",
    "to_iso",
    "to_ns",
]

FIXED: Final = pa.decimal128(18, 8)
"""Prices, volumes and sizes: integers of 1e-8."""
VOLUME_SUM: Final = pa.decimal128(38, 8)
"""Volume of a bar."""
TURNOVER_SUM: Final = pa.decimal128(38, 16)
"""Sum of price times volume of a bar."""
INSTANT: Final = pa.timestamp("ns", tz="UTC")
"""Nanoseconds since 1970-01-01 UTC."""
TEXT: Final = pa.dictionary(pa.int32(), pa.string())
"""Text that repeats."""

TICKS: Final = pa.schema(
    [
        pa.field("symbol", TEXT, nullable=False),
        pa.field("timestamp_utc", INSTANT, nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("tick_type", pa.int8(), nullable=False),
        pa.field("price", FIXED, nullable=False),
        pa.field("volume", FIXED, nullable=False),
        pa.field("bid", FIXED),
        pa.field("ask", FIXED),
        pa.field("bid_size", FIXED),
        pa.field("ask_size", FIXED),
        pa.field("exchange_id", pa.uint16()),
        pa.field("conditions", TEXT),
        pa.field("feed_id", pa.uint16(), nullable=False),
    ]
)
"""Ticks, in column order; the order also breaks ties between ticks of equal time and sequence."""

BARS: Final = pa.schema(
    [
        pa.field("symbol", TEXT, nullable=False),
        pa.field("timeframe", TEXT, nullable=False),
        pa.field("price_basis", TEXT, nullable=False),
        pa.field("timestamp_utc", INSTANT, nullable=False),
        pa.field("open", FIXED),
        pa.field("high", FIXED),
        pa.field("low", FIXED),
        pa.field("close", FIXED),
        pa.field("volume", VOLUME_SUM, nullable=False),
        pa.field("turnover", TURNOVER_SUM, nullable=False),
        pa.field("vwap", FIXED),
        pa.field("trade_count", pa.int64(), nullable=False),
    ]
)
"""Bars, in column order; open to close are null only where a bar spec leaves a bucket without an eligible price."""

STORED_BARS: Final = pa.schema([field for field in BARS if field.name != "vwap"])
"""Bars as files hold them: vwap is turnover / volume, computed on read."""

QUARANTINE: Final = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("line", pa.int64()),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("raw", pa.string()),
        pa.field("symbol", pa.string()),
    ]
)
"""Rejected rows: where each came from, why it was refused, and its text."""

FIELD_IDS: Final[dict[str, dict[str, int]]] = {
    "ticks": {name: number for number, name in enumerate(TICKS.names, start=1)},
    "bars": {name: number for number, name in enumerate(BARS.names, start=1)},
    "quarantine": {name: number for number, name in enumerate(QUARANTINE.names, start=1)},
}
"""Number of each column in the files of a table: a column keeps it when it is renamed, and it is never given again."""
