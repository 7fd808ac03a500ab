//! Zeros that all arrays share: what a file leaves out takes no memory and no time.

use std::sync::{Arc, LazyLock};

use arrow_array::types::{ArrowPrimitiveType, Decimal128Type, Int8Type, Int32Type, Int64Type, UInt16Type};
use arrow_array::{ArrayRef, PrimitiveArray, new_null_array};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};

/// As many 16-byte words as a row group of the largest has rows.
const SHARED_WORDS: usize = 32_768;

static SHARED: LazyLock<Buffer> = LazyLock::new(|| Buffer::from_vec(vec![0_i128; SHARED_WORDS]));

/// A column that a file leaves out: null, or 0 where nulls are not allowed.
pub(super) fn left_out(field: &Field, rows: usize) -> ArrayRef {
    match field.data_type() {
        DataType::Int8 if !field.is_nullable() => Arc::new(array::<Int8Type>(rows, None)),
        DataType::Int64 if !field.is_nullable() => Arc::new(array::<Int64Type>(rows, None)),
        DataType::UInt16 => Arc::new(array::<UInt16Type>(rows, Some(no_values(rows)))),
        kind @ DataType::Decimal128(..) => {
            Arc::new(array::<Decimal128Type>(rows, Some(no_values(rows))).with_data_type(kind.clone()))
        }
        other => new_null_array(other, rows),
    }
}

/// The indices of rows that all have the first value of a dictionary.
pub(super) fn first_codes(rows: usize) -> PrimitiveArray<Int32Type> {
    array(rows, None)
}

fn array<T: ArrowPrimitiveType>(rows: usize, nulls: Option<NullBuffer>) -> PrimitiveArray<T> {
    PrimitiveArray::new(ScalarBuffer::new(zeros(rows * size_of::<T::Native>()), 0, rows), nulls)
}

fn no_values(rows: usize) -> NullBuffer {
    NullBuffer::new(BooleanBuffer::new(zeros(rows.div_ceil(8)), 0, rows))
}

fn zeros(bytes: usize) -> Buffer {
    match bytes <= SHARED.len() {
        true => SHARED.slice_with_length(0, bytes),
        false => MutableBuffer::from_len_zeroed(bytes).into(),
    }
}
