//! Pure kernels of backtestr over Arrow arrays and bytes: no Python, no clock, no randomness.

pub mod aggregate;
pub mod error;
pub mod round;
pub mod schema;
pub mod symbols;
pub mod timeframe;
pub mod vwap;

pub use error::{Error, Result};
