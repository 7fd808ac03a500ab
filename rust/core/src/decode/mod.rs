//! Row groups of the Parquet files that `encode` makes, straight to canonical types.
//!
//! Whatever differs from that form by a bit is refused, page headers included, which no checksum covers.

mod bits;
mod column;
mod delta;
mod hybrid;
mod page;
mod zeros;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, SchemaRef};
use parquet::basic::{CompressionCodec, Encoding, LogicalType, TimeUnit, Type as Physical};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::error::{Error, Result};
use page::Reader;

/// What a file's footer says.
#[derive(Debug)]
pub struct Footer {
    columns: Vec<Stored>,
    groups: Vec<Group>,
    times_ns: Vec<(i64, i64)>,
    is_own: bool,
}

/// A column as it is stored.
#[derive(Debug)]
struct Stored {
    name: String,
    is_optional: bool,
    /// Bytes of a number.
    width: usize,
    kind: Option<LogicalType>,
}

#[derive(Debug)]
struct Group {
    rows: usize,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    place: Range<u64>,
    /// Bytes of its pages, decompressed, and of their headers.
    raw: usize,
    has_dictionary: bool,
    is_zstd: bool,
}

/// Rows of a group, and the bytes of memory that they take for themselves.
pub type Decoded = (RecordBatch, usize);

impl Footer {
    /// Read a footer, without the length and magic behind it.
    ///
    /// # Errors
    /// [`Error::DataCorrupt`]: it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let metadata = ParquetMetaDataReader::decode_metadata(bytes).map_err(corrupt)?;
        let descriptions = metadata.file_metadata().schema_descr().columns();
        let columns: Vec<_> = descriptions.iter().map(|column| Stored::of(column)).collect();
        let time = columns.iter().position(|column| column.name == "timestamp_utc");
        let mut is_own = true;
        let (mut groups, mut times_ns) = (Vec::new(), Vec::new());
        for group in metadata.row_groups() {
            is_own &= group.columns().iter().all(is_of_our_form);
            let chunks = group.columns().iter().map(Chunk::of).collect::<Result<_>>()?;
            groups.push(Group { rows: usize::try_from(group.num_rows()).map_err(corrupt)?, chunks });
            if let Some(time) = time
                && let Some(Statistics::Int64(known)) = group.column(time).statistics()
                && let (Some(low), Some(high)) = (known.min_opt(), known.max_opt())
            {
                let unit = columns[time].unit_ns().ok_or_else(|| corrupt("instants of no unit"))?;
                times_ns.push((low.wrapping_mul(unit), high.wrapping_mul(unit)));
            }
        }
        Ok(Self { columns, groups, times_ns, is_own })
    }

    /// Number of each group's first row, and of the row after the last.
    pub fn first_rows(&self) -> Vec<usize> {
        let mut first = 0;
        let mut rows = vec![0];
        rows.extend(self.groups.iter().map(|group| {
            first += group.rows;
            first
        }));
        rows
    }

    /// First and last instant of each group; empty where the file has none.
    pub fn times_ns(&self) -> &[(i64, i64)] {
        &self.times_ns
    }

    /// Whether `encode` made its groups, so that [`Footer::decode`] reads them.
    ///
    /// # Arguments
    /// * `data`: bytes of the file up to the end of its first group. Groups of other writers may have footers like ours,
    ///   but not dictionaries; one like ours is enough, as single headers may be damaged.
    pub fn is_own(&self, data: &[u8]) -> bool {
        let has_our_dictionary = |chunk: &Chunk| {
            let bytes = usize::try_from(chunk.place.start).ok().and_then(|start| data.get(start..));
            chunk.has_dictionary && bytes.is_some_and(page::is_our_dictionary)
        };
        self.is_own && self.groups.first().is_some_and(|group| group.chunks.iter().any(has_our_dictionary))
    }

    /// Bytes of the file up to the end of its first group; 0 without one.
    pub fn first_group_end(&self) -> u64 {
        let chunks = self.groups.first().map_or(&[][..], |group| &group.chunks);
        chunks.iter().map(|chunk| chunk.place.end).max().unwrap_or(0)
    }

    /// Where in the file columns of some groups are: its first byte and the one behind the last.
    ///
    /// # Errors
    /// [`Error::Argument`] for a group that is not there.
    pub fn extent(&self, groups: Range<usize>, schema: &SchemaRef) -> Result<Range<u64>> {
        let wanted = |column: &Stored| schema.index_of(&column.name).is_ok();
        let (mut first, mut stop) = (u64::MAX, 0);
        for group in self.some(groups)? {
            let chunks = group.chunks.iter().zip(&self.columns).filter(|(_, column)| wanted(column));
            for (chunk, _) in chunks {
                first = first.min(chunk.place.start);
                stop = stop.max(chunk.place.end);
            }
        }
        Ok(first.min(stop)..stop)
    }

    /// Some groups in the canonical types of `schema`; columns that the file leaves out are null, or 0 where nulls are
    /// not allowed.
    ///
    /// # Arguments
    /// * `data`: bytes of the file from `offset` on, with the [`Footer::extent`] of the groups.
    /// * `verify`: whether the checksums of pages are.
    /// * `threads`: at most so many at work.
    ///
    /// # Errors
    /// [`Error::DataCorrupt`]: something is not as it was written; [`Error::Schema`] for a column that cannot be one of
    /// `schema`.
    pub fn decode(
        &self,
        groups: Range<usize>,
        schema: &SchemaRef,
        data: &[u8],
        offset: u64,
        verify: bool,
        threads: usize,
    ) -> Result<Vec<Decoded>> {
        let groups = self.some(groups)?;
        let one = |group: &Group, reader: &mut Reader| self.decode_group(group, schema, data, offset, reader);
        if threads < 2 || groups.len() < 2 {
            let mut reader = Reader::new(verify)?;
            return groups.iter().map(|group| one(group, &mut reader)).collect();
        }
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(groups.len())));
        let work = || -> Result<()> {
            let mut reader = Reader::new(verify)?;
            while let Some((place, group)) = {
                let place = next.fetch_add(1, Ordering::Relaxed);
                groups.get(place).map(|group| (place, group))
            } {
                let made = one(group, &mut reader);
                done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, made));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(groups.len()) {
                // Without more threads this one does it all.
                drop(std::thread::Builder::new().spawn_scoped(scope, work));
            }
            work()
        })?;
        let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, made)| made).collect()
    }

    fn some(&self, groups: Range<usize>) -> Result<&[Group]> {
        let count = self.groups.len();
        self.groups
            .get(groups.clone())
            .ok_or_else(|| Error::Argument(format!("row groups {groups:?} of {count}")))
    }

    fn decode_group(
        &self,
        group: &Group,
        schema: &SchemaRef,
        data: &[u8],
        offset: u64,
        reader: &mut Reader,
    ) -> Result<Decoded> {
        let (mut arrays, mut bytes): (Vec<ArrayRef>, _) = (Vec::with_capacity(schema.fields().len()), 0);
        for field in schema.fields() {
            let Some(position) = self.columns.iter().position(|column| column.name == *field.name()) else {
                arrays.push(zeros::left_out(field, group.rows));
                continue;
            };
            let (chunk, stored) = (&group.chunks[position], &self.columns[position]);
            let place = chunk.place.start.checked_sub(offset).zip(chunk.place.end.checked_sub(offset));
            let place = place.map(|(start, end)| start as usize..end as usize);
            let found = place
                .and_then(|place| data.get(place))
                .ok_or_else(|| corrupt("a file that ends too early"))?;
            let (array, size) = column::decode(found, chunk, stored, group.rows, field, reader)
                .map_err(|error| of_column(error, field.name()))?;
            arrays.push(array);
            bytes += size;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(group.rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(corrupt)?;
        Ok((batch, bytes))
    }
}

impl Stored {
    fn of(column: &ColumnDescriptor) -> Self {
        Self {
            name: column.name().to_owned(),
            is_optional: column.max_def_level() > 0,
            width: match column.physical_type() {
                Physical::INT32 => 4,
                Physical::INT64 => 8,
                Physical::FIXED_LEN_BYTE_ARRAY => usize::try_from(column.type_length()).unwrap_or(0),
                _ => 0,
            },
            kind: column.logical_type_ref().cloned(),
        }
    }

    fn unit_ns(&self) -> Option<i64> {
        match &self.kind {
            Some(LogicalType::Timestamp(kind)) => Some(match kind.unit {
                TimeUnit::MILLIS => 1_000_000,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1,
            }),
            _ => None,
        }
    }

    /// What a stored number is multiplied by in the canonical column.
    fn factor_to(&self, field: &Field) -> Result<u64> {
        let factor = match (field.data_type(), &self.kind, self.width) {
            (DataType::Int8, Some(LogicalType::Integer(kind)), 4)
                if kind.bit_width == 8 && kind.is_signed =>
            {
                Some(1)
            }
            (DataType::UInt16, Some(LogicalType::Integer(kind)), 4)
                if kind.bit_width == 16 && !kind.is_signed =>
            {
                Some(1)
            }
            (DataType::Int64, None, 8) | (DataType::Dictionary(..), Some(LogicalType::String), 0) => Some(1),
            (DataType::Timestamp(..), Some(LogicalType::Timestamp(_)), 8) => {
                self.unit_ns().and_then(|unit| u64::try_from(unit).ok())
            }
            (DataType::Decimal128(_, to), Some(LogicalType::Decimal(kind)), 8 | 16) => {
                u32::try_from(i32::from(*to) - kind.scale).ok().and_then(|zeros| 10_u64.checked_pow(zeros))
            }
            _ => None,
        };
        let stored = || format!("{:?} in {} bytes", self.kind, self.width);
        factor.ok_or_else(|| {
            Error::Schema(format!(
                "column {:?} is stored as {}, which does not widen to {}",
                self.name,
                stored(),
                field.data_type()
            ))
        })
    }
}

impl Chunk {
    fn of(chunk: &ColumnChunkMetaData) -> Result<Self> {
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let start = u64::try_from(start).map_err(corrupt)?;
        let length = u64::try_from(chunk.compressed_size()).map_err(corrupt)?;
        let end = start.checked_add(length).ok_or_else(|| corrupt("a column chunk without end"))?;
        Ok(Self {
            place: start..end,
            raw: usize::try_from(chunk.uncompressed_size()).map_err(corrupt)?,
            has_dictionary: chunk.dictionary_page_offset().is_some(),
            is_zstd: chunk.compression_codec() == CompressionCodec::ZSTD,
        })
    }
}

/// Whether a column chunk is one that `encode` writes: other writers tell the encodings page by page too.
fn is_of_our_form(chunk: &ColumnChunkMetaData) -> bool {
    let encodings: Vec<_> = chunk.encodings().collect();
    let expected: &[Encoding] = match chunk.dictionary_page_offset() {
        Some(_) => &[Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY],
        None => &[Encoding::RLE, Encoding::DELTA_BINARY_PACKED],
    };
    chunk.page_encoding_stats().is_none()
        && chunk.page_encoding_stats_mask().is_none()
        && matches!(chunk.compression_codec(), CompressionCodec::ZSTD | CompressionCodec::UNCOMPRESSED)
        && encodings == expected
}

fn of_column(error: Error, name: &str) -> Error {
    match error {
        Error::DataCorrupt(what) => Error::DataCorrupt(format!("column {name:?}: {what}")),
        other => other,
    }
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::DataCorrupt(what.to_string())
}
