//! The Parquet type of a column.

use arrow_schema::{DataType, Field, TimeUnit};
use parquet::basic::{LogicalType, Repetition, TimeUnit as Unit, Type as Physical};
use parquet::schema::types::Type;

use super::failed;
use crate::error::{Error, Result};

/// Bytes of a decimal of more than 18 digits.
const WIDE_BYTES: i32 = 16;

/// The type of a narrowed column, named by its id.
pub(super) fn parquet_type(field: &Field, field_id: i32) -> Result<Type> {
    let (physical, logical) = match field.data_type() {
        DataType::Int8 => (Physical::INT32, Some(LogicalType::integer(8, true))),
        DataType::UInt16 => (Physical::INT32, Some(LogicalType::integer(16, false))),
        DataType::Int64 => (Physical::INT64, None),
        // Parquet has no seconds.
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, None) => instant(Unit::MILLIS),
        DataType::Timestamp(TimeUnit::Microsecond, None) => instant(Unit::MICROS),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => instant(Unit::NANOS),
        DataType::Decimal64(precision, scale) => decimal(Physical::INT64, *precision, *scale),
        DataType::Decimal128(precision, scale) => decimal(Physical::FIXED_LEN_BYTE_ARRAY, *precision, *scale),
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => {
            (Physical::BYTE_ARRAY, Some(LogicalType::String))
        }
        other => return Err(Error::Schema(format!("column {:?} of {other} is not stored", field.name()))),
    };
    let builder = Type::primitive_type_builder(field.name(), physical)
        .with_id(Some(field_id))
        .with_repetition(if field.is_nullable() { Repetition::OPTIONAL } else { Repetition::REQUIRED });
    let builder = match &logical {
        Some(LogicalType::Decimal(kind)) => builder.with_precision(kind.precision).with_scale(kind.scale),
        _ => builder,
    };
    let length = if physical == Physical::FIXED_LEN_BYTE_ARRAY { WIDE_BYTES } else { -1 };
    builder.with_length(length).with_logical_type(logical).build().map_err(failed)
}

fn instant(unit: Unit) -> (Physical, Option<LogicalType>) {
    (Physical::INT64, Some(LogicalType::timestamp(false, unit)))
}

fn decimal(physical: Physical, precision: u8, scale: i8) -> (Physical, Option<LogicalType>) {
    (physical, Some(LogicalType::decimal(scale.into(), precision.into())))
}
