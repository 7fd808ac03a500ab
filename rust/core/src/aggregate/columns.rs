//! The tick columns that bars are made of, taken from a record batch without copying.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Int8Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, Decimal128Array, Int8Array, Int64Array, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, Result};
use crate::schema::fixed;
use crate::symbols::is_text;

/// Canonical tick columns of one batch; absent ones are `None`.
#[derive(Debug, Clone)]
pub struct TickColumns {
    /// Rows in the batch.
    pub rows: usize,
    /// Any Arrow string column.
    pub symbol: ArrayRef,
    /// Instants in `unit_ns`.
    pub timestamp: ScalarBuffer<i64>,
    /// Nanoseconds in one unit of `timestamp`.
    pub unit_ns: i64,
    /// Tie order of equal instants.
    pub sequence: Option<Int64Array>,
    /// The vendor's session of `sequence`.
    pub epoch: Option<Int64Array>,
    /// Codes of [`crate::schema`].
    pub tick_type: Option<Int8Array>,
    /// `decimal128(18, 8)`, as are volume, bid and ask.
    pub price: Option<Decimal128Array>,
    /// Traded volume.
    pub volume: Option<Decimal128Array>,
    /// Best bid.
    pub bid: Option<Decimal128Array>,
    /// Best ask.
    pub ask: Option<Decimal128Array>,
    /// Comma-separated condition codes.
    pub conditions: Option<ArrayRef>,
}

impl TickColumns {
    /// Take the columns of a batch whose first row is `first_row` of the input.
    ///
    /// # Errors
    /// [`Error::Schema`] for a missing column or an unusable type, [`Error::InvalidTick`] for a missing timestamp or sequence.
    pub fn try_new(batch: &RecordBatch, first_row: usize) -> Result<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let required = |name: &str| {
            column(name).ok_or_else(|| {
                Error::Schema(format!("column {name} is missing; the input has {}", names(batch)))
            })
        };
        let symbol = required("symbol")?;
        if !is_text(symbol.data_type()) {
            return Err(wrong_type("symbol", symbol, "text"));
        }
        let (timestamp, unit_ns) = instants(required("timestamp_utc")?, first_row)?;
        let conditions = column("conditions").cloned();
        if let Some(found) = conditions.as_ref().filter(|c| !is_text(c.data_type())) {
            return Err(wrong_type("conditions", found, "text"));
        }
        let sequence = integers(column("sequence"), "sequence")?;
        no_nulls(sequence.as_ref().map(|s| s as &dyn Array), "sequence", first_row)?;
        Ok(Self {
            rows: batch.num_rows(),
            symbol: symbol.clone(),
            timestamp,
            unit_ns,
            sequence,
            epoch: integers(column("epoch"), "epoch")?,
            tick_type: tick_types(column("tick_type"))?,
            price: decimals(column("price"), "price")?,
            volume: decimals(column("volume"), "volume")?,
            bid: decimals(column("bid"), "bid")?,
            ask: decimals(column("ask"), "ask")?,
            conditions,
        })
    }
}

fn names(batch: &RecordBatch) -> String {
    let schema = batch.schema();
    schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn wrong_type(name: &str, found: &ArrayRef, wanted: &str) -> Error {
    Error::Schema(format!("column {name} is {}; cast it to {wanted}", found.data_type()))
}

fn no_nulls(column: Option<&dyn Array>, name: &str, first_row: usize) -> Result<()> {
    let missing =
        column.filter(|c| c.null_count() > 0).and_then(|c| (0..c.len()).find(|row| c.is_null(*row)));
    match missing {
        Some(row) => Err(Error::InvalidTick(format!(
            "the {name} is missing in row {}; fill it or validate first",
            first_row + row
        ))),
        None => Ok(()),
    }
}

fn instants(column: &ArrayRef, first_row: usize) -> Result<(ScalarBuffer<i64>, i64)> {
    no_nulls(Some(column.as_ref()), "timestamp_utc", first_row)?;
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            (column.as_primitive::<TimestampSecondType>().values().clone(), 1_000_000_000)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (column.as_primitive::<TimestampMillisecondType>().values().clone(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (column.as_primitive::<TimestampMicrosecondType>().values().clone(), 1_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            (column.as_primitive::<TimestampNanosecondType>().values().clone(), 1)
        }
        _ => return Err(wrong_type("timestamp_utc", column, "timestamp")),
    })
}

fn decimals(column: Option<&ArrayRef>, name: &str) -> Result<Option<Decimal128Array>> {
    column
        .filter(|c| c.data_type() != &DataType::Null)
        .map(|c| {
            if *c.data_type() == fixed() {
                Ok(c.as_primitive::<Decimal128Type>().clone())
            } else {
                Err(wrong_type(name, c, "decimal128(18, 8)"))
            }
        })
        .transpose()
}

fn integers(column: Option<&ArrayRef>, name: &str) -> Result<Option<Int64Array>> {
    column
        .map(|c| c.as_primitive_opt::<Int64Type>().cloned().ok_or_else(|| wrong_type(name, c, "int64")))
        .transpose()
}

fn tick_types(column: Option<&ArrayRef>) -> Result<Option<Int8Array>> {
    column
        .map(|c| c.as_primitive_opt::<Int8Type>().cloned().ok_or_else(|| wrong_type("tick_type", c, "int8")))
        .transpose()
}
