//! `backtestr._native`: Python bindings of the kernels, one file per core module.

mod boundary;
mod errors;
mod models;
mod schema;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::models::{timeframe_label, timeframe_ns};
    #[pymodule_export]
    use crate::schema::{bar_schema, tick_schema};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("BUILD_PROFILE", if cfg!(debug_assertions) { "debug" } else { "release" })
    }
}
