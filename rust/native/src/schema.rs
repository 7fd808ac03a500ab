//! The canonical schemas as pyarrow objects.

use arrow_pyarrow::ToPyArrow;
use backtestr_core::schema;
use pyo3::prelude::*;

/// Schema of ticks.
#[pyfunction]
pub(crate) fn tick_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    schema::ticks().to_pyarrow(py)
}

/// Schema of bars.
#[pyfunction]
pub(crate) fn bar_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    schema::bars().to_pyarrow(py)
}
