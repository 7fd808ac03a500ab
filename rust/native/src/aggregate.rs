//! `aggregate_bars` and `BarAggregator`.

use backtestr_core::aggregate::plan::Plan;
use backtestr_core::aggregate::{self, BarOptions, BarSpec};
use pyo3::prelude::*;

use crate::boundary::{ArrowInput, enter, table};
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
