//! Vendor text to tick columns, straight to fixed point, one chunk of bytes at a time.
//!
//! A chunk is parsed up to its last complete row; the caller carries the rest into the next chunk.
//! Broken structure (quotes, field counts, bytes that are not text) is an error with line and field;
//! a value that cannot be read sets a bit in the row's `faults` and never stops the load.

mod binance;
mod columns;
mod fields;
mod number;
mod scan;
mod spec;
mod strptime;
mod text;
mod time;
mod zone;

pub use binance::{BinanceClock, parse_binance};
pub use spec::{FieldSpec, TextSpec};
pub use text::parse_text;

use arrow_array::RecordBatch;

/// What one chunk gave.
#[derive(Debug)]
pub struct Parsed {
    /// The rows, with canonical column names, `offset` (start of each row in the chunk) and, where a value could not be read, `faults`.
    pub batch: RecordBatch,
    /// Bytes that need not be seen again.
    pub consumed: usize,
    /// Line feeds in those bytes.
    pub lines: u64,
    /// Rows left out by the format itself (Binance depth updates).
    pub skipped: u64,
}

/// Bits of `faults`; the numbers are those of the validation reasons.
pub(crate) mod fault {
    pub(crate) const SYMBOL_MISSING: u32 = 1;
    pub(crate) const NOT_A_NUMBER: u32 = 1 << 5;
    pub(crate) const INEXACT: u32 = 1 << 6;
    pub(crate) const OUT_OF_RANGE: u32 = 1 << 7;
    pub(crate) const TIMESTAMP_MISSING: u32 = 1 << 8;
    pub(crate) const TIMESTAMP_OUT_OF_RANGE: u32 = 1 << 9;
    pub(crate) const TICK_TYPE_UNKNOWN: u32 = 1 << 15;
    pub(crate) const ROUNDED: u32 = 1 << 16;
    pub(crate) const SUSPICIOUS: u32 = 1 << 17;
}
