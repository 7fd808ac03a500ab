//! One column of one row group: a dictionary page or none, one data page, statistics and index.

use arrow_array::{Array, ArrayRef};
use parquet::basic::{BoundaryOrder, Encoding, Type as Physical};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::page::{Codec, DELTA_BINARY_PACKED, Kind, RLE_DICTIONARY, append};
use super::values::Values;
use super::{delta, dictionary, failed, hybrid};
use crate::error::Result;

/// Smallest and largest value, as the format compares and writes them.
enum Bounds {
    I32(i32, i32),
    I64(i64, i64),
    Fixed([u8; 16], [u8; 16]),
    Text(Vec<u8>, Vec<u8>),
    None,
}

/// The bytes of a column chunk, and what the footer says of it.
pub(super) fn encode(
    arrays: &[ArrayRef],
    delta: bool,
    description: ColumnDescPtr,
    position: usize,
    codec: &mut Codec,
) -> Result<(Vec<u8>, ColumnCloseResult)> {
    let rows: usize = arrays.iter().map(|array| array.len()).sum();
    let mut data = Vec::with_capacity(rows * 2);
    let nulls = if description.max_def_level() > 0 { levels(arrays, rows, &mut data) } else { 0 };
    let physical = description.physical_type();
    let values = Values::of(arrays)?;
    let delta = delta && physical == Physical::INT64;
    let (entries, bounds) = match values {
        Values::Integers(values) if delta => {
            delta::encode(&values, &mut data);
            (None, integer_bounds(&values, physical))
        }
        Values::Integers(values) => {
            let (entries, indices) = dictionary::index(&values);
            pack_indices(&indices, entries.len(), &mut data);
            let width = if physical == Physical::INT32 { 4 } else { 8 };
            let plain =
                entries.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width)).collect();
            (Some((entries.len(), plain)), integer_bounds(&entries, physical))
        }
        Values::Decimals(values) => {
            let (entries, indices) = dictionary::index(&values);
            pack_indices(&indices, entries.len(), &mut data);
            let bounds = match (entries.iter().min(), entries.iter().max()) {
                (Some(low), Some(high)) => Bounds::Fixed(low.to_be_bytes(), high.to_be_bytes()),
                _ => Bounds::None,
            };
            (Some((entries.len(), entries.iter().flat_map(|value| value.to_be_bytes()).collect())), bounds)
        }
        Values::Texts(entries, indices) => {
            pack_indices(&indices, entries.len(), &mut data);
            let mut plain: Vec<u8> = Vec::new();
            for text in &entries {
                plain.extend((text.len() as u32).to_le_bytes());
                plain.extend(text.as_bytes());
            }
            let bounds = match (entries.iter().min(), entries.iter().max()) {
                (Some(low), Some(high)) => Bounds::Text(low.as_bytes().to_vec(), high.as_bytes().to_vec()),
                _ => Bounds::None,
            };
            (Some((entries.len(), plain)), bounds)
        }
    };
    let encoding = if entries.is_some() { RLE_DICTIONARY } else { DELTA_BINARY_PACKED };
    let mut kinds = vec![Kind::Data(rows, encoding)];
    let mut pages = vec![data];
    if let Some((count, plain)) = entries {
        kinds.insert(0, Kind::Dictionary(count));
        pages.insert(0, plain);
    }
    let raw: Vec<usize> = pages.iter().map(Vec::len).collect();
    let (stored, compression) = codec.store(position, pages)?;
    let (mut bytes, mut headers, mut last) = (Vec::with_capacity(raw.iter().sum::<usize>() + 128), 0, 0);
    for ((kind, raw), page) in kinds.iter().zip(&raw).zip(&stored) {
        last = bytes.len();
        headers += append(*kind, *raw, page, &mut bytes);
    }

    let mut offsets = OffsetIndexBuilder::new();
    offsets.append_row_count(rows as i64);
    offsets.append_offset_and_size(last as i64, (bytes.len() - last) as i32);
    let encodings = match encoding {
        DELTA_BINARY_PACKED => vec![Encoding::RLE, Encoding::DELTA_BINARY_PACKED],
        _ => vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY],
    };
    let metadata = ColumnChunkMetaData::builder(description)
        .set_encodings(encodings)
        .set_compression_codec(compression)
        .set_num_values(rows as i64)
        .set_total_compressed_size(bytes.len() as i64)
        .set_total_uncompressed_size((raw.iter().sum::<usize>() + headers) as i64)
        .set_data_page_offset(last as i64)
        .set_dictionary_page_offset((kinds.len() > 1).then_some(0))
        .set_statistics(bounds.statistics(physical, nulls))
        .build()
        .map_err(failed)?;
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows as u64,
        metadata,
        bloom_filter: None,
        column_index: Some(bounds.index(physical, nulls).map_err(failed)?),
        offset_index: Some(offsets.build()),
    };
    Ok((bytes, close))
}

/// Append which rows have a value, behind the length of that; returns how many have none.
fn levels(arrays: &[ArrayRef], rows: usize, out: &mut Vec<u8>) -> u64 {
    let start = out.len();
    out.extend([0; 4]);
    let nulls = arrays.iter().map(|array| array.logical_null_count()).sum::<usize>();
    let mut levels = Vec::with_capacity(rows);
    for array in arrays {
        match array.logical_nulls() {
            Some(valid) => levels.extend(valid.iter().map(u32::from)),
            None => levels.extend(std::iter::repeat_n(1, array.len())),
        }
    }
    hybrid::encode(&levels, 1, out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    nulls as u64
}

/// Append the bits of an index, and the indices in so many.
fn pack_indices(indices: &[u32], entries: usize, out: &mut Vec<u8>) {
    let width = match entries {
        // As other writers do: not every reader takes no bits for many values.
        1 => 1,
        _ => u32::BITS - (entries.saturating_sub(1) as u32).leading_zeros(),
    };
    out.push(width as u8);
    hybrid::encode(indices, width, out);
}

fn integer_bounds(values: &[i64], physical: Physical) -> Bounds {
    let Some(first) = values.first() else { return Bounds::None };
    let (low, high) =
        values.iter().fold((*first, *first), |(low, high), value| (low.min(*value), high.max(*value)));
    // What is stored in 32 bits came from fewer.
    if physical == Physical::INT32 { Bounds::I32(low as i32, high as i32) } else { Bounds::I64(low, high) }
}

impl Bounds {
    fn statistics(&self, physical: Physical, nulls: u64) -> Statistics {
        let nulls = Some(nulls);
        match self {
            Self::I32(low, high) => Statistics::int32(Some(*low), Some(*high), None, nulls, false),
            Self::I64(low, high) => Statistics::int64(Some(*low), Some(*high), None, nulls, false),
            Self::Fixed(low, high) => {
                let fixed = |bytes: &[u8; 16]| Some(FixedLenByteArray::from(bytes.to_vec()));
                Statistics::fixed_len_byte_array(fixed(low), fixed(high), None, nulls, false)
            }
            Self::Text(low, high) => {
                let text = |bytes: &Vec<u8>| Some(ByteArray::from(bytes.clone()));
                Statistics::byte_array(text(low), text(high), None, nulls, false)
            }
            Self::None => match physical {
                Physical::INT32 => Statistics::int32(None, None, None, nulls, false),
                Physical::INT64 => Statistics::int64(None, None, None, nulls, false),
                Physical::FIXED_LEN_BYTE_ARRAY => {
                    Statistics::fixed_len_byte_array(None, None, None, nulls, false)
                }
                _ => Statistics::byte_array(None, None, None, nulls, false),
            },
        }
    }

    fn index(
        &self,
        physical: Physical,
        nulls: u64,
    ) -> parquet::errors::Result<parquet::file::page_index::column_index::ColumnIndexMetaData> {
        let (low, high) = match self {
            Self::I32(low, high) => (low.to_le_bytes().to_vec(), high.to_le_bytes().to_vec()),
            Self::I64(low, high) => (low.to_le_bytes().to_vec(), high.to_le_bytes().to_vec()),
            Self::Fixed(low, high) => (low.to_vec(), high.to_vec()),
            Self::Text(low, high) => (low.clone(), high.clone()),
            Self::None => (Vec::new(), Vec::new()),
        };
        let mut builder = ColumnIndexBuilder::new(physical);
        builder.set_boundary_order(BoundaryOrder::ASCENDING);
        builder.append(matches!(self, Self::None), low, high, nulls as i64, None);
        builder.build()
    }
}
