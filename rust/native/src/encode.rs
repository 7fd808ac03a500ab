//! `backtestr._native`: rows to Parquet.

use std::borrow::Cow;

use backtestr_core::encode::{self, Column};
use pyo3::prelude::*;

use crate::boundary::{ArrowInput, enter};
use crate::layout::{Layout, column_layouts};

/// A Parquet file of rows in canonical types.
#[pyfunction]
#[pyo3(signature = (data, groups, layout, *, field_ids, delta, sorted_by, zstd_level))]
#[allow(clippy::too_many_arguments)] // one for each keyword
pub(crate) fn encode_parquet(
    py: Python<'_>,
    data: ArrowInput,
    groups: Vec<(usize, usize)>,
    layout: Vec<Layout>,
    field_ids: Vec<i32>,
    delta: Vec<bool>,
    sorted_by: Vec<String>,
    zstd_level: i32,
) -> PyResult<Cow<'static, [u8]>> {
    let groups: Vec<_> = groups.into_iter().map(|(start, stop)| start..stop).collect();
    let columns: Vec<_> = column_layouts(layout)
        .into_iter()
        .zip(field_ids)
        .zip(delta)
        .map(|((layout, field_id), delta)| Column { field_id, layout, delta })
        .collect();
    enter(py, || {
        encode::encode_parquet(&data.schema, &data.batches, &groups, &columns, &sorted_by, zstd_level)
            .map(Cow::Owned)
    })
}
