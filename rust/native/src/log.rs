//! `backtestr._native`: the log and the calls that make files durable.

use std::path::PathBuf;
use std::sync::Mutex;

use backtestr_core::log;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::boundary::{enter, hold};

/// The one appender of a store's log; methods may be called from any thread.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct LogWriter(log::Writer);

#[pymethods]
impl LogWriter {
    /// Start an empty log in a folder.
    #[staticmethod]
    fn create(py: Python<'_>, folder: PathBuf, log_id: u64) -> PyResult<Self> {
        enter(py, || log::Writer::create(&folder, log_id)).map(Self)
    }

    /// Go on after the last whole record; `log_id` counts where there is none yet.
    #[staticmethod]
    fn open(py: Python<'_>, folder: PathBuf, log_id: u64) -> PyResult<Self> {
        enter(py, || log::Writer::open(&folder, log_id)).map(Self)
    }

    /// Give a record its LSN and commit time (ns); `wait` makes it durable.
    fn submit(&self, py: Python<'_>, payload: &[u8], time_ns: i64) -> PyResult<(u64, i64)> {
        enter(py, || self.0.submit(payload, time_ns))
    }

    /// Return when the record of an LSN and all before it are durable.
    fn wait(&self, py: Python<'_>, lsn: u64) -> PyResult<()> {
        enter(py, || self.0.wait(lsn))
    }

    /// Make everything durable and mark the end.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || self.0.close())
    }

    /// LSN of the last durable record, 0 in an empty log.
    #[getter]
    fn durable_lsn(&self, py: Python<'_>) -> PyResult<u64> {
        enter(py, || Ok(self.0.durable_lsn()))
    }
}

/// Follows a log from an LSN on; methods may be called from any thread.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct LogReader(Mutex<log::Reader>);

#[pymethods]
impl LogReader {
    #[new]
    fn new(folder: PathBuf, after: u64) -> Self {
        Self(Mutex::new(log::Reader::new(&folder, after)))
    }

    /// Whole records not read yet of the next segment that has some as (LSN, commit time in ns, payload), oldest
    /// first; none at the end of the log.
    fn read_segment<'py>(&self, py: Python<'py>) -> PyResult<Vec<(u64, i64, Bound<'py, PyBytes>)>> {
        let records = enter(py, || hold(&self.0).read_segment())?;
        Ok(records.into_iter().map(|r| (r.lsn, r.time_ns, PyBytes::new(py, &r.payload))).collect())
    }
}

/// Remove the log's segments whose records all have an LSN up to this one; gives their first LSNs.
#[pyfunction]
pub(crate) fn remove_segments(py: Python<'_>, folder: PathBuf, up_to: u64) -> PyResult<Vec<u64>> {
    enter(py, || log::remove_segments(&folder, up_to))
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
