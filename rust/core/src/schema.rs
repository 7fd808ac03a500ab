//! Canonical columns: names, Arrow types, and the codes stored in them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Decimal places of prices, volumes and sizes.
pub const SCALE: i8 = 8;
/// Units of 1e-8 in one.
pub const ONE: i64 = 100_000_000;
/// Largest magnitude of a `DECIMAL(18, 8)`, in units of 1e-8.
pub const MAX_FIXED: i64 = 999_999_999_999_999_999;
/// First valid instant: 1678-01-01T00:00:00Z in ns.
pub const MIN_TIMESTAMP_NS: i64 = -9_214_560_000_000_000_000;
/// First instant after the valid ones: 2262-01-01T00:00:00Z in ns.
pub const END_TIMESTAMP_NS: i64 = 9_214_646_400_000_000_000;

/// `tick_type` of a trade.
pub const TRADE: i8 = 0;
/// `tick_type` of a quote with a bid only.
pub const BID: i8 = 1;
/// `tick_type` of a quote with an ask only.
pub const ASK: i8 = 2;
/// `tick_type` of a quote with both sides.
pub const COMPOSITE: i8 = 3;

/// The `tick_type` of a row that gives none.
///
/// A price that was traded (volume not 0) makes a trade, whatever quotes come with it; otherwise quotes decide,
/// and a row without any is a trade.
#[inline]
pub fn tick_type_of(has_price: bool, has_volume: bool, has_bid: bool, has_ask: bool) -> i8 {
    match (has_bid, has_ask) {
        _ if has_price && has_volume => TRADE,
        (true, true) => COMPOSITE,
        (true, false) => BID,
        (false, true) => ASK,
        (false, false) => TRADE,
    }
}

/// Price, volume and size: `DECIMAL(18, 8)`.
pub fn fixed() -> DataType {
    DataType::Decimal128(18, 8)
}

/// Bar volume: `DECIMAL(38, 8)`.
pub fn volume_sum() -> DataType {
    DataType::Decimal128(38, 8)
}

/// Bar turnover: `DECIMAL(38, 16)`.
pub fn turnover_sum() -> DataType {
    DataType::Decimal128(38, 16)
}

/// `timestamp[ns, UTC]`.
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Text that repeats: dictionary of 32-bit codes.
pub fn text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Ticks, in column order; the order also breaks ties between ticks of equal time and sequence.
pub fn ticks() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("symbol", text(), false),
        Field::new("timestamp_utc", instant(), false),
        Field::new("sequence", DataType::Int64, false),
        Field::new("epoch", DataType::Int64, false),
        Field::new("tick_type", DataType::Int8, false),
        Field::new("price", fixed(), false),
        Field::new("volume", fixed(), false),
        Field::new("bid", fixed(), true),
        Field::new("ask", fixed(), true),
        Field::new("bid_size", fixed(), true),
        Field::new("ask_size", fixed(), true),
        Field::new("exchange_id", DataType::UInt16, true),
        Field::new("conditions", text(), true),
        Field::new("feed_id", DataType::UInt16, false),
    ]))
}

/// Bars, in column order. Open to close are null only where a `bar_spec` leaves a bucket without an eligible price.
pub fn bars() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("symbol", text(), false),
        Field::new("timeframe", text(), false),
        Field::new("price_basis", text(), false),
        Field::new("timestamp_utc", instant(), false),
        Field::new("open", fixed(), true),
        Field::new("high", fixed(), true),
        Field::new("low", fixed(), true),
        Field::new("close", fixed(), true),
        Field::new("volume", volume_sum(), false),
        Field::new("turnover", turnover_sum(), false),
        Field::new("vwap", fixed(), true),
        Field::new("trade_count", DataType::Int64, false),
    ]))
}
