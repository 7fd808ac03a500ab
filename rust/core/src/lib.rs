//! Pure kernels of backtestr over Arrow arrays and bytes: no Python, no clock, no randomness.

pub mod aggregate;
pub mod columns;
pub mod complete;
pub mod decimal;
pub mod decode;
pub mod encode;
pub mod error;
pub mod layout;
pub mod log;
pub mod models;
pub mod parse;
pub mod reasons;
pub mod round;
pub mod schema;
pub mod sort;
pub mod stitch;
pub mod symbols;
pub mod tally;
pub mod timeframe;
pub mod validate;
pub mod vwap;

pub use error::{Error, Result};
