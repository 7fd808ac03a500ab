//! `vwap`.

use backtestr_core::vwap;
use pyo3::prelude::*;

use crate::boundary::{ArrowInput, enter, table};

/// Volume-weighted average price of each symbol's trades; see `_native.pyi`.
#[pyfunction]
#[pyo3(name = "vwap")]
pub(crate) fn vwap_by_symbol<'py>(py: Python<'py>, data: ArrowInput) -> PyResult<Bound<'py, PyAny>> {
    let sums = enter(py, || vwap::vwap(&data.batches))?;
    table(py, vwap::schema(), vec![sums])
}

/// Stored bars with their vwap.
#[pyfunction]
pub(crate) fn append_vwap<'py>(py: Python<'py>, data: ArrowInput) -> PyResult<Bound<'py, PyAny>> {
    let bars = enter(py, || data.batches.iter().map(vwap::append_vwap).collect::<Result<_, _>>())?;
    table(py, backtestr_core::schema::bars(), bars)
}
