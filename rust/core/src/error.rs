//! The crate's one error tree. Every variant says what was being done, to what, and what to do next.

use thiserror::Error;

/// What a kernel can refuse.
#[derive(Debug, Error)]
pub enum Error {
    /// The input's columns or types are not those of a tick table.
    #[error("{0}")]
    Schema(String),
    /// An option has a value that the kernel does not take.
    #[error("{0}")]
    Argument(String),
    /// A tick's values cannot be used where they must be.
    #[error("{0}")]
    InvalidTick(String),
    /// A sum leaves its decimal type.
    #[error(
        "{what} of the {timeframe} bar of {symbol:?} at {timestamp_ns} ns leaves {limit}; split the bar or check the volumes"
    )]
    Overflow {
        /// The column that overflows.
        what: &'static str,
        /// The timeframe's label.
        timeframe: String,
        /// The symbol as given.
        symbol: String,
        /// The bar's start, ns since 1970-01-01 UTC.
        timestamp_ns: i64,
        /// The type that is too small.
        limit: &'static str,
    },
    /// A text timeframe is not one we aggregate.
    #[error("timeframe {text:?}: {why}")]
    Timeframe {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A source's structure is broken: the load must stop.
    #[error("{message} (line {line}, column {column})")]
    Structure {
        /// What is broken.
        message: String,
        /// One-based line in the source.
        line: u64,
        /// One-based column (field) in that line; 0 where the whole line is meant.
        column: u64,
    },
    /// The log holds something that was not written by a writer of it.
    #[error("log {path}: {what} at offset {offset}; last good LSN is {last_good_lsn}")]
    LogCorrupt {
        /// The segment.
        path: String,
        /// What was found.
        what: String,
        /// Byte offset of the frame.
        offset: u64,
        /// The last LSN before it.
        last_good_lsn: u64,
    },
    /// A data file is damaged: what is wrong with it.
    #[error("{0}")]
    DataCorrupt(String),
    /// A saved state is damaged or of another version.
    #[error("{0}")]
    State(String),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and to which path.
        doing: String,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
