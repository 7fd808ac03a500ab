//! One column of one row group in its canonical type.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Int8Type, Int32Type, Int64Type, TimestampNanosecondType, UInt16Type,
};
use arrow_array::{Array, ArrayRef, DictionaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, TimeUnit};

use super::bits::Cursor;
use super::hybrid::Run;
use super::page::Reader;
use super::{Chunk, Stored, corrupt, delta, hybrid, zeros};
use crate::error::{Error, Result};

/// The column of a chunk's bytes, and the bytes of memory that it takes for itself.
pub(super) fn decode(
    bytes: &[u8],
    chunk: &Chunk,
    stored: &Stored,
    rows: usize,
    field: &Field,
    reader: &mut Reader,
) -> Result<(ArrayRef, usize)> {
    let mut bytes = Cursor(bytes);
    let entries = match chunk.has_dictionary {
        true => Some(reader.dictionary(&mut bytes, chunk)?),
        false => None,
    };
    let data = reader.data(&mut bytes, rows, chunk)?;
    let mut data = Cursor(&data);
    let nulls = if stored.is_optional { validity(&mut data, rows)? } else { None };
    let column = Column {
        data: data.0,
        rows,
        nulls,
        entries: entries.as_ref().map(|(count, bytes)| (*count, &bytes[..])),
    };
    let factor = stored.factor_to(field)?;
    let array: ArrayRef = match field.data_type() {
        DataType::Int8 => Arc::new(column.integers::<Int8Type>(4, |value| value as i8)?),
        DataType::UInt16 => Arc::new(column.integers::<UInt16Type>(4, |value| value as u16)?),
        DataType::Int64 => Arc::new(column.integers::<Int64Type>(8, |value| value)?),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let factor = factor as i64;
            let times = column.integers::<TimestampNanosecondType>(8, |value| value.wrapping_mul(factor))?;
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        kind @ DataType::Decimal128(..) => {
            let decimals = match stored.width {
                // 64 bits times less than 64 bits.
                8 => column
                    .integers::<Decimal128Type>(8, |value| i128::from(value).wrapping_mul(factor.into()))?,
                _ => column.wide(factor.into())?,
            };
            Arc::new(decimals.with_data_type(kind.clone()))
        }
        DataType::Dictionary(..) => return column.texts(),
        other => return Err(Error::Schema(format!("column {:?} of {other} is not stored", field.name()))),
    };
    let size = array.get_buffer_memory_size();
    Ok((array, size))
}

struct Column<'a> {
    data: &'a [u8],
    rows: usize,
    nulls: Option<NullBuffer>,
    entries: Option<(usize, &'a [u8])>,
}

impl Column<'_> {
    /// How many rows have a value.
    fn count(&self) -> usize {
        self.rows - self.nulls.as_ref().map_or(0, NullBuffer::null_count)
    }

    /// Integers that are stored in so many bytes each.
    fn integers<T: ArrowPrimitiveType>(
        self,
        width: usize,
        convert: impl Fn(i64) -> T::Native,
    ) -> Result<PrimitiveArray<T>> {
        let values = match self.entries {
            None => delta::decode(self.data, self.count(), convert)?,
            Some((count, entries)) => {
                let entries =
                    plain(entries, count, width)?.map(|bytes| convert(little(bytes))).collect::<Vec<_>>();
                self.gather(&entries)?
            }
        };
        Ok(self.array(values))
    }

    /// Decimals of more than 64 bits, which have a dictionary.
    fn wide(self, factor: i128) -> Result<PrimitiveArray<Decimal128Type>> {
        let (count, entries) = self.entries.ok_or_else(|| corrupt("a wide decimal without a dictionary"))?;
        let entries = plain(entries, count, 16)?
            .map(|bytes| {
                let value = i128::from_be_bytes(bytes.try_into().map_err(corrupt)?);
                value.checked_mul(factor).ok_or_else(|| corrupt("a decimal that does not fit its type"))
            })
            .collect::<Result<Vec<_>>>()?;
        let values = self.gather(&entries)?;
        Ok(self.array(values))
    }

    fn texts(self) -> Result<(ArrayRef, usize)> {
        let (count, mut entries) = match self.entries {
            Some((count, entries)) => (count, Cursor(entries)),
            None => return Err(corrupt("a text without a dictionary")),
        };
        let mut texts = Vec::with_capacity(count.min(entries.0.len()));
        for _ in 0..count {
            let length = u32::from_le_bytes(entries.array()?);
            texts.push(std::str::from_utf8(entries.take(length as usize)?).map_err(corrupt)?);
        }
        if !entries.is_empty() {
            return Err(corrupt("bytes behind the last text"));
        }
        let codes: Vec<i32> = (0..count as i32).collect();
        let texts = Arc::new(StringArray::from(texts));
        if count == 1 && self.nulls.is_none() {
            let mut all_first = true;
            self.indices(|run| {
                all_first &= match run {
                    Run::Same(code, _) => code == 0,
                    Run::Each(codes) => codes.iter().all(|code| *code == 0),
                }
            })?;
            if !all_first {
                return Err(corrupt("an index beyond its dictionary"));
            }
            let size = texts.get_buffer_memory_size();
            let array = DictionaryArray::try_new(zeros::first_codes(self.rows), texts).map_err(corrupt)?;
            return Ok((Arc::new(array), size));
        }
        let values = self.gather(&codes)?;
        let array = DictionaryArray::try_new(self.array::<Int32Type>(values), texts).map_err(corrupt)?;
        let size = array.get_buffer_memory_size();
        Ok((Arc::new(array), size))
    }

    /// The values that the indices point at.
    fn gather<T: Copy>(&self, entries: &[T]) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(self.count());
        let mut is_inside = true;
        self.indices(|run| match run {
            Run::Same(code, times) => match entries.get(code as usize) {
                Some(value) => values.extend(std::iter::repeat_n(*value, times)),
                None => is_inside = false,
            },
            Run::Each(codes) if codes.iter().fold(0, |most, code| most.max(*code)) < entries.len() as u64 => {
                values.extend(codes.iter().map(|code| entries[*code as usize]));
            }
            Run::Each(_) => is_inside = false,
        })?;
        if is_inside { Ok(values) } else { Err(corrupt("an index beyond its dictionary")) }
    }

    fn indices(&self, emit: impl FnMut(Run<'_>)) -> Result<()> {
        let mut data = Cursor(self.data);
        let [width] = data.array()?;
        if width > 32 {
            return Err(corrupt("indices of more than 32 bits"));
        }
        hybrid::decode(data.0, width.into(), self.count(), emit)
    }

    /// The values where they are valid.
    fn array<T: ArrowPrimitiveType>(&self, values: Vec<T::Native>) -> PrimitiveArray<T> {
        let Some(nulls) = &self.nulls else {
            return PrimitiveArray::new(ScalarBuffer::from(values), None);
        };
        let mut spread = vec![T::Native::default(); self.rows];
        for (row, value) in nulls.valid_indices().zip(values) {
            spread[row] = value;
        }
        PrimitiveArray::new(ScalarBuffer::from(spread), Some(nulls.clone()))
    }
}

/// Which rows have a value; None if all do.
fn validity(data: &mut Cursor<'_>, rows: usize) -> Result<Option<NullBuffer>> {
    let length = u32::from_le_bytes(data.array()?);
    let mut valid = BooleanBufferBuilder::new(rows);
    hybrid::decode(data.take(length as usize)?, 1, rows, |run| match run {
        Run::Same(level, times) => valid.append_n(times, level == 1),
        Run::Each(levels) => levels.iter().for_each(|level| valid.append(*level == 1)),
    })?;
    Ok(Some(NullBuffer::new(valid.finish())).filter(|nulls| nulls.null_count() > 0))
}

fn plain(entries: &[u8], count: usize, width: usize) -> Result<std::slice::ChunksExact<'_, u8>> {
    match count.checked_mul(width) == Some(entries.len()) {
        true => Ok(entries.chunks_exact(width)),
        false => Err(corrupt("a dictionary of another size than its header says")),
    }
}

/// A signed number of 4 or 8 bytes.
fn little(bytes: &[u8]) -> i64 {
    match bytes {
        [a, b, c, d] => i32::from_le_bytes([*a, *b, *c, *d]).into(),
        _ => bytes.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes)),
    }
}
