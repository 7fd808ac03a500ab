//! `backtestr._native`: Python bindings of the kernels, one file per core module.

mod aggregate;
mod boundary;
mod cache;
mod decode;
mod encode;
mod errors;
mod layout;
mod log;
mod models;
mod parse;
mod schema;
mod sort;
mod stitch;
mod tally;
mod validate;
mod vwap;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::cache::GroupCache;
    #[pymodule_export]
    use crate::decode::ParquetFooter;
    #[pymodule_export]
    use crate::encode::encode_parquet;
    #[pymodule_export]
    use crate::layout::{measure_layout, narrow, widen};
    #[pymodule_export]
    use crate::log::{LogReader, LogWriter, crc32c, remove_segments, sync_file, sync_folder};
    #[pymodule_export]
    use crate::models::{timeframe_label, timeframe_ns};
    #[pymodule_export]
    use crate::parse::{parse_binance, parse_text, row_end};
    #[pymodule_export]
    use crate::schema::{bar_schema, tick_schema};
    #[pymodule_export]
    use crate::sort::sort_ticks;
    #[pymodule_export]
    use crate::stitch::ParquetStitcher;
    #[pymodule_export]
    use crate::tally::{index_runs, tally_ticks};

    #[pymodule_export]
    use crate::aggregate::{BarAggregator, aggregate_bars};
    #[pymodule_export]
    use crate::validate::{TickValidator, complete_ticks, validate_ticks};
    #[pymodule_export]
    use crate::vwap::{append_vwap, vwap_by_symbol};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("REASONS", crate::validate::reasons(module.py())?)?;
        module.add("BUILD_PROFILE", if cfg!(debug_assertions) { "debug" } else { "release" })
    }
}
