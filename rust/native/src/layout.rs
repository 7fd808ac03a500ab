//! `backtestr._native`: the smallest exact types of columns, and back.

use arrow_array::RecordBatch;
use arrow_pyarrow::PyArrowType;
use arrow_schema::Schema;
use backtestr_core::layout::{self, ColumnLayout};
use pyo3::prelude::*;
use std::sync::Arc;

use crate::boundary::{ArrowInput, enter, table};

pub(crate) type Layout = (bool, bool, u8, u8);

pub(crate) fn column_layouts(layout: Vec<Layout>) -> Vec<ColumnLayout> {
    let columns = layout.into_iter();
    columns.map(|(present, nulls, digits, whole)| ColumnLayout { present, nulls, digits, whole }).collect()
}

/// Each column's layout as (present, nulls, digits, whole), over all batches.
#[pyfunction]
pub(crate) fn measure_layout(py: Python<'_>, data: ArrowInput) -> PyResult<Vec<Layout>> {
    enter(py, || {
        let mut merged = vec![ColumnLayout::default(); data.schema.fields().len()];
        for batch in &data.batches {
            for (sum, part) in merged.iter_mut().zip(layout::measure(batch)) {
                *sum = sum.merge(part);
            }
        }
        Ok(merged.into_iter().map(|c| (c.present, c.nulls, c.digits, c.whole)).collect())
    })
}

/// The rows in the types of a layout; absent columns are left out.
#[pyfunction]
pub(crate) fn narrow<'py>(
    py: Python<'py>,
    data: ArrowInput,
    layout: Vec<Layout>,
) -> PyResult<Bound<'py, PyAny>> {
    let layout = column_layouts(layout);
    let (schema, batches) = enter(py, || {
        let empty = layout::narrow(&RecordBatch::new_empty(data.schema), &layout)?;
        let batches =
            data.batches.iter().map(|batch| layout::narrow(batch, &layout)).collect::<Result<_, _>>()?;
        Ok((empty.schema(), batches))
    })?;
    table(py, schema, batches)
}

/// The rows in the canonical types of a schema; columns that they lack are null.
#[pyfunction]
pub(crate) fn widen<'py>(
    py: Python<'py>,
    data: ArrowInput,
    schema: PyArrowType<Schema>,
) -> PyResult<Bound<'py, PyAny>> {
    let schema = Arc::new(schema.0);
    let batches = enter(py, || {
        data.batches.iter().map(|batch| layout::widen(batch, &schema)).collect::<Result<_, _>>()
    })?;
    table(py, schema, batches)
}
