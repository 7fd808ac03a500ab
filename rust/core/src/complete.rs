//! The columns that every stored tick has.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int8Array, Int64Array, RecordBatch, UInt16Array};
use arrow_schema::{DataType, Field, Schema};

use crate::error::{Error, Result};
use crate::schema;

/// The rows with ordinals from `first` on, if they have no sequence.
///
/// # Errors
/// None in practice: the column added is as long as the others.
pub fn number(rows: &RecordBatch, first: i64) -> Result<RecordBatch> {
    if rows.column_by_name("sequence").is_some() {
        return Ok(rows.clone());
    }
    let mut fields = rows.schema().fields().to_vec();
    let mut columns = rows.columns().to_vec();
    fields.push(Arc::new(Field::new("sequence", DataType::Int64, false)));
    columns.push(Arc::new(Int64Array::from_iter_values(first..first + rows.num_rows() as i64)));
    batch(fields, columns)
}

/// Validated rows with the columns that every tick has, in order; of one feed where it is given.
///
/// Columns that may be null are there only where the rows bring them: nulls for all would be most of the memory.
///
/// # Errors
/// [`Error::Schema`] where a column has another type than ticks have, or nulls where they have none.
pub fn complete(rows: &RecordBatch, feed_id: Option<u16>) -> Result<RecordBatch> {
    let (mut fields, mut columns): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for field in schema::ticks().fields() {
        let given = rows.column_by_name(field.name());
        let column = match (feed_id, given) {
            (Some(feed), _) if field.name() == "feed_id" => constant(field, feed, rows.num_rows()),
            (_, Some(column)) => Arc::clone(column),
            (_, None) if field.is_nullable() => continue,
            (_, None) => constant(field, 0, rows.num_rows()),
        };
        fields.push(Arc::clone(field));
        columns.push(column);
    }
    batch(fields, columns)
}

fn constant(field: &Field, value: u16, rows: usize) -> ArrayRef {
    match field.data_type() {
        DataType::Int8 => Arc::new(Int8Array::from_value(value as i8, rows)),
        DataType::UInt16 => Arc::new(UInt16Array::from_value(value, rows)),
        _ => Arc::new(Int64Array::from_value(i64::from(value), rows)),
    }
}

fn batch(fields: Vec<Arc<Field>>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::Schema(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(rows: usize) -> RecordBatch {
        let price = new_price(rows);
        RecordBatch::try_from_iter([("price", Arc::clone(&price)), ("member", price)]).unwrap()
    }

    fn new_price(rows: usize) -> ArrayRef {
        Arc::new(arrow_array::Decimal128Array::from_value(7, rows).with_data_type(schema::fixed()))
    }

    #[test]
    fn ordinals_go_on_from_the_first_and_given_ones_stay() {
        let numbered = number(&prices(3), 40).unwrap();
        let again = number(&numbered, 7).unwrap();
        let column = again.column_by_name("sequence").unwrap();
        assert_eq!(column.to_data(), Int64Array::from(vec![40, 41, 42]).to_data());
    }

    #[test]
    fn only_columns_that_may_be_null_are_left_out() {
        let rows = complete(&prices(2), Some(5)).unwrap_err();
        assert!(matches!(rows, Error::Schema(_)), "no text is made up for a symbol");
    }
}
