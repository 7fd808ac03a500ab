//! Timeframe texts and lengths, for the Python value object.

use backtestr_core::timeframe::Timeframe;
use pyo3::prelude::*;

use crate::errors::to_py;

/// Length in ns of a timeframe's text.
#[pyfunction]
pub(crate) fn timeframe_ns(py: Python<'_>, text: &str) -> PyResult<i64> {
    text.parse::<Timeframe>().map(Timeframe::ns).map_err(|error| to_py(py, error))
}

/// Text of a timeframe of `ns` nanoseconds, in the coarsest unit.
#[pyfunction]
pub(crate) fn timeframe_label(py: Python<'_>, ns: i64) -> PyResult<String> {
    Timeframe::from_ns(ns).map(|timeframe| timeframe.to_string()).map_err(|error| to_py(py, error))
}
