//! `backtestr._native`: Python bindings of the kernels, one file per core module.

mod aggregate;
mod boundary;
mod errors;
mod vwap;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::aggregate::{BarAggregator, aggregate_bars};
    #[pymodule_export]
    use crate::vwap::vwap_by_symbol;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add(
            "BUILD_PROFILE",
            if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        )
    }
}
