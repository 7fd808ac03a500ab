//! Rows to a Parquet file in memory: each column in its smallest exact type, one page a column chunk, each page with a checksum.
//!
//! Columns that mostly move in small steps are delta-encoded, all others have a dictionary for each row group.

mod chunk;
pub(crate) mod delta;
mod dictionary;
pub(crate) mod hybrid;
pub(crate) mod page;
mod stored;
mod values;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::error::{Error, Result};
use crate::layout::{ColumnLayout, narrow};
use page::Codec;

/// A column of the rows to encode.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// What names it in files.
    pub field_id: i32,
    /// The layout that fits its values.
    pub layout: ColumnLayout,
    /// Whether it is delta-encoded, if it is stored in 64 bits.
    pub delta: bool,
}

/// A Parquet file of rows in canonical types.
///
/// # Arguments
/// * `groups`: the row groups, one behind the other from row 0.
/// * `columns`: one for each column of the schema.
/// * `sorted_by`: names of the columns that the rows are sorted by.
///
/// # Errors
/// [`Error::Schema`] for a column of a type that is not stored; [`Error::Argument`] for groups beyond the rows.
pub fn encode_parquet(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    groups: &[Range<usize>],
    columns: &[Column],
    sorted_by: &[String],
    zstd_level: i32,
) -> Result<Vec<u8>> {
    let layouts: Vec<ColumnLayout> = columns.iter().map(|column| column.layout).collect();
    let stored = narrow(&RecordBatch::new_empty(Arc::clone(schema)), &layouts)?.schema();
    let kept: Vec<Column> = columns.iter().filter(|column| column.layout.present).copied().collect();
    let fields = stored.fields().iter().zip(&kept);
    let types = fields
        .map(|(field, column)| stored::parquet_type(field, column.field_id).map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    let root = Type::group_type_builder("schema").with_fields(types).build().map_err(failed)?;
    let sorting = sorted_by
        .iter()
        .filter_map(|name| stored.index_of(name).ok())
        .map(|position| SortingColumn { column_idx: position as i32, descending: false, nulls_first: false });
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_sorting_columns(Some(sorting.collect()))
        .build();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(root), Arc::new(properties)).map_err(failed)?;
    let mut codec = Codec::new(zstd_level, kept.len())?;
    let descriptions = writer.schema_descr().columns().to_vec();
    for group in groups {
        // Group by group: what is narrowed stays in the cache.
        let parts = slices(batches, group)?;
        let parts = parts.iter().map(|part| narrow(part, &layouts)).collect::<Result<Vec<_>>>()?;
        let mut target = writer.next_row_group().map_err(failed)?;
        for (position, column) in kept.iter().enumerate() {
            let arrays: Vec<_> = parts.iter().map(|part| Arc::clone(part.column(position))).collect();
            let description = Arc::clone(&descriptions[position]);
            let (bytes, close) = chunk::encode(&arrays, column.delta, description, position, &mut codec)?;
            target.append_column(&Bytes::from(bytes), close).map_err(failed)?;
        }
        target.close().map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// The rows of a group, in as many parts as there are batches.
fn slices(batches: &[RecordBatch], group: &Range<usize>) -> Result<Vec<RecordBatch>> {
    let (mut parts, mut first, mut taken) = (Vec::new(), 0, 0);
    for batch in batches {
        let start = group.start.clamp(first, first + batch.num_rows()) - first;
        let stop = group.end.clamp(first, first + batch.num_rows()) - first;
        if start < stop {
            parts.push(batch.slice(start, stop - start));
            taken += stop - start;
        }
        first += batch.num_rows();
    }
    if taken == 0 || taken != group.len() {
        return Err(Error::Argument(format!("a row group of rows {group:?}, of {first}")));
    }
    Ok(parts)
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io { doing: "encoding Parquet".into(), source: std::io::Error::other(error) }
}
