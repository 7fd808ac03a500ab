//! Why a row is rejected or flagged: one bit each.

/// Missing or empty symbol.
pub const SYMBOL_MISSING: u32 = 1;
/// No price where the tick's type needs one.
pub const PRICE_MISSING: u32 = 1 << 1;
/// A price of zero.
pub const PRICE_ZERO: u32 = 1 << 2;
/// A price below zero.
pub const PRICE_NEGATIVE: u32 = 1 << 3;
/// A volume or size below zero.
pub const VOLUME_NEGATIVE: u32 = 1 << 4;
/// NaN, infinite or unreadable.
pub const NOT_A_NUMBER: u32 = 1 << 5;
/// More than eight decimals.
pub const INEXACT: u32 = 1 << 6;
/// More than 18 digits.
pub const OUT_OF_RANGE: u32 = 1 << 7;
/// Missing or unreadable timestamp.
pub const TIMESTAMP_MISSING: u32 = 1 << 8;
/// Timestamp outside [1678, 2262).
pub const TIMESTAMP_OUT_OF_RANGE: u32 = 1 << 9;
/// Timestamp after the present.
pub const TIMESTAMP_FUTURE: u32 = 1 << 10;
/// Bid above ask.
pub const QUOTE_CROSSED: u32 = 1 << 11;
/// Bid equal to ask.
pub const QUOTE_LOCKED: u32 = 1 << 12;
/// Before the symbol's row before it.
pub const OUT_OF_ORDER: u32 = 1 << 13;
/// A change of price beyond the bound.
pub const PRICE_JUMP: u32 = 1 << 14;
/// No known tick type.
pub const TICK_TYPE_UNKNOWN: u32 = 1 << 15;
/// A float with more than eight decimals, rounded half-even.
pub const ROUNDED: u32 = 1 << 16;
/// Marked by the vendor.
pub const SUSPICIOUS: u32 = 1 << 17;

/// Every reason with its name, by bit.
pub const ALL: [(&str, u32); 18] = [
    ("symbol_missing", SYMBOL_MISSING),
    ("price_missing", PRICE_MISSING),
    ("price_zero", PRICE_ZERO),
    ("price_negative", PRICE_NEGATIVE),
    ("volume_negative", VOLUME_NEGATIVE),
    ("not_a_number", NOT_A_NUMBER),
    ("inexact", INEXACT),
    ("out_of_range", OUT_OF_RANGE),
    ("timestamp_missing", TIMESTAMP_MISSING),
    ("timestamp_out_of_range", TIMESTAMP_OUT_OF_RANGE),
    ("timestamp_future", TIMESTAMP_FUTURE),
    ("quote_crossed", QUOTE_CROSSED),
    ("quote_locked", QUOTE_LOCKED),
    ("out_of_order", OUT_OF_ORDER),
    ("price_jump", PRICE_JUMP),
    ("tick_type_unknown", TICK_TYPE_UNKNOWN),
    ("rounded", ROUNDED),
    ("suspicious", SUSPICIOUS),
];

/// Reasons that reject under any rules: such a row has no place in a table of ticks.
pub const UNSTORABLE: u32 = SYMBOL_MISSING
    | PRICE_MISSING
    | NOT_A_NUMBER
    | INEXACT
    | OUT_OF_RANGE
    | TIMESTAMP_MISSING
    | TIMESTAMP_OUT_OF_RANGE
    | TICK_TYPE_UNKNOWN;

/// Reasons that reject by default.
pub const DEFAULT_REJECT: u32 = UNSTORABLE | PRICE_ZERO | PRICE_NEGATIVE | VOLUME_NEGATIVE | TIMESTAMP_FUTURE;

/// Reasons that only count by default.
pub const DEFAULT_FLAG: u32 = QUOTE_CROSSED | QUOTE_LOCKED | OUT_OF_ORDER | ROUNDED | SUSPICIOUS;
