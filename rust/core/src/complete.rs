//! The columns that every stored tick has.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int64Array, RecordBatch, UInt16Array};
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
/// [`Error::Schema`] where a text or number is missing, a column has another type than ticks have, or nulls where they
/// have none.
pub fn complete(rows: &RecordBatch, feed_id: Option<u16>) -> Result<RecordBatch> {
    let (mut fields, mut columns): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for field in schema::ticks().fields() {
        let given = rows.column_by_name(field.name());
        let column = match (feed_id, given) {
            (Some(feed), _) if field.name() == "feed_id" => constant(field, feed, rows.num_rows())?,
            (_, Some(column)) => Arc::clone(column),
            (_, None) if field.is_nullable() => continue,
            (_, None) => constant(field, 0, rows.num_rows())?,
        };
        fields.push(Arc::clone(field));
        columns.push(column);
    }
    batch(fields, columns)
}

fn constant(field: &Field, value: u16, rows: usize) -> Result<ArrayRef> {
    match field.data_type() {
        DataType::Int8 => Ok(Arc::new(Int8Array::from_value(value as i8, rows))),
        DataType::UInt16 => Ok(Arc::new(UInt16Array::from_value(value, rows))),
        DataType::Int64 => Ok(Arc::new(Int64Array::from_value(i64::from(value), rows))),
        _ => Err(Error::Schema(format!("column {} is missing", field.name()))),
    }
}

fn batch(fields: Vec<Arc<Field>>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::Schema(error.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow_array::Array as _;

    use super::*;

    #[test]
    fn ordinals_go_on_from_the_first_and_given_ones_stay() {
        let ticks: ArrayRef = Arc::new(Int8Array::from_value(0, 3));
        let rows = RecordBatch::try_from_iter([("tick_type", ticks)]).unwrap();
        let again = number(&number(&rows, 40).unwrap(), 7).unwrap();
        let column = again.column_by_name("sequence").unwrap();
        assert_eq!(column.to_data(), Int64Array::from(vec![40, 41, 42]).to_data());
    }

    #[test]
    fn a_text_is_not_made_up() {
        let ticks: ArrayRef = Arc::new(Int8Array::from_value(0, 1));
        let rows = RecordBatch::try_from_iter([("tick_type", ticks)]).unwrap();
        assert!(matches!(complete(&rows, Some(5)), Err(Error::Schema(_))));
    }
}
