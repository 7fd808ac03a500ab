//! Pure kernels of backtestr over Arrow arrays and bytes: no Python, no clock, no randomness.

pub mod error;
pub mod parse;
pub mod schema;
pub mod symbols;
pub mod timeframe;

pub use error::{Error, Result};
