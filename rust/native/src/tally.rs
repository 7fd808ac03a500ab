//! `backtestr._native`: counts that the store keeps.

use backtestr_core::tally;
use pyo3::prelude::*;

use crate::boundary::{ArrowInput, enter, table};

type SymbolTallies = Vec<(String, i64, i64, [i64; 4])>;
type DayCounts = Vec<(i64, i64)>;

/// Per symbol (name, first ns, last ns, rows of each tick type), and per day (days since 1970-01-01, rows).
#[pyfunction]
pub(crate) fn tally_ticks(py: Python<'_>, data: ArrowInput) -> PyResult<(SymbolTallies, DayCounts)> {
    let (symbols, days) = enter(py, || tally::tally_ticks(&data.batches))?;
    let symbols = symbols.into_iter().map(|(name, t)| (name, t.low, t.high, t.kinds)).collect();
    Ok((symbols, days.into_iter().collect()))
}

/// Runs of rows with equal keys, in order, with what is in each.
#[pyfunction]
pub(crate) fn index_runs<'py>(
    py: Python<'py>,
    data: ArrowInput,
    keys: Vec<String>,
) -> PyResult<Bound<'py, PyAny>> {
    let runs = enter(py, || tally::index_runs(&data.batches, &keys))?;
    table(py, runs.schema(), vec![runs])
}
