//! Vendor text to tick columns.

use arrow_array::RecordBatch;
use arrow_pyarrow::IntoPyArrow;
use backtestr_core::Error;
use backtestr_core::parse::{self, BinanceClock, Parsed, TextSpec};
use pyo3::prelude::*;

use crate::boundary::enter;

type Answer<'py> = (Bound<'py, PyAny>, usize, u64, u64);

fn answer<'py>(py: Python<'py>, parsed: Parsed) -> PyResult<Answer<'py>> {
    let batch: RecordBatch = parsed.batch;
    Ok((batch.into_pyarrow(py)?, parsed.consumed, parsed.lines, parsed.skipped))
}

/// Parse the complete rows of a chunk of delimited text; `spec` is JSON.
#[pyfunction]
#[pyo3(signature = (chunk, spec, *, last, first_line))]
pub(crate) fn parse_text<'py>(
    py: Python<'py>,
    chunk: &[u8],
    spec: &str,
    last: bool,
    first_line: u64,
) -> PyResult<Answer<'py>> {
    let parsed = enter(py, || {
        let spec: TextSpec =
            serde_json::from_str(spec).map_err(|error| Error::Argument(format!("text format: {error}")))?;
        parse::parse_text(chunk, &spec, last, first_line)
    })?;
    answer(py, parsed)
}

/// Parse the complete lines of a chunk of recorded Binance messages.
#[pyfunction]
#[pyo3(signature = (chunk, *, clock, last, first_line))]
pub(crate) fn parse_binance<'py>(
    py: Python<'py>,
    chunk: &[u8],
    clock: &str,
    last: bool,
    first_line: u64,
) -> PyResult<Answer<'py>> {
    let parsed = enter(py, || {
        let clock = match clock {
            "exchange" => BinanceClock::Exchange,
            "receive" => BinanceClock::Receive,
            other => {
                return Err(Error::Argument(format!(
                    "clock {other:?} is not known; give \"exchange\" or \"receive\""
                )));
            }
        };
        parse::parse_binance(chunk, clock, last, first_line)
    })?;
    answer(py, parsed)
}

/// Where the last row ends that surely ends in `data`, whose first row begins in `tail`; 0 where none does.
#[pyfunction]
pub(crate) fn row_end(py: Python<'_>, tail: &[u8], data: &[u8], quote: Option<char>) -> PyResult<usize> {
    let quote = quote.and_then(|quote| u8::try_from(quote).ok());
    enter(py, || Ok(parse::row_end(tail, data, quote)))
}
