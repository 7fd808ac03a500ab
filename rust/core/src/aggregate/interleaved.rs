//! Symbols that take turns, folded in input order with one running bar for each.

use std::ops::Range;

use super::bars::BarColumns;
use super::input::{Chunk, Input};
use super::kernel::{Bar, Carry, Sink, Stop, Ticks, fold};
use super::plan::Plan;

/// Rows for each bar under which gathering by symbol is faster.
const FEW_ROWS: usize = 4;
/// Bars that are no sign of a sparse input yet.
const FIRST_BARS: usize = 1024;

/// Bars of the finest level, by symbol.
pub(crate) struct Interleaved {
    bars: Vec<Bar>,
    /// Positions in `bars`, by symbol code and then by time.
    places: Vec<usize>,
    ranges: Vec<Range<usize>>,
    disordered: Vec<bool>,
}

impl Interleaved {
    /// Fold plain rows; none where bars are many, or where a row or sum is refused: who gathers can name it.
    pub(crate) fn fold(input: &Input<'_>, length_ns: i64) -> Option<Self> {
        let symbols = input.symbols.names().len();
        let mut running = Symbols {
            carries: vec![Carry::default(); symbols],
            last: vec![(i64::MIN, i64::MIN); if input.has_sequence { symbols } else { 0 }],
            disordered: vec![false; symbols],
            made: Made::default(),
            unit_ns: input.unit_ns,
            length_ns,
            rows: input.rows,
        };
        for chunk in &input.chunks {
            running.take(chunk)?;
        }
        Some(running.finish())
    }

    /// Whether a symbol's rows were out of order, so that it has no bars here.
    pub(crate) fn is_disordered(&self, code: u32) -> bool {
        self.disordered[code as usize]
    }

    /// Append one symbol's bars.
    pub(crate) fn push_to(&self, code: u32, bars: &mut BarColumns) {
        for place in &self.places[self.ranges[code as usize].clone()] {
            bars.push(&self.bars[*place]);
        }
    }

    /// An upper bound of the bars of all levels of the ordered symbols.
    pub(crate) fn estimate(&self, plan: &Plan) -> usize {
        let starts = || self.bars.iter().map(|bar| bar.start);
        let span = starts().max().unwrap_or(0).saturating_sub(starts().min().unwrap_or(0));
        let mut counts: Vec<usize> = Vec::with_capacity(plan.levels().len());
        for level in plan.levels() {
            let finer = level.parent.map_or(self.bars.len(), |parent| counts[parent]);
            let buckets = (span / level.timeframe.ns()) as usize + 2;
            counts.push(finer.min(buckets.saturating_mul(self.ranges.len())));
        }
        counts.iter().sum()
    }
}

struct Symbols {
    carries: Vec<Carry>,
    /// Instant and sequence of each symbol's last row; empty without sequences.
    last: Vec<(i64, i64)>,
    disordered: Vec<bool>,
    made: Made,
    unit_ns: i64,
    length_ns: i64,
    /// Of the whole input.
    rows: usize,
}

#[derive(Default)]
struct Made {
    bars: Vec<Bar>,
    owners: Vec<u32>,
}

impl Made {
    /// Make room for the bars to come, if they come as often as they did in the first rows.
    fn reserve(&mut self, done: usize, rows: usize) {
        let bars = self.bars.len();
        if bars == self.bars.capacity() && bars > FIRST_BARS {
            let expected = bars.saturating_mul(rows) / done;
            let more = (expected + expected / 8).min(FIRST_BARS + rows / FEW_ROWS).saturating_sub(bars);
            self.bars.reserve_exact(more.max(FIRST_BARS));
        }
    }
}

impl Sink for Made {
    fn push(&mut self, bar: &Bar) {
        self.bars.push(*bar);
    }
}

impl Symbols {
    fn take(&mut self, chunk: &Chunk<'_>) -> Option<()> {
        let columns = chunk.columns;
        let prices: &[i128] = columns.price.as_ref()?.values();
        let volumes: &[i128] = columns.volume.as_ref()?.values();
        let sequences = columns.sequence.as_ref().filter(|_| !self.last.is_empty()).map(|s| s.values());
        let mut start = 0;
        for run in &chunk.runs {
            let code = run.code as usize;
            let rows = start..start + run.len as usize;
            start = rows.end;
            for row in rows {
                let at = columns.timestamp[row];
                if let Some(sequences) = sequences {
                    let (last, next) = (&mut self.last[code], (at, sequences[row]));
                    self.disordered[code] |= *last >= next && *last != (i64::MIN, i64::MIN);
                    *last = next;
                }
                if self.carries[code].add_one(at, prices[row], volumes[row]) || self.disordered[code] {
                    continue;
                }
                self.made.reserve(chunk.first_row + row + 1, self.rows);
                let one = row..row + 1;
                let ticks = Ticks {
                    timestamp: &columns.timestamp[one.clone()],
                    price: &prices[one.clone()],
                    volume: &volumes[one],
                    parts: None,
                    unit_ns: self.unit_ns,
                };
                match fold(ticks, self.length_ns, &mut self.carries[code], &mut self.made) {
                    Ok(()) => {}
                    Err(Stop::Disorder) => self.disordered[code] = true,
                    Err(_) => return None,
                }
                self.made.owners.resize(self.made.bars.len(), run.code);
                if self.made.bars.len() > FIRST_BARS + (chunk.first_row + row) / FEW_ROWS {
                    return None;
                }
            }
        }
        Some(())
    }

    fn finish(self) -> Interleaved {
        let Made { mut bars, mut owners } = self.made;
        for (code, bar) in self.carries.iter().enumerate().filter_map(|(c, carry)| Some((c, carry.bar?))) {
            bars.push(bar);
            owners.push(code as u32);
        }
        let mut ranges = vec![0..0; self.carries.len()];
        for owner in &owners {
            ranges[*owner as usize].end += 1;
        }
        let mut total = 0;
        for range in &mut ranges {
            let count = range.end;
            *range = total..total;
            total += count;
        }
        let mut places = vec![0; bars.len()];
        for (place, owner) in owners.iter().enumerate() {
            let end = &mut ranges[*owner as usize].end;
            places[*end] = place;
            *end += 1;
        }
        Interleaved { bars, places, ranges, disordered: self.disordered }
    }
}
