//! The values of a column chunk, without its nulls.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, StringArray};
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, Result};

/// The values, by what they are compared as.
pub(super) enum Values<'a> {
    Integers(Cow<'a, [i64]>),
    Decimals(Vec<i128>),
    /// The distinct texts, and the index among them of each.
    Texts(Vec<&'a str>, Vec<u32>),
}

impl<'a> Values<'a> {
    /// All values of arrays of one narrowed type.
    pub(super) fn of(arrays: &'a [ArrayRef]) -> Result<Self> {
        let Some(first) = arrays.first() else { return Ok(Self::Integers(Cow::Borrowed(&[]))) };
        Ok(match first.data_type() {
            DataType::Int64 => integers::<Int64Type>(arrays),
            DataType::Timestamp(TimeUnit::Second, None) => {
                let seconds = gather::<TimestampSecondType, _>(arrays, |value| value * 1_000);
                Self::Integers(Cow::Owned(seconds))
            }
            DataType::Timestamp(TimeUnit::Millisecond, None) => integers::<TimestampMillisecondType>(arrays),
            DataType::Timestamp(TimeUnit::Microsecond, None) => integers::<TimestampMicrosecondType>(arrays),
            DataType::Timestamp(TimeUnit::Nanosecond, None) => integers::<TimestampNanosecondType>(arrays),
            DataType::Decimal64(..) => integers::<Decimal64Type>(arrays),
            DataType::Int8 => Self::Integers(Cow::Owned(gather::<Int8Type, _>(arrays, i64::from))),
            DataType::UInt16 => Self::Integers(Cow::Owned(gather::<UInt16Type, _>(arrays, i64::from))),
            DataType::Decimal128(..) => Self::Decimals(gather::<Decimal128Type, _>(arrays, |value| value)),
            DataType::Dictionary(..) => texts(arrays)?,
            other => return Err(Error::Schema(format!("a column of {other} is not stored"))),
        })
    }
}

fn integers<T: ArrowPrimitiveType<Native = i64>>(arrays: &[ArrayRef]) -> Values<'_> {
    Values::Integers(match arrays {
        [array] if array.null_count() == 0 => Cow::Borrowed(&array.as_primitive::<T>().values()[..]),
        _ => Cow::Owned(gather::<T, i64>(arrays, |value| value)),
    })
}

fn gather<T: ArrowPrimitiveType, V>(arrays: &[ArrayRef], convert: impl Fn(T::Native) -> V) -> Vec<V> {
    let mut values = Vec::with_capacity(arrays.iter().map(|array| array.len()).sum());
    for array in arrays {
        let array = array.as_primitive::<T>();
        match array.null_count() {
            0 => values.extend(array.values().iter().map(|value| convert(*value))),
            _ => values.extend(array.iter().flatten().map(&convert)),
        }
    }
    values
}

fn texts(arrays: &[ArrayRef]) -> Result<Values<'_>> {
    let mut known: HashMap<&str, u32> = HashMap::new();
    let (mut names, mut indices) = (Vec::new(), Vec::new());
    for array in arrays {
        let refused = || Error::Schema(format!("a column of {} is not stored", array.data_type()));
        let codes = array.as_dictionary_opt::<Int32Type>().ok_or_else(refused)?;
        let own: &StringArray = codes.values().as_string_opt::<i32>().ok_or_else(refused)?;
        // Each batch has a dictionary of its own; a name is looked up once for each.
        let mut found: Vec<Option<u32>> = vec![None; own.len()];
        let mut index_of = |code: i32| {
            *found[code as usize].get_or_insert_with(|| {
                let name = own.value(code as usize);
                *known.entry(name).or_insert_with(|| {
                    names.push(name);
                    names.len() as u32 - 1
                })
            })
        };
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let keys = codes.keys().values();
        match nulls {
            None => indices.extend(keys.iter().map(|code| index_of(*code))),
            Some(nulls) => indices.extend(nulls.valid_indices().map(|row| index_of(keys[row]))),
        }
    }
    Ok(Values::Texts(names, indices))
}
