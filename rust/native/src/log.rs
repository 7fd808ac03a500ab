//! `backtestr._native`: the log and the calls that make files durable.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use backtestr_core::log;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::boundary::enter;

/// The one appender of a store's log; methods may be called from any thread.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct LogWriter(Mutex<log::Writer>);

#[pymethods]
impl LogWriter {
    /// Start an empty log in a folder.
    #[staticmethod]
    fn create(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        enter(py, || log::Writer::create(&folder)).map(|writer| Self(Mutex::new(writer)))
    }

    /// Go on after the last whole record.
    #[staticmethod]
    fn open(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        enter(py, || log::Writer::open(&folder)).map(|writer| Self(Mutex::new(writer)))
    }

    /// Append one record; returns (LSN, commit time in ns) once it is durable.
    fn append(&self, py: Python<'_>, payload: &[u8], time_ns: i64) -> PyResult<(u64, i64)> {
        enter(py, || self.0.lock().unwrap_or_else(PoisonError::into_inner).append(payload, time_ns))
    }

    /// LSN of the last record, 0 in an empty log.
    #[getter]
    fn last_lsn(&self, py: Python<'_>) -> PyResult<u64> {
        enter(py, || Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).last_lsn()))
    }
}

/// All records after an LSN as (LSN, commit time in ns, payload), oldest first.
#[pyfunction]
pub(crate) fn read_log<'py>(
    py: Python<'py>,
    folder: PathBuf,
    after: u64,
) -> PyResult<Vec<(u64, i64, Bound<'py, PyBytes>)>> {
    let (records, _) = enter(py, || log::read(&folder, after))?;
    Ok(records.into_iter().map(|r| (r.lsn, r.time_ns, PyBytes::new(py, &r.payload))).collect())
}

/// Make a file's bytes durable.
#[pyfunction]
pub(crate) fn sync_file(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    enter(py, || log::sync_file(&path))
}

/// Make a folder's entries durable.
#[pyfunction]
pub(crate) fn sync_folder(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    enter(py, || log::sync_folder(&path))
}

/// CRC32C of bytes.
#[pyfunction]
pub(crate) fn crc32c(py: Python<'_>, data: &[u8]) -> PyResult<u32> {
    enter(py, || Ok(log::checksum(data)))
}
