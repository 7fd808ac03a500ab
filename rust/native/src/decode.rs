//! `backtestr._native`: row groups of our Parquet files to rows.

use arrow_pyarrow::{IntoPyArrow, PyArrowType};
use arrow_schema::Schema;
use backtestr_core::decode::Footer;
use pyo3::prelude::*;
use std::sync::Arc;

use crate::boundary::enter;

/// What a Parquet file's footer says.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct ParquetFooter(Footer);

#[pymethods]
impl ParquetFooter {
    #[new]
    fn new(py: Python<'_>, footer: &[u8]) -> PyResult<Self> {
        enter(py, || Footer::parse(footer)).map(Self)
    }

    #[getter]
    fn first_rows(&self) -> Vec<usize> {
        self.0.first_rows()
    }

    #[getter]
    fn times_ns(&self) -> Vec<(i64, i64)> {
        self.0.times_ns().to_vec()
    }

    #[getter]
    fn first_group_end(&self) -> u64 {
        self.0.first_group_end()
    }

    fn is_own(&self, data: &[u8]) -> bool {
        self.0.is_own(data)
    }

    fn extent(
        &self,
        py: Python<'_>,
        first: usize,
        stop: usize,
        schema: PyArrowType<Schema>,
    ) -> PyResult<(u64, u64)> {
        let schema = Arc::new(schema.0);
        enter(py, || self.0.extent(first..stop, &schema)).map(|place| (place.start, place.end))
    }

    #[pyo3(signature = (first, stop, schema, data, offset, *, verify, threads))]
    #[allow(clippy::too_many_arguments)] // one for each keyword
    fn decode<'py>(
        &self,
        py: Python<'py>,
        first: usize,
        stop: usize,
        schema: PyArrowType<Schema>,
        data: &[u8],
        offset: u64,
        verify: bool,
        threads: usize,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, usize)>> {
        let schema = Arc::new(schema.0);
        let made = enter(py, || self.0.decode(first..stop, &schema, data, offset, verify, threads))?;
        made.into_iter().map(|(batch, bytes)| Ok((batch.into_pyarrow(py)?, bytes))).collect()
    }
}
