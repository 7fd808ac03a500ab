//! The core's errors as the classes of `backtestr.errors`.

use backtestr_core::Error;
use pyo3::prelude::*;

/// The Python class a kernel's error is raised as.
fn class_name(error: &Error) -> &'static str {
    match error {
        Error::Schema(_) => "SchemaError",
        Error::Argument(_) => "ArgumentError",
        Error::InvalidTick(_) => "InvalidTickError",
        Error::Overflow { .. } => "BarOverflowError",
        Error::Timeframe { .. } => "TimeframeError",
        Error::Structure { .. } => "SourceStructureError",
        Error::LogCorrupt { .. } => "LogCorruptError",
        Error::State(_) => "StateError",
        Error::Io { .. } => "StoreIOError",
    }
}

/// Build the Python exception; the failure to build it is itself the answer.
pub(crate) fn to_py(py: Python<'_>, error: Error) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let class = py.import("backtestr.errors")?.getattr(class_name(&error))?;
        Ok(PyErr::from_value(class.call1((error.to_string(),))?))
    };
    build().unwrap_or_else(|failure| failure)
}
