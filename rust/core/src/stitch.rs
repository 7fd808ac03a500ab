//! One Parquet file from whole Parquet files: row groups are copied as they are, so that they can be encoded in parallel.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;

use crate::error::{Error, Result};

/// Writes the row groups of pieces one behind the other; the first piece's schema and sorting columns are the file's.
pub struct Stitcher<W: Write + Send> {
    name: String,
    state: State<W>,
}

enum State<W: Write + Send> {
    Empty(W),
    Open(SerializedFileWriter<W>),
    Closed,
}

impl<W: Write + Send> Stitcher<W> {
    /// Start a file that goes to `sink`; `name` is for messages.
    pub fn new(name: String, sink: W) -> Self {
        Self { name, state: State::Empty(sink) }
    }

    /// Append all row groups of a piece, a whole Parquet file; returns the bytes written so far.
    ///
    /// # Errors
    /// [`Error::Io`]: the sink refuses, the piece is damaged or of another schema. The file is unusable then.
    pub fn append(&mut self, piece: Bytes) -> Result<u64> {
        self.copy(&piece).map_err(|error| {
            self.state = State::Closed;
            failed(&self.name, error)
        })
    }

    /// Write the footer; returns the sink.
    ///
    /// # Errors
    /// [`Error::Io`]: the sink refuses, or there was no piece.
    pub fn finish(&mut self) -> Result<W> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(writer) => writer.into_inner().map_err(|error| failed(&self.name, error)),
            State::Empty(_) | State::Closed => Err(failed(&self.name, "no piece to make a file of")),
        }
    }

    fn copy(&mut self, piece: &Bytes) -> parquet::errors::Result<u64> {
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Required)
            .parse_and_finish(piece)?;
        let mut writer = match std::mem::replace(&mut self.state, State::Closed) {
            State::Empty(sink) => open(sink, &metadata)?,
            State::Open(writer) => writer,
            State::Closed => return Err(parquet::errors::ParquetError::General("the file is closed".into())),
        };
        let pages = metadata.page_index();
        for (group, rows) in metadata.row_groups().iter().enumerate() {
            let mut target = writer.next_row_group()?;
            for (position, column) in rows.columns().iter().enumerate() {
                let chunk = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size())?,
                    rows_written: u64::try_from(rows.num_rows())?,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: pages.and_then(|pages| pages.column_index(group, position)).cloned(),
                    offset_index: pages.and_then(|pages| pages.offset_index(group, position)).cloned(),
                };
                target.append_column(piece, chunk)?;
            }
            target.close()?;
        }
        let written = writer.bytes_written() as u64;
        self.state = State::Open(writer);
        Ok(written)
    }
}

fn open<W: Write + Send>(
    sink: W,
    first: &ParquetMetaData,
) -> parquet::errors::Result<SerializedFileWriter<W>> {
    let sorting = first.row_groups().first().and_then(|rows| rows.sorting_columns()).cloned();
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by(concat!("backtestr ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_sorting_columns(sorting)
        .build();
    SerializedFileWriter::new(
        sink,
        first.file_metadata().schema_descr().root_schema_ptr(),
        Arc::new(properties),
    )
}

fn failed(name: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    // the Parquet writer hands some of the sink's errors on as text alone
    let is_full = error.to_string().contains("(os error 28)");
    let kind = if is_full { ErrorKind::StorageFull } else { ErrorKind::Other };
    Error::Io { doing: format!("writing {name}"), source: std::io::Error::new(kind, error) }
}
