//! Counts over canonical ticks and bars that the store keeps: per symbol, per day, per run of equal keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int32Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};

use crate::error::{Error, Result};

const DAY_NS: i64 = 86_400_000_000_000;

/// Instants and kinds of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// First instant, ns.
    pub low: i64,
    /// Last instant, ns.
    pub high: i64,
    /// Rows of each tick type.
    pub kinds: [i64; 4],
}

impl Tally {
    const NONE: Self = Self { low: i64::MAX, high: i64::MIN, kinds: [0; 4] };

    fn of(times: &[i64], kinds: &[i8]) -> Self {
        let span = |(low, high): (i64, i64), time: &i64| (low.min(*time), high.max(*time));
        let (low, high) = times.iter().fold((i64::MAX, i64::MIN), span);
        Self { low, high, kinds: count_kinds(kinds) }
    }

    fn merge(&mut self, other: &Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.kinds.iter_mut().zip(other.kinds).for_each(|(sum, count)| *sum += count);
    }
}

fn count_kinds(kinds: &[i8]) -> [i64; 4] {
    let mut counts = [0; 4];
    for block in kinds.chunks(256) {
        let first = block[0];
        // Rows of one kind are the rule.
        if block.iter().fold(true, |equal, kind| equal & (*kind == first)) {
            counts[first.clamp(0, 3) as usize] += block.len() as i64;
        } else {
            block.iter().for_each(|kind| counts[(*kind).clamp(0, 3) as usize] += 1);
        }
    }
    counts
}

/// Counts rows by day; rows of the same day mostly follow each other.
#[derive(Default)]
struct Days {
    counts: BTreeMap<i64, i64>,
    day: std::ops::Range<i64>,
    rows: i64,
}

impl Days {
    fn add(&mut self, times: &[i64], low: i64, high: i64) {
        if self.day.contains(&low) && self.day.contains(&high) {
            self.rows += times.len() as i64;
            return;
        }
        for time in times {
            if !self.day.contains(time) {
                self.close();
                let start = time.div_euclid(DAY_NS).saturating_mul(DAY_NS);
                self.day = start..start.saturating_add(DAY_NS);
            }
            self.rows += 1;
        }
    }

    fn close(&mut self) {
        if self.rows > 0 {
            *self.counts.entry(self.day.start.div_euclid(DAY_NS)).or_insert(0) += self.rows;
        }
        self.rows = 0;
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::Schema(format!("column {name:?} is missing")))
}

fn instants(batch: &RecordBatch) -> Result<&[i64]> {
    let times = column(batch, "timestamp_utc")?.as_primitive_opt::<TimestampNanosecondType>();
    times
        .map(|times| &times.values()[..])
        .ok_or_else(|| Error::Schema("timestamp_utc is not in nanoseconds".into()))
}

fn dictionary<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a [i32], &'a StringArray)> {
    let array = column(batch, name)?.as_dictionary_opt::<Int32Type>();
    let array: &DictionaryArray<Int32Type> =
        array.ok_or_else(|| Error::Schema(format!("column {name:?} is not a dictionary of 32-bit codes")))?;
    Ok((&array.keys().values()[..], array.values().as_string::<i32>()))
}

/// Per symbol its instants and kinds, and per day (since 1970-01-01) its rows.
///
/// # Errors
/// [`Error::Schema`] if the rows are not canonical ticks.
pub fn tally_ticks(batches: &[RecordBatch]) -> Result<(BTreeMap<String, Tally>, BTreeMap<i64, i64>)> {
    let (mut symbols, mut days) = (BTreeMap::<String, Tally>::new(), Days::default());
    for batch in batches {
        let (codes, names) = dictionary(batch, "symbol")?;
        let times = instants(batch)?;
        let kinds = column(batch, "tick_type")?.as_primitive::<Int8Type>().values();
        let mut tallies = vec![Tally::NONE; names.len()];
        let mut start = 0;
        while start < codes.len() {
            let stop = run_end(codes, start);
            let tally = Tally::of(&times[start..stop], &kinds[start..stop]);
            tallies[codes[start] as usize].merge(&tally);
            days.add(&times[start..stop], tally.low, tally.high);
            start = stop;
        }
        for (code, tally) in tallies.iter().enumerate().filter(|(_, tally)| tally.low <= tally.high) {
            symbols.entry(names.value(code).to_owned()).or_insert(Tally::NONE).merge(tally);
        }
    }
    days.close();
    Ok((symbols, days.counts))
}

/// One run: where it starts, its rows, and what is in it.
#[derive(Clone, Copy)]
struct Run {
    first: i64,
    rows: i64,
    tally: Tally,
    min_sequence: i64,
    max_sequence: i64,
}

/// Runs of rows with equal values in the key columns, in order: `first_row`, `rows`, `min_ns`, `max_ns`,
/// `min_sequence`, `max_sequence` and rows of each tick type (0 where there is no such column).
///
/// # Errors
/// [`Error::Schema`] for rows without these columns.
pub fn index_runs(batches: &[RecordBatch], keys: &[String]) -> Result<RecordBatch> {
    let mut runs: Vec<Run> = Vec::new();
    let mut last_key: Vec<String> = Vec::new();
    let mut row = 0;
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let keys = keys.iter().map(|key| dictionary(batch, key)).collect::<Result<Vec<_>>>()?;
        let key_at = |at: usize| -> Vec<String> {
            keys.iter().map(|(codes, names)| names.value(codes[at] as usize).to_owned()).collect()
        };
        let times = instants(batch)?;
        let kinds = batch.column_by_name("tick_type").map(|a| &a.as_primitive::<Int8Type>().values()[..]);
        let sequences = batch.column_by_name("sequence").map(|a| &a.as_primitive::<Int64Type>().values()[..]);
        let mut start = 0;
        while start < batch.num_rows() {
            let stop = keys.iter().map(|(codes, _)| run_end(codes, start)).min().unwrap_or(batch.num_rows());
            let mut run = describe(row, start..stop, times, kinds, sequences);
            if start == 0
                && key_at(0) == last_key
                && let Some(open) = runs.pop()
            {
                run = join(open, run);
            }
            runs.push(run);
            row += (stop - start) as i64;
            start = stop;
        }
        last_key = key_at(batch.num_rows() - 1);
    }
    type Column = (&'static str, fn(&Run) -> i64);
    let columns: [Column; 10] = [
        ("first_row", |run| run.first),
        ("rows", |run| run.rows),
        ("min_ns", |run| run.tally.low),
        ("max_ns", |run| run.tally.high),
        ("min_sequence", |run| run.min_sequence),
        ("max_sequence", |run| run.max_sequence),
        ("trades", |run| run.tally.kinds[0]),
        ("bids", |run| run.tally.kinds[1]),
        ("asks", |run| run.tally.kinds[2]),
        ("composites", |run| run.tally.kinds[3]),
    ];
    let columns =
        columns.map(|(name, get)| (name, Arc::new(runs.iter().map(get).collect::<Int64Array>()) as ArrayRef));
    RecordBatch::try_from_iter(columns).map_err(|error| Error::Schema(error.to_string()))
}

fn run_end(codes: &[i32], start: usize) -> usize {
    let code = codes[start];
    // Long runs are the rule: skip whole blocks of equal codes.
    let mut at = start;
    for block in codes[start..].chunks(256) {
        if !block.iter().fold(true, |equal, other| equal & (*other == code)) {
            return at + block.iter().take_while(|other| **other == code).count();
        }
        at += block.len();
    }
    codes.len()
}

fn describe(
    row: i64,
    range: std::ops::Range<usize>,
    times: &[i64],
    kinds: Option<&[i8]>,
    sequences: Option<&[i64]>,
) -> Run {
    let rows = range.len() as i64;
    let tally = Tally::of(&times[range.clone()], kinds.map_or(&[], |kinds| &kinds[range.clone()]));
    let (mut min_sequence, mut max_sequence) = (0, 0);
    if let Some(sequences) = sequences {
        (min_sequence, max_sequence) =
            sequences[range].iter().fold((i64::MAX, i64::MIN), |(low, high), s| (low.min(*s), high.max(*s)));
    }
    Run { first: row, rows, tally, min_sequence, max_sequence }
}

fn join(mut open: Run, next: Run) -> Run {
    open.rows += next.rows;
    open.tally.merge(&next.tally);
    open.min_sequence = open.min_sequence.min(next.min_sequence);
    open.max_sequence = open.max_sequence.max(next.max_sequence);
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int8Array, TimestampNanosecondArray};

    fn batch(rows: &[(&str, i64, i8, i64)]) -> RecordBatch {
        let symbol: DictionaryArray<Int32Type> = rows.iter().map(|row| row.0).collect();
        RecordBatch::try_from_iter([
            ("symbol", Arc::new(symbol) as ArrayRef),
            (
                "timestamp_utc",
                Arc::new(rows.iter().map(|row| row.1).map(Some).collect::<TimestampNanosecondArray>()),
            ),
            ("tick_type", Arc::new(rows.iter().map(|row| row.2).collect::<Int8Array>())),
            ("sequence", Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>())),
        ])
        .unwrap()
    }

    #[test]
    fn days_and_symbols_add_up_over_batches() {
        let batches =
            [batch(&[("A", -1, 0, 0), ("B", 0, 3, 1)]), batch(&[("A", DAY_NS, 0, 2), ("A", 5, 1, 3)])];
        let (symbols, days) = tally_ticks(&batches).unwrap();
        assert_eq!(days.into_iter().collect::<Vec<_>>(), [(-1, 1), (0, 2), (1, 1)]);
        assert_eq!(symbols["A"], Tally { low: -1, high: DAY_NS, kinds: [2, 1, 0, 0] });
        assert_eq!(symbols["B"], Tally { low: 0, high: 0, kinds: [0, 0, 0, 1] });
    }

    #[test]
    fn a_run_goes_on_in_the_next_batch() {
        let batches = [batch(&[("A", 1, 0, 7), ("B", 2, 0, 4)]), batch(&[("B", 3, 0, 2), ("C", 4, 0, 1)])];
        let runs = index_runs(&batches, &["symbol".into()]).unwrap();
        let column = |name: &str| runs[name].as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(column("first_row"), [0, 1, 3]);
        assert_eq!(column("rows"), [1, 2, 1]);
        assert_eq!(column("min_sequence"), [7, 2, 1]);
        assert_eq!(column("max_ns"), [1, 3, 4]);
    }
}
