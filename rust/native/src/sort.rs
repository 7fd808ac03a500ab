//! `backtestr._native.sort_ticks`.

use backtestr_core::sort;
use pyo3::prelude::*;

use crate::boundary::{ArrowInput, enter, table};

/// Ticks in the store's order; the input's own buffers where they are in that order already.
#[pyfunction]
pub(crate) fn sort_ticks<'py>(py: Python<'py>, data: ArrowInput) -> PyResult<Bound<'py, PyAny>> {
    let batches = enter(py, || sort::sort_ticks(&data.batches))?;
    let schema = batches.first().map_or(data.schema, |batch| batch.schema());
    table(py, schema, batches)
}
