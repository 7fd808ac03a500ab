//! Volume-weighted average price of each symbol's trades.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_array::{ArrayRef, Decimal128Array, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};

use crate::aggregate::sum_trades;
use crate::error::{Error, Result};
use crate::schema::{fixed, text, turnover_sum, volume_sum};

/// Columns of [`vwap`].
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("symbol", text(), false),
        Field::new("turnover", turnover_sum(), false),
        Field::new("volume", volume_sum(), false),
        Field::new("vwap", fixed(), true),
    ]))
}

/// Turnover, volume and their quotient (half-even at 1e-8, null at zero volume) per symbol, in byte order.
///
/// # Errors
/// As [`crate::aggregate::aggregate_bars`].
pub fn vwap(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let (symbols, sums) = sum_trades(batches)?;
    let column = |pick: fn(&(i128, i128)) -> Option<i128>, kind: arrow_schema::DataType| -> ArrayRef {
        Arc::new(sums.iter().map(pick).collect::<Decimal128Array>().with_data_type(kind))
    };
    let quotient = |sums: &(i128, i128)| crate::round::div_half_even(sums.0, sums.1);
    let columns = vec![
        symbols,
        column(|sums| Some(sums.0), turnover_sum()),
        column(|sums| Some(sums.1), volume_sum()),
        column(quotient, fixed()),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|error| Error::Schema(error.to_string()))
}

/// Stored bars with their vwap, in the canonical columns.
///
/// # Errors
/// [`Error::Schema`] if the other columns are not those of bars.
pub fn append_vwap(bars: &RecordBatch) -> Result<RecordBatch> {
    let sums = |name: &str| {
        let column = bars.column_by_name(name).and_then(|column| column.as_primitive_opt::<Decimal128Type>());
        column.ok_or_else(|| Error::Schema(format!("bars without a decimal column {name}")))
    };
    let (turnover, volume) = (sums("turnover")?, sums("volume")?);
    let quotients = turnover.values().iter().zip(volume.values());
    let vwap: Decimal128Array = quotients.map(|(t, v)| crate::round::div_half_even(*t, *v)).collect();
    let vwap: ArrayRef = Arc::new(vwap.with_data_type(fixed()));
    let schema = crate::schema::bars();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "vwap" => Ok(Arc::clone(&vwap)),
        name => bars
            .column_by_name(name)
            .cloned()
            .ok_or_else(|| Error::Schema(format!("bars without column {name}"))),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema, columns).map_err(|error| Error::Schema(error.to_string()))
}
