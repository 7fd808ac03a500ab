//! `aggregate_bars` and `BarAggregator`.

use std::sync::Mutex;

use backtestr_core::Result;
use backtestr_core::aggregate::plan::Plan;
use backtestr_core::aggregate::{self, BarOptions, BarSpec};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::boundary::{ArrowInput, enter, hold, table};
use crate::errors::to_py;

/// The attributes of `backtestr.models.BarSpec` that decide what counts.
#[derive(FromPyObject)]
pub(crate) struct SpecAttributes {
    tick_types: Vec<i8>,
    price_excludes: Vec<String>,
    high_low_excludes: Vec<String>,
    volume_excludes: Vec<String>,
}

/// Options as the kernel takes them.
pub(crate) fn options(
    py: Python<'_>,
    timeframes: &[String],
    price: &str,
    bar_spec: Option<SpecAttributes>,
) -> PyResult<BarOptions> {
    let parse = || {
        let frames =
            timeframes.iter().map(|text| text.parse()).collect::<backtestr_core::Result<Vec<_>>>()?;
        Ok((Plan::new(&frames)?, price.parse()?))
    };
    let (plan, basis) = parse().map_err(|error| to_py(py, error))?;
    let spec = bar_spec.map_or_else(BarSpec::default, |given| BarSpec {
        tick_types: given.tick_types,
        price_excludes: given.price_excludes,
        high_low_excludes: given.high_low_excludes,
        volume_excludes: given.volume_excludes,
    });
    Ok(BarOptions { plan, basis, spec })
}

/// Bars of all ticks; see `_native.pyi`.
#[pyfunction]
#[pyo3(signature = (data, timeframes, *, price = "trade", bar_spec = None))]
pub(crate) fn aggregate_bars<'py>(
    py: Python<'py>,
    data: ArrowInput,
    timeframes: Vec<String>,
    price: &str,
    bar_spec: Option<SpecAttributes>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = options(py, &timeframes, price, bar_spec)?;
    let bars = enter(py, || aggregate::aggregate_bars(&data.batches, &options))?;
    table(py, bars.schema(), vec![bars])
}

/// Bars of ticks that arrive batch by batch; see `_native.pyi`.
#[pyclass(frozen, module = "backtestr")]
pub(crate) struct BarAggregator(Mutex<aggregate::BarAggregator>);

impl BarAggregator {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        kernel: impl FnOnce(&mut aggregate::BarAggregator) -> Result<T> + Send,
    ) -> PyResult<T> {
        enter(py, || kernel(&mut hold(&self.0)))
    }
}

#[pymethods]
impl BarAggregator {
    #[new]
    #[pyo3(signature = (timeframes, *, price = "trade", bar_spec = None))]
    fn new(
        py: Python<'_>,
        timeframes: Vec<String>,
        price: &str,
        bar_spec: Option<SpecAttributes>,
    ) -> PyResult<Self> {
        let options = options(py, &timeframes, price, bar_spec)?;
        Ok(Self(Mutex::new(aggregate::BarAggregator::new(options))))
    }

    /// Add ticks; gives the bars they complete.
    fn update<'py>(&self, py: Python<'py>, data: ArrowInput) -> PyResult<Bound<'py, PyAny>> {
        let bars = self.with(py, |state| state.update(&data.schema, &data.batches))?;
        table(py, bars.schema(), vec![bars])
    }

    /// The running bars as they stand.
    fn peek<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bars = self.with(py, |state| state.peek())?;
        table(py, bars.schema(), vec![bars])
    }

    /// Complete and give the running bars.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bars = self.with(py, |state| state.finish())?;
        table(py, bars.schema(), vec![bars])
    }

    /// Number of rows that came after their bar was completed.
    #[getter]
    fn late_rows(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |state| Ok(state.late_rows()))
    }

    /// Hand over the late rows, as they were given.
    fn take_late<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (schema, late) = self.with(py, |state| Ok(state.take_late()))?;
        table(py, schema.unwrap_or_else(backtestr_core::schema::ticks), late)
    }

    /// Everything the aggregator knows, to go on later.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.with(py, |state| state.to_bytes())?))
    }

    /// The aggregator that `to_bytes` saved.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
        let state = state.to_vec();
        Ok(Self(Mutex::new(enter(py, || aggregate::BarAggregator::from_bytes(&state))?)))
    }
}
