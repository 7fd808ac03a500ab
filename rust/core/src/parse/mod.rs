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
pub use text::{parse_text, row_end};

use arrow_array::RecordBatch;

use crate::reasons as fault;

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
