//! `backtestr._native`: Parquet pieces to one file.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;

use backtestr_core::Error;
use backtestr_core::stitch::Stitcher;
use pyo3::prelude::*;

use crate::boundary::{enter, hold};

/// One new Parquet file, made of whole Parquet files held in memory.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct ParquetStitcher(Mutex<Stitcher<File>>);

#[pymethods]
impl ParquetStitcher {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        enter(py, || {
            let name = path.display().to_string();
            let sink = File::create_new(&path)
                .map_err(|source| Error::Io { doing: format!("creating {name}"), source })?;
            Ok(Self(Mutex::new(Stitcher::new(name, sink))))
        })
    }

    /// Append the row groups of a piece; returns the bytes written so far.
    fn append(&self, py: Python<'_>, piece: &[u8]) -> PyResult<u64> {
        enter(py, || hold(&self.0).append(piece.to_vec().into()))
    }

    /// Write the footer and make the file's bytes durable.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || {
            let file = hold(&self.0).finish()?;
            file.sync_all().map_err(|source| Error::Io { doing: "syncing a data file".into(), source })
        })
    }
}
