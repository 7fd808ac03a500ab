//! A whole input: its batches, symbols and the runs of each.

use arrow_array::RecordBatch;

use super::columns::TickColumns;
use super::eligibility::{BarSpec, Basis, RowReader};
use crate::error::{Error, Result};
use crate::symbols::{Run, SymbolTable, append_runs};

/// Rows under which an average run is too short to be worth reading in place.
const SHORT_RUN: usize = 32;

/// One batch of the input.
pub(crate) struct Chunk<'a> {
    pub(crate) columns: &'a TickColumns,
    pub(crate) reader: RowReader<'a>,
    pub(crate) runs: Vec<Run>,
    pub(crate) first_row: usize,
}

/// Neighbouring rows of one symbol in one chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) chunk: usize,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// Tick columns of each batch, with the ordinal of its first row.
pub(crate) fn take_columns(batches: &[RecordBatch], first_row: usize) -> Result<Vec<(usize, TickColumns)>> {
    let mut row = first_row;
    let mut taken = Vec::with_capacity(batches.len());
    for batch in batches {
        taken.push((row, TickColumns::try_new(batch, row)?));
        row += batch.num_rows();
    }
    Ok(taken)
}

/// All batches of one call, read under one basis and spec.
pub(crate) struct Input<'a> {
    pub(crate) chunks: Vec<Chunk<'a>>,
    pub(crate) symbols: SymbolTable,
    pub(crate) rows: usize,
    pub(crate) has_sequence: bool,
    pub(crate) unit_ns: i64,
}

impl<'a> Input<'a> {
    pub(crate) fn new(taken: &'a [(usize, TickColumns)], basis: Basis, spec: &'a BarSpec) -> Result<Self> {
        let mut symbols = SymbolTable::default();
        let mut chunks = Vec::with_capacity(taken.len());
        for (first_row, columns) in taken {
            let mut runs = Vec::new();
            append_runs(&columns.symbol, *first_row, &mut symbols, &mut runs)?;
            let reader = RowReader::new(columns, basis, spec, *first_row)?;
            chunks.push(Chunk { columns, reader, runs, first_row: *first_row });
        }
        let unit_ns = taken.first().map_or(1, |(_, c)| c.unit_ns);
        if taken.iter().any(|(_, c)| c.unit_ns != unit_ns) {
            return Err(Error::Schema(
                "column timestamp_utc changes its unit between batches; cast it to one".into(),
            ));
        }
        let rows = taken.iter().map(|(_, c)| c.rows).sum();
        let has_sequence = !taken.is_empty() && taken.iter().all(|(_, c)| c.sequence.is_some());
        Ok(Self { chunks, symbols, rows, has_sequence, unit_ns })
    }

    /// Whether every row counts for everything as a trade.
    pub(crate) fn is_plain(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.reader.is_plain())
    }

    /// Whether symbols come in stretches long enough to be read in place.
    pub(crate) fn is_grouped(&self) -> bool {
        self.chunks.iter().map(|chunk| chunk.runs.len()).sum::<usize>() * SHORT_RUN <= self.rows + SHORT_RUN
    }

    /// Each symbol's segments in input order, by code.
    pub(crate) fn segments(&self) -> Vec<Vec<Segment>> {
        let mut segments = vec![Vec::new(); self.symbols.names().len()];
        for (at, chunk) in self.chunks.iter().enumerate() {
            let mut start = 0;
            for run in &chunk.runs {
                segments[run.code as usize].push(Segment { chunk: at, start, len: run.len as usize });
                start += run.len as usize;
            }
        }
        segments
    }

    /// The input row of the first tick at an instant, for messages.
    pub(crate) fn row_at(&self, timestamp: i64) -> usize {
        self.chunks
            .iter()
            .find_map(|c| {
                c.columns.timestamp.iter().position(|t| *t == timestamp).map(|row| c.first_row + row)
            })
            .unwrap_or_default()
    }
}
