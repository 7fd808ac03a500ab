//! Eligible ticks copied out by symbol, for inputs whose rows cannot be read in place.

use std::cmp::Ordering;
use std::ops::Range;

use arrow_array::{Array, Decimal128Array};

use super::input::{Chunk, Input};
use super::kernel::{Fixed, Ticks};
use crate::error::Result;
use crate::schema::MAX_FIXED;

/// Ticks by symbol, each symbol's in input order until sorted.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) timestamp: Vec<i64>,
    pub(crate) price: Vec<i64>,
    pub(crate) volume: Vec<i64>,
    pub(crate) sequence: Vec<i64>,
    /// Chunk and row in it; empty unless asked for.
    pub(crate) origin: Vec<(u32, u32)>,
    parts: Vec<u8>,
    ranges: Vec<Range<usize>>,
    unit_ns: i64,
}

/// What to gather.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// One symbol's code, or all.
    pub(crate) only: Option<u32>,
    /// Whether to keep where each tick came from.
    pub(crate) origin: bool,
}

impl Gathered {
    pub(crate) fn new(input: &Input<'_>, plain: bool, wanted: Wanted) -> Result<Self> {
        let mut counts = vec![0_usize; input.symbols.names().len()];
        let is_wanted = |code: u32| wanted.only.is_none_or(|only| only == code);
        for run in input.chunks.iter().flat_map(|c| &c.runs).filter(|run| is_wanted(run.code)) {
            counts[run.code as usize] += run.len as usize;
        }
        let mut total = 0;
        let mut cursors: Vec<usize> = Vec::with_capacity(counts.len());
        for count in &counts {
            cursors.push(total);
            total += count;
        }
        let starts = cursors.clone();
        let sized = |needed: bool| vec![0; if needed { total } else { 0 }];
        let mut gathered = Self {
            timestamp: sized(true),
            price: sized(true),
            volume: sized(true),
            sequence: sized(input.has_sequence),
            origin: vec![(0, 0); if wanted.origin { total } else { 0 }],
            parts: vec![0; if plain { 0 } else { total }],
            ranges: Vec::new(),
            unit_ns: input.unit_ns,
        };
        for (at, chunk) in input.chunks.iter().enumerate() {
            let mut start = 0;
            for run in &chunk.runs {
                let rows = start..start + run.len as usize;
                start = rows.end;
                if is_wanted(run.code) {
                    let cursor = &mut cursors[run.code as usize];
                    if let (true, Some(price), Some(volume)) =
                        (plain, &chunk.columns.price, &chunk.columns.volume)
                    {
                        gathered.copy(chunk, (price, volume), rows.clone(), *cursor)?;
                    }
                    *cursor = gathered.place(at as u32, chunk, plain, rows, *cursor)?;
                }
            }
        }
        gathered.ranges = starts.into_iter().zip(cursors).map(|(from, to)| from..to).collect();
        Ok(gathered)
    }

    /// Copy prices and volumes that all count.
    #[inline]
    fn copy(
        &mut self,
        chunk: &Chunk<'_>,
        (price, volume): (&Decimal128Array, &Decimal128Array),
        rows: Range<usize>,
        to: usize,
    ) -> Result<()> {
        let (prices, volumes) = (price.values(), volume.values());
        for (slot, row) in (to..).zip(rows) {
            let (p, v) = (prices[row], volumes[row]);
            if p.misfit() | v.misfit() != 0
                || !(-MAX_FIXED..=MAX_FIXED).contains(&p.low())
                || !(0..=MAX_FIXED).contains(&v.low())
            {
                chunk.reader.read(row)?;
            }
            self.price[slot] = p.low();
            self.volume[slot] = v.low();
        }
        Ok(())
    }

    /// Place the other columns, and everything where rows may not count; gives the next free slot.
    fn place(
        &mut self,
        at: u32,
        chunk: &Chunk<'_>,
        plain: bool,
        rows: Range<usize>,
        from: usize,
    ) -> Result<usize> {
        let mut slot = from;
        let sequence = chunk.columns.sequence.as_ref().map(|s| s.values());
        for row in rows {
            if !plain {
                let Some(tick) = chunk.reader.read(row)? else {
                    continue;
                };
                (self.price[slot], self.volume[slot], self.parts[slot]) =
                    (tick.price, tick.volume, tick.parts);
            }
            self.timestamp[slot] = chunk.columns.timestamp[row];
            if let (Some(to), Some(sequence)) = (self.sequence.get_mut(slot), sequence) {
                *to = sequence[row];
            }
            if let Some(origin) = self.origin.get_mut(slot) {
                *origin = (at, row as u32);
            }
            slot += 1;
        }
        Ok(slot)
    }

    /// The slots of a symbol.
    pub(crate) fn range(&self, code: u32) -> Range<usize> {
        self.ranges[code as usize].clone()
    }

    /// Some slots, as the kernel reads them.
    pub(crate) fn ticks(&self, slots: Range<usize>) -> Ticks<'_, i64> {
        Ticks {
            timestamp: &self.timestamp[slots.clone()],
            price: &self.price[slots.clone()],
            volume: &self.volume[slots.clone()],
            parts: (!self.parts.is_empty()).then(|| &self.parts[slots]),
            unit_ns: self.unit_ns,
        }
    }

    /// Whether slots are in order of time and, where there is one, strictly of sequence.
    pub(crate) fn is_ordered(&self, slots: Range<usize>) -> bool {
        let sequence = self.sequence.get(slots.clone()).unwrap_or_default();
        is_ordered(&self.timestamp[slots], sequence)
    }

    /// Sort slots (gathered with their origin) by time, sequence, then the rows' values; equal rows stay in input order.
    pub(crate) fn sort(&mut self, input: &Input<'_>, slots: Range<usize>) {
        let mut order: Vec<usize> = slots.clone().collect();
        order.sort_by(|a, b| {
            self.timestamp[*a].cmp(&self.timestamp[*b]).then_with(|| {
                if self.sequence.is_empty() {
                    return Ordering::Equal;
                }
                let by_sequence = self.sequence[*a].cmp(&self.sequence[*b]);
                by_sequence.then_with(|| tie(input, self.origin[*a]).cmp(&tie(input, self.origin[*b])))
            })
        });
        permute(&mut self.timestamp, &slots, &order);
        permute(&mut self.price, &slots, &order);
        permute(&mut self.volume, &slots, &order);
        permute(&mut self.sequence, &slots, &order);
        permute(&mut self.origin, &slots, &order);
        permute(&mut self.parts, &slots, &order);
    }
}

fn permute<T: Copy>(column: &mut [T], slots: &Range<usize>, order: &[usize]) {
    if column.is_empty() {
        return;
    }
    let sorted: Vec<T> = order.iter().map(|from| column[*from]).collect();
    column[slots.clone()].copy_from_slice(&sorted);
}

/// Whether instants never go back, and sequences (if any) rise where instants are equal.
pub(crate) fn is_ordered(timestamp: &[i64], sequence: &[i64]) -> bool {
    if sequence.is_empty() {
        return timestamp.windows(2).all(|w| w[0] <= w[1]);
    }
    let pairs = timestamp.windows(2).zip(sequence.windows(2));
    pairs.fold(true, |ordered, (t, s)| ordered & (t[0] < t[1] || (t[0] == t[1] && s[0] < s[1])))
}

/// The values that order ticks of equal time and sequence, as far as they can change a bar.
pub(crate) fn tie(input: &Input<'_>, (chunk, row): (u32, u32)) -> [i64; 6] {
    let columns = input.chunks[chunk as usize].columns;
    let row = row as usize;
    let decimal = |column: &Option<Decimal128Array>| {
        column.as_ref().filter(|c| c.is_valid(row)).map_or(i64::MIN, |c| c.value(row).low())
    };
    [
        columns.epoch.as_ref().filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row)),
        columns.tick_type.as_ref().filter(|c| c.is_valid(row)).map_or(0, |c| i64::from(c.value(row))),
        decimal(&columns.price),
        decimal(&columns.volume),
        decimal(&columns.bid),
        decimal(&columns.ask),
    ]
}
