//! Columns in any sensible Arrow type, in their canonical one; what does not fit is null with a fault bit.

use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, RecordBatchOptions,
    downcast_integer_array, new_null_array,
};
use arrow_buffer::{NullBuffer, i256};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_select::take::take;

use crate::decimal::{Fixed, from_f32, from_f64, parse_exact};
use crate::error::{Error, Result};
use crate::reasons::{INEXACT, NOT_A_NUMBER, OUT_OF_RANGE, TICK_TYPE_UNKNOWN, TIMESTAMP_OUT_OF_RANGE};
use crate::schema::{self, MAX_FIXED};
use crate::symbols::{is_text, text_at};

/// A batch in canonical types, and why rows of it do not fit.
#[derive(Debug, Clone)]
pub struct Coerced {
    /// The canonical columns that the input has; others are left out.
    pub batch: RecordBatch,
    /// Bits of [`crate::reasons`] per row; `None` where no row has any.
    pub faults: Option<Vec<u32>>,
    /// For each [`BLOCK`] of rows: whether its instants are from 1970, before 2116, and never go back.
    pub rising: Vec<bool>,
}

/// Rows looked at together, few enough to be in the nearest cache when they are looked at again.
pub const BLOCK: usize = 4096;

/// Per-row fault bits, made when the first fault comes.
#[derive(Debug, Default)]
struct Faults(Option<Vec<u32>>);

impl Faults {
    fn add(&mut self, rows: usize, row: usize, bits: u32) {
        self.0.get_or_insert_with(|| vec![0; rows])[row] |= bits;
    }
}

/// Bring a batch's canonical columns to their canonical types, zero-copy where they have them already.
///
/// Symbols stay in the text type they come in. A column `faults` (uint32) of an earlier step is taken over.
///
/// # Errors
/// [`Error::Schema`] for a column of a type that cannot hold what its name says.
pub fn coerce(batch: &RecordBatch) -> Result<Coerced> {
    let mut faults = Faults::default();
    let mut rising = Vec::new();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in schema::ticks().fields() {
        let Some(column) = only(batch, field.name())? else {
            continue;
        };
        let column = &plain(field, column)?;
        let column = match field.name().as_str() {
            "timestamp_utc" => instants(column, &mut faults, &mut rising)?,
            _ => coerce_column(field, column, &mut faults)?,
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    if let Some(column) = batch.column_by_name("faults") {
        let given =
            column.as_primitive_opt::<UInt32Type>().ok_or_else(|| refuse("faults", column, "uint32"))?;
        for (row, bits) in
            given.iter().enumerate().filter_map(|(row, bits)| Some((row, bits?))).filter(|(_, b)| *b != 0)
        {
            faults.add(batch.num_rows(), row, bits);
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| Error::Schema(error.to_string()))?;
    Ok(Coerced { batch, faults: faults.0, rising })
}

/// The column of a name that no other column has.
fn only<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a ArrayRef>> {
    let schema = batch.schema_ref();
    if schema.fields().iter().filter(|field| field.name() == name).count() > 1 {
        return Err(Error::Schema(format!("there are several columns {name}; keep one of them")));
    }
    Ok(batch.column_by_name(name))
}

/// A column of nulls in its canonical type, and a dictionary of numbers as the numbers.
fn plain(field: &Field, column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Null => Ok(new_null_array(field.data_type(), column.len())),
        DataType::Dictionary(_, values) if !is_text(values) => {
            let dictionary = column.as_any_dictionary();
            take(dictionary.values(), dictionary.keys(), None)
                .map_err(|error| Error::Schema(format!("column {}: {error}", field.name())))
        }
        _ => Ok(Arc::clone(column)),
    }
}

fn refuse(name: &str, column: &ArrayRef, wanted: &str) -> Error {
    Error::Schema(format!("column {name} is {}; cast it to {wanted}", column.data_type()))
}

fn coerce_column(field: &Field, column: &ArrayRef, faults: &mut Faults) -> Result<ArrayRef> {
    match field.name().as_str() {
        "symbol" if is_text(column.data_type()) => Ok(Arc::clone(column)),
        "symbol" => {
            Err(refuse("symbol", column, "text (utf8, large_utf8, utf8_view or a dictionary of them)"))
        }
        "conditions" => text(column),
        "tick_type" => integers::<Int8Type>(field, column, faults, TICK_TYPE_UNKNOWN),
        "sequence" | "epoch" => integers::<Int64Type>(field, column, faults, OUT_OF_RANGE),
        "exchange_id" | "feed_id" => integers::<UInt16Type>(field, column, faults, OUT_OF_RANGE),
        _ => decimals(field.name(), column, faults),
    }
}

fn text(column: &ArrayRef) -> Result<ArrayRef> {
    if column.data_type() == &schema::text() {
        return Ok(Arc::clone(column));
    }
    if !is_text(column.data_type()) {
        return Err(refuse("conditions", column, "text"));
    }
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    for row in 0..column.len() {
        builder.append_option(text_at(column, row));
    }
    Ok(Arc::new(builder.finish()))
}

/// Whether instants are from 1970, before 2116, and never go back.
fn is_rising(times: &[i64]) -> bool {
    // Signs that any value has: no comparison per value, which plain SIMD lacks for 64 bits.
    let within = times.iter().fold(0, |bits, time| bits | *time | (*time << 1));
    let next = times.get(1..).unwrap_or_default();
    times.iter().zip(next).fold(within, |bits, (time, next)| bits | next.wrapping_sub(*time)) >= 0
}

fn instants(column: &ArrayRef, faults: &mut Faults, rising: &mut Vec<bool>) -> Result<ArrayRef> {
    let day = 86_400_000_000_000;
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = column.as_primitive::<TimestampNanosecondType>().clone();
            rising.extend(array.values().chunks(BLOCK).map(is_rising));
            Ok(Arc::new(array.with_timezone("UTC")))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(scaled::<TimestampMicrosecondType>(column, 1_000, faults, rising))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Ok(scaled::<TimestampMillisecondType>(column, 1_000_000, faults, rising))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            Ok(scaled::<TimestampSecondType>(column, 1_000_000_000, faults, rising))
        }
        DataType::Int64 => Ok(scaled::<Int64Type>(column, 1, faults, rising)),
        DataType::Date32 => Ok(scaled::<Date32Type>(column, day, faults, rising)),
        DataType::Date64 => Ok(scaled::<Date64Type>(column, 1_000_000, faults, rising)),
        _ => Err(refuse("timestamp_utc", column, "timestamp (naive is UTC), date, or int64 nanoseconds")),
    }
}

fn scaled<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    factor: i64,
    faults: &mut Faults,
    rising: &mut Vec<bool>,
) -> ArrayRef
where
    T::Native: Into<i64>,
{
    let array = column.as_primitive::<T>();
    // The valid years are judged later; here only what leaves 64 bits is out.
    let bound = i64::MAX / factor;
    let mut fits = true;
    let mut values: Vec<i64> = Vec::with_capacity(array.len());
    for block in array.values().chunks(BLOCK) {
        let start = values.len();
        values.extend(block.iter().map(|value| (*value).into().wrapping_mul(factor)));
        // Bits that any value has: no comparison per value, which plain SIMD lacks for 64 bits.
        let reach = 1_i64 << bound.ilog2();
        let bits = block.iter().fold(0, |bits, value| bits | (*value).into().wrapping_add(reach));
        let is_inside = |value: &T::Native| (-bound..=bound).contains(&(*value).into());
        fits &= (0..2 * reach as u64).contains(&(bits as u64)) || block.iter().all(is_inside);
        rising.push(is_rising(&values[start..]));
    }
    let mut nulls = array.nulls().cloned();
    if !fits {
        let outside = |value: T::Native| !(-bound..=bound).contains(&value.into());
        let valid = (0..array.len()).map(|row| {
            let gone = array.is_valid(row) && outside(array.value(row));
            if gone {
                faults.add(array.len(), row, TIMESTAMP_OUT_OF_RANGE);
            }
            array.is_valid(row) && !gone
        });
        nulls = Some(NullBuffer::from_iter(valid));
    }
    Arc::new(PrimitiveArray::<TimestampNanosecondType>::new(values.into(), nulls).with_timezone("UTC"))
}

fn integers<T: ArrowPrimitiveType>(
    field: &Field,
    column: &ArrayRef,
    faults: &mut Faults,
    bit: u32,
) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    if column.data_type() == &T::DATA_TYPE {
        return Ok(Arc::clone(column));
    }
    let wide: Vec<Option<i128>> = downcast_integer_array!(
        column => column.iter().map(|value| value.map(|value| value as i128)).collect(),
        _ => return Err(refuse(field.name(), column, "an integer type"))
    );
    let rows = wide.len();
    let narrow = wide.into_iter().enumerate().map(|(row, value)| {
        let value = value?;
        T::Native::try_from(value).ok().or_else(|| {
            faults.add(rows, row, bit);
            None
        })
    });
    Ok(Arc::new(narrow.collect::<Vec<_>>().into_iter().collect::<PrimitiveArray<T>>()))
}

fn decimals(name: &str, column: &ArrayRef, faults: &mut Faults) -> Result<ArrayRef> {
    if column.data_type() == &schema::fixed() {
        return Ok(Arc::clone(column));
    }
    let rows = column.len();
    let array = match column.data_type() {
        DataType::Float64 => {
            let array = column.as_primitive::<Float64Type>();
            fixed(rows, array.nulls(), faults, |row| from_f64(array.value(row)))
        }
        DataType::Float32 => {
            let array = column.as_primitive::<Float32Type>();
            fixed(rows, array.nulls(), faults, |row| from_f32(array.value(row), 0))
        }
        DataType::Decimal32(_, scale) => {
            let array = column.as_primitive::<Decimal32Type>();
            fixed(rows, array.nulls(), faults, |row| rescale(array.value(row).into(), *scale))
        }
        DataType::Decimal64(_, scale) => {
            let array = column.as_primitive::<Decimal64Type>();
            fixed(rows, array.nulls(), faults, |row| rescale(array.value(row).into(), *scale))
        }
        DataType::Decimal128(_, scale) => {
            let array = column.as_primitive::<Decimal128Type>();
            fixed(rows, array.nulls(), faults, |row| rescale(array.value(row), *scale))
        }
        DataType::Decimal256(_, scale) => {
            let array = column.as_primitive::<Decimal256Type>();
            fixed(rows, array.nulls(), faults, |row| rescale_wide(array.value(row), *scale))
        }
        kind if is_text(kind) => fixed(rows, column.logical_nulls().as_ref(), faults, |row| {
            text_at(column, row)
                .map_or(Fixed { value: 0, faults: NOT_A_NUMBER }, |text| parse_exact(text.as_bytes(), 0))
        }),
        kind if kind.is_integer() => {
            let wide: Vec<i128> = downcast_integer_array!(
                column => column.values().iter().map(|value| *value as i128).collect(),
                _ => Vec::new()
            );
            fixed(rows, column.nulls(), faults, |row| rescale(wide[row], 0))
        }
        _ => {
            return Err(refuse(
                name,
                column,
                "decimal128(18, 8), another decimal, a float, an integer or text",
            ));
        }
    };
    Ok(Arc::new(array.with_data_type(schema::fixed())))
}

/// A value of any scale in units of 1e-8, exactly.
fn rescale(value: i128, scale: i8) -> Fixed {
    let power = i32::from(schema::SCALE) - i32::from(scale);
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    let scaled = match factor {
        Some(factor) if power >= 0 => value.checked_mul(factor),
        Some(factor) if value % factor == 0 || (value / factor).unsigned_abs() > MAX_FIXED as u128 => {
            Some(value / factor)
        }
        _ if value == 0 => Some(0),
        _ if power >= 0 => None,
        _ => return Fixed { value: 0, faults: INEXACT },
    };
    match scaled {
        Some(scaled) if scaled.unsigned_abs() <= MAX_FIXED as u128 => {
            Fixed { value: scaled as i64, faults: 0 }
        }
        _ => Fixed { value: 0, faults: OUT_OF_RANGE },
    }
}

/// The same for 256 bits: the digits beyond 1e-8 go first, then what is left is judged.
fn rescale_wide(value: i256, scale: i8) -> Fixed {
    let dropped = (i32::from(scale) - i32::from(schema::SCALE)).max(0);
    let (quotient, rest) = match i256::from_i128(10).checked_pow(dropped.unsigned_abs()) {
        Some(factor) => (value.wrapping_div(factor), value.wrapping_rem(factor)),
        None => (i256::ZERO, value),
    };
    match quotient.to_i128() {
        Some(whole) => {
            let fixed = rescale(whole, scale.min(schema::SCALE));
            let inexact = fixed.faults == 0 && rest != i256::ZERO;
            if inexact { Fixed { value: 0, faults: INEXACT } } else { fixed }
        }
        None => Fixed { value: 0, faults: OUT_OF_RANGE },
    }
}

fn fixed(
    rows: usize,
    nulls: Option<&NullBuffer>,
    faults: &mut Faults,
    read: impl Fn(usize) -> Fixed,
) -> PrimitiveArray<Decimal128Type> {
    let mut values = Vec::with_capacity(rows);
    let mut refused = Vec::new();
    for row in 0..rows {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            values.push(0);
            continue;
        }
        let number = read(row);
        values.push(i128::from(number.value));
        if number.faults != 0 {
            faults.add(rows, row, number.faults);
            if number.faults & (NOT_A_NUMBER | INEXACT | OUT_OF_RANGE) != 0 {
                refused.push(row);
            }
        }
    }
    let mut nulls = nulls.cloned();
    if !refused.is_empty() {
        let mut valid: Vec<bool> =
            (0..rows).map(|row| nulls.as_ref().is_none_or(|n| n.is_valid(row))).collect();
        refused.into_iter().for_each(|row| valid[row] = false);
        nulls = Some(NullBuffer::from(valid));
    }
    PrimitiveArray::new(values.into(), nulls)
}
