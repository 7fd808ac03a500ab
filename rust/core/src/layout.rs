//! The smallest exact type of each column, and back to the canonical one.
//!
//! Decimals drop trailing zeros that every value has and go to 64 bits where 18 digits hold them; instants go to
//! the coarsest unit that loses nothing; a column of nulls only is left out, and so is one of zeros only that has no
//! nulls by its schema.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal64Type, Decimal128Type, Int8Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, Int8Array, Int64Array, PrimitiveArray, RecordBatch, new_null_array,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};

/// What a column needs to be stored without loss. Layouts of parts of a file merge by [`ColumnLayout::merge`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Some value is not null, or not 0 where nulls are not allowed.
    pub present: bool,
    /// Some value is null.
    pub nulls: bool,
    /// Decimal places, or digits after the second.
    pub digits: u8,
    /// Digits before the point.
    pub whole: u8,
}

impl ColumnLayout {
    /// Whether 18 digits are not enough.
    fn is_wide(self) -> bool {
        self.digits + self.whole > 18
    }

    /// The layout that fits both.
    pub fn merge(self, other: Self) -> Self {
        Self {
            present: self.present | other.present,
            nulls: self.nulls | other.nulls,
            digits: self.digits.max(other.digits),
            whole: self.whole.max(other.whole),
        }
    }
}

/// The layout of each column of a batch, in its order.
pub fn measure(batch: &RecordBatch) -> Vec<ColumnLayout> {
    let schema = batch.schema_ref();
    schema.fields().iter().zip(batch.columns()).map(|(field, column)| measure_column(field, column)).collect()
}

fn measure_column(field: &Field, column: &ArrayRef) -> ColumnLayout {
    let mut layout = ColumnLayout {
        present: column.null_count() < column.len(),
        nulls: column.null_count() > 0,
        ..ColumnLayout::default()
    };
    match column.data_type() {
        DataType::Decimal128(_, scale) => {
            let array = column.as_primitive::<Decimal128Type>();
            (layout.digits, layout.whole) = decimal_digits(array, (*scale).max(0) as u8);
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = column.as_primitive::<TimestampNanosecondType>();
            layout.digits = subsecond_digits(array);
        }
        DataType::Int8 | DataType::Int64 if !field.is_nullable() => layout.present = !is_zero(column),
        _ => {}
    }
    layout
}

fn is_zero(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Int8 => {
            all(column.as_primitive::<Int8Type>(), |values| values.iter().all(|value| *value == 0))
        }
        DataType::Int64 => {
            all(column.as_primitive::<Int64Type>(), |values| values.iter().all(|value| *value == 0))
        }
        _ => false,
    }
}

/// Runs `check` over the values that count, block by block.
fn all<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    mut check: impl FnMut(&[T::Native]) -> bool,
) -> bool {
    if array.null_count() == 0 {
        array.values().chunks(1024).all(check)
    } else {
        array.iter().flatten().all(|value| check(&[value]))
    }
}

fn divisible<const D: i64>(values: &[i128]) -> bool {
    values.iter().all(|value| *value as i64 % D == 0)
}

/// Decimal places that the values need, and digits before the point.
fn decimal_digits(array: &PrimitiveArray<Decimal128Type>, scale: u8) -> (u8, u8) {
    let (mut digits, mut largest) = (0_u8, 0_u128);
    let is_short = all(array, |values| {
        if values.iter().any(|value| i128::from(*value as i64) != *value) {
            return false;
        }
        let here = values.iter().fold(0, |most, value| (*value as i64).unsigned_abs().max(most));
        largest = largest.max(u128::from(here));
        while digits < scale && !divides(values, scale - digits) {
            digits += 1;
        }
        true
    });
    if !is_short {
        digits = 0;
        all(array, |values| {
            largest = values.iter().fold(largest, |most, value| value.unsigned_abs().max(most));
            let has_more =
                |digits: u8| values.iter().any(|value| value % 10_i128.pow(u32::from(scale - digits)) != 0);
            while digits < scale && has_more(digits) {
                digits += 1;
            }
            true
        });
    }
    let whole = (largest / 10_u128.pow(u32::from(scale))).checked_ilog10().map_or(0, |power| power + 1);
    (digits, whole as u8)
}

/// Whether 10^zeros divides every value; the divisors are constants so that no division instruction is needed.
fn divides(values: &[i128], zeros: u8) -> bool {
    match zeros {
        0 => true,
        1 => divisible::<10>(values),
        2 => divisible::<100>(values),
        3 => divisible::<1_000>(values),
        4 => divisible::<10_000>(values),
        5 => divisible::<100_000>(values),
        6 => divisible::<1_000_000>(values),
        7 => divisible::<10_000_000>(values),
        8 => divisible::<100_000_000>(values),
        _ => values.iter().all(|value| *value % 10_i128.pow(u32::from(zeros)) == 0),
    }
}

fn subsecond_digits(array: &PrimitiveArray<TimestampNanosecondType>) -> u8 {
    let mut digits = 0;
    all(array, |values| {
        while digits < 9
            && !match digits {
                0 => values.iter().all(|value| value % 1_000_000_000 == 0),
                3 => values.iter().all(|value| value % 1_000_000 == 0),
                _ => values.iter().all(|value| value % 1_000 == 0),
            }
        {
            digits += 3;
        }
        true
    });
    digits
}

/// The batch in the types of its layout; absent columns are left out.
///
/// # Errors
/// [`Error::Argument`] if the layout is not one of this batch's columns.
pub fn narrow(batch: &RecordBatch, layout: &[ColumnLayout]) -> Result<RecordBatch> {
    if layout.len() != batch.num_columns() {
        return Err(Error::Argument(format!(
            "a layout of {} columns for a batch of {}",
            layout.len(),
            batch.num_columns()
        )));
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for ((field, column), layout) in batch.schema().fields().iter().zip(batch.columns()).zip(layout) {
        if !layout.present {
            continue;
        }
        let column = narrow_column(column, *layout);
        let stored = Field::new(field.name(), column.data_type().clone(), layout.nulls);
        fields.push(stored.with_metadata(field.metadata().clone()));
        columns.push(column);
    }
    assemble(fields, columns, batch.num_rows())
}

fn assemble(fields: Vec<Field>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| Error::Schema(error.to_string()))
}

fn narrow_column(column: &ArrayRef, layout: ColumnLayout) -> ArrayRef {
    match column.data_type() {
        DataType::Decimal128(_, scale) => {
            let array = column.as_primitive::<Decimal128Type>();
            let (scale, digits) = ((*scale).max(0) as u8, layout.digits);
            if layout.is_wide() {
                let divisor = 10_i128.pow(u32::from(scale - digits));
                let values: ScalarBuffer<i128> = array.values().iter().map(|value| value / divisor).collect();
                let narrowed = PrimitiveArray::<Decimal128Type>::new(values, array.nulls().cloned());
                return Arc::new(narrowed.with_data_type(DataType::Decimal128(38, digits as i8)));
            }
            let values = divide(array.values(), scale - digits);
            let narrowed = PrimitiveArray::<Decimal64Type>::new(values, array.nulls().cloned());
            Arc::new(narrowed.with_data_type(DataType::Decimal64(18, digits as i8)))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = column.as_primitive::<TimestampNanosecondType>();
            match layout.digits {
                0 => coarser::<TimestampSecondType, 1_000_000_000>(array),
                3 => coarser::<TimestampMillisecondType, 1_000_000>(array),
                6 => coarser::<TimestampMicrosecondType, 1_000>(array),
                _ => coarser::<TimestampNanosecondType, 1>(array),
            }
        }
        _ => Arc::clone(column),
    }
}

fn divide(values: &[i128], zeros: u8) -> ScalarBuffer<i64> {
    fn by<const D: i64>(values: &[i128]) -> ScalarBuffer<i64> {
        values.iter().map(|value| *value as i64 / D).collect()
    }
    let is_short = values.iter().fold(true, |all, value| all & (i128::from(*value as i64) == *value));
    match zeros {
        _ if !is_short => values.iter().map(|value| (value / 10_i128.pow(u32::from(zeros))) as i64).collect(),
        0 => by::<1>(values),
        1 => by::<10>(values),
        2 => by::<100>(values),
        3 => by::<1_000>(values),
        4 => by::<10_000>(values),
        5 => by::<100_000>(values),
        6 => by::<1_000_000>(values),
        7 => by::<10_000_000>(values),
        8 => by::<100_000_000>(values),
        _ => values.iter().map(|value| (value / 10_i128.pow(u32::from(zeros))) as i64).collect(),
    }
}

fn coarser<T: ArrowPrimitiveType<Native = i64>, const D: i64>(
    array: &PrimitiveArray<TimestampNanosecondType>,
) -> ArrayRef {
    let values: ScalarBuffer<i64> = array.values().iter().map(|value| value.div_wrapping(D)).collect();
    Arc::new(PrimitiveArray::<T>::new(values, array.nulls().cloned()))
}

/// The batch in the canonical types of `schema`, a subset of its columns allowed; columns that it lacks are null, or 0 where
/// nulls are not allowed.
///
/// # Errors
/// [`Error::Schema`] for a column that cannot be one of `schema`, or a value that does not fit.
pub fn widen(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => widen_column(column, field),
            None => Ok(left_out(field, batch.num_rows())),
        })
        .collect::<Result<Vec<_>>>()?;
    assemble(schema.fields().iter().map(|field| (**field).clone()).collect(), columns, batch.num_rows())
}

fn left_out(field: &Field, rows: usize) -> ArrayRef {
    match field.data_type() {
        DataType::Int8 if !field.is_nullable() => Arc::new(Int8Array::from(vec![0; rows])),
        DataType::Int64 if !field.is_nullable() => Arc::new(Int64Array::from(vec![0; rows])),
        other => new_null_array(other, rows),
    }
}

fn widen_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let refuse = || {
        Error::Schema(format!(
            "column {:?} is stored as {}, which does not widen to {}",
            field.name(),
            column.data_type(),
            field.data_type()
        ))
    };
    match (column.data_type(), field.data_type()) {
        (from, to) if from == to => Ok(Arc::clone(column)),
        (DataType::Decimal64(_, from), DataType::Decimal128(_, to)) if from <= to => {
            let factor = 10_i128.pow((to - from) as u32);
            let array = column.as_primitive::<Decimal64Type>();
            let values: ScalarBuffer<i128> =
                array.values().iter().map(|value| i128::from(*value) * factor).collect();
            let wide = PrimitiveArray::<Decimal128Type>::new(values, array.nulls().cloned());
            Ok(Arc::new(wide.with_data_type(field.data_type().clone())))
        }
        (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if from <= to => {
            let factor = 10_i128.pow((to - from) as u32);
            let array = column.as_primitive::<Decimal128Type>();
            let wide = array.try_unary::<_, Decimal128Type, _>(|value| value.mul_checked(factor));
            let wide = wide.map_err(|_| refuse())?;
            Ok(Arc::new(wide.with_data_type(field.data_type().clone())))
        }
        (DataType::Timestamp(unit, _), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            let (values, nulls, factor) = match unit {
                TimeUnit::Second => parts::<TimestampSecondType>(column, 1_000_000_000),
                TimeUnit::Millisecond => parts::<TimestampMillisecondType>(column, 1_000_000),
                TimeUnit::Microsecond => parts::<TimestampMicrosecondType>(column, 1_000),
                TimeUnit::Nanosecond => parts::<TimestampNanosecondType>(column, 1),
            };
            let values = if factor == 1 {
                values
            } else {
                values.iter().map(|value| value.mul_wrapping(factor)).collect()
            };
            let wide = PrimitiveArray::<TimestampNanosecondType>::new(values, nulls);
            Ok(Arc::new(wide.with_timezone_opt(zone.clone())))
        }
        _ => Err(refuse()),
    }
}

fn parts<T: ArrowPrimitiveType<Native = i64>>(
    column: &ArrayRef,
    factor: i64,
) -> (ScalarBuffer<i64>, Option<arrow_buffer::NullBuffer>, i64) {
    let array = column.as_primitive::<T>();
    (array.values().clone(), array.nulls().cloned(), factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use proptest::prelude::*;

    fn batch(values: Vec<Option<i128>>, times: Vec<i64>) -> RecordBatch {
        let price = PrimitiveArray::<Decimal128Type>::from(values).with_data_type(schema::fixed());
        let time = PrimitiveArray::<TimestampNanosecondType>::from(times).with_timezone("UTC");
        let fields = vec![
            Field::new("price", schema::fixed(), true),
            Field::new("timestamp_utc", schema::instant(), false),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(price), Arc::new(time)]).unwrap()
    }

    #[test]
    fn cents_in_milliseconds_shrink() {
        let batch = batch(vec![Some(125_000_000), Some(-310_000_000)], vec![1_000_000, -2_000_000]);
        let layout = measure(&batch);
        assert_eq!((layout[0].digits, layout[0].whole, layout[1].digits), (2, 1, 3));
        let small = narrow(&batch, &layout).unwrap();
        assert_eq!(small.column(0).data_type(), &DataType::Decimal64(18, 2));
        assert_eq!(small.column(1).data_type(), &DataType::Timestamp(TimeUnit::Millisecond, None));
    }

    #[test]
    fn zeros_are_left_out_only_where_nulls_cannot_be() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("price", DataType::Int64, false),
            Field::new("epoch", DataType::Int64, false),
            Field::new("tick_type", DataType::Int8, false),
            Field::new("number", DataType::Int64, true),
        ]));
        let zeros = || Arc::new(Int64Array::from(vec![0, 0])) as ArrayRef;
        let columns = vec![
            Arc::new(Int64Array::from(vec![0, 1])) as ArrayRef,
            zeros(),
            Arc::new(Int8Array::from(vec![0, 0])),
            zeros(),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let layout = measure(&batch);
        assert_eq!(layout.iter().map(|l| l.present).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(widen(&narrow(&batch, &layout).unwrap(), &schema).unwrap(), batch);
    }

    proptest! {
        #[test]
        fn widen_undoes_narrow(rows in proptest::collection::vec(
            (proptest::option::of((-999_999_999_999_999_999_i128..=999_999_999_999_999_999, 0_u32..9)), any::<i64>(), 0_u32..10), 0..40)) {
            let values = rows.iter().map(|(v, _, _)| v.map(|(v, zeros)| v / 10_i128.pow(zeros) * 10_i128.pow(zeros))).collect();
            let times = rows.iter().map(|(_, t, zeros)| t / 10_i64.pow(*zeros) * 10_i64.pow(*zeros)).collect();
            let batch = batch(values, times);
            let small = narrow(&batch, &measure(&batch)).unwrap();
            prop_assert_eq!(widen(&small, &batch.schema()).unwrap(), batch);
        }
    }
}
