//! The one door between Python and the kernels: Arrow in, the GIL released, errors mapped, Arrow out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::ffi_stream::RecordBatchStreamReader;
use arrow_array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_pyarrow::{FromPyArrow, IntoPyArrow};
use arrow_schema::SchemaRef;
use backtestr_core::Result;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
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
        // a record batch has both, and is handed over sooner as one array
        if object.hasattr("__arrow_c_array__")? {
            let batch = RecordBatch::from_pyarrow_bound(object)?;
            return Ok(Self { schema: batch.schema(), batches: vec![batch] });
        }
        if object.hasattr("__arrow_c_stream__")? {
            let reader = RecordBatchStreamReader::from_pyarrow_bound(object)?;
            let schema = reader.schema();
            let batches = reader
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|error| PyTypeError::new_err(format!("reading the Arrow stream: {error}")))?;
            return Ok(Self { schema, batches });
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
    // one stream for all of them: a table of arrow-pyarrow's crosses once for each batch, and for the schema
    let batches = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
    let reader: Box<dyn RecordBatchReader + Send> = Box::new(batches);
    reader.into_pyarrow(py)?.call_method0(intern!(py, "read_all"))
}
