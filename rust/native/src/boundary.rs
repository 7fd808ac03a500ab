//! The one door between Python and the kernels: Arrow in, the GIL released, errors mapped, Arrow out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use arrow_array::ffi_stream::RecordBatchStreamReader;
use arrow_pyarrow::{FromPyArrow, IntoPyArrow, Table};
use arrow_schema::SchemaRef;
use backtestr_core::Result;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::errors::to_py;

/// Run a kernel with the GIL released and raise its error as the Python class of the same name.
pub(crate) fn enter<T: Send>(py: Python<'_>, kernel: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(kernel).map_err(|error| to_py(py, error))
}

/// A class's state, for one thread at a time; a kernel that panicked before leaves it as it was then.
pub(crate) fn hold<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Any object that speaks the Arrow PyCapsule interface, as record batches.
pub(crate) struct ArrowInput {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

impl<'a, 'py> FromPyObject<'a, 'py> for ArrowInput {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let object = &*object;
        if object.hasattr("__arrow_c_stream__")? {
            let reader = RecordBatchStreamReader::from_pyarrow_bound(object)?;
            let schema = arrow_array::RecordBatchReader::schema(&reader);
            let batches = reader
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|error| PyTypeError::new_err(format!("reading the Arrow stream: {error}")))?;
            return Ok(Self { schema, batches });
        }
        if object.hasattr("__arrow_c_array__")? {
            let batch = RecordBatch::from_pyarrow_bound(object)?;
            return Ok(Self { schema: batch.schema(), batches: vec![batch] });
        }
        Err(PyTypeError::new_err(format!(
            "expected Arrow data (an object with __arrow_c_stream__ or __arrow_c_array__, such as a pyarrow, polars or pandas frame), got {}",
            object.get_type().name()?
        )))
    }
}

/// Batches of one schema as a `pyarrow.Table`.
pub(crate) fn table<'py>(
    py: Python<'py>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> PyResult<Bound<'py, PyAny>> {
    Table::try_new(batches, schema).map_err(|error| PyTypeError::new_err(error.to_string()))?.into_pyarrow(py)
}
