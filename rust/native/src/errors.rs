//! The core's errors as the classes of `backtestr.errors`.

use std::io::ErrorKind;

use backtestr_core::Error;
use pyo3::prelude::*;

/// `ENOSPC`, the same number on Linux and macOS.
const NO_SPACE: i32 = 28;

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
        Error::DataCorrupt(_) => "DataCorruptError",
        Error::State(_) => "StateError",
        Error::Io { .. } => "StoreIOError",
    }
}

/// Build the Python exception; the failure to build it is itself the answer.
pub(crate) fn to_py(py: Python<'_>, error: Error) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let class = py.import("backtestr.errors")?.getattr(class_name(&error))?;
        let raised = class.call1((error.to_string(),))?;
        if let Error::Io { source, .. } = &error {
            let full = (source.kind() == ErrorKind::StorageFull).then_some(NO_SPACE);
            raised.setattr("errno", source.raw_os_error().or(full))?;
        }
        Ok(PyErr::from_value(raised))
    };
    build().unwrap_or_else(|failure| failure)
}
