//! Ticks in the store's order: symbol (byte order), instant, sequence; ties by the other values in column order.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampNanosecondType};
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, UInt32Array};
use arrow_ord::ord::{DynComparator, make_comparator};
use arrow_schema::SortOptions;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use crate::error::{Error, Result};
use crate::schema;
use crate::symbols::{Run, SymbolTable, append_runs};

/// Column of 32-bit numbers that sorts before all others where it is present.
pub const LEADING: &str = "_interval";

fn arrow(error: arrow_schema::ArrowError) -> Error {
    Error::Schema(format!("sorting ticks: {error}"))
}

/// Sort canonical ticks; columns beyond the canonical ones go along. The symbol dictionary comes out in byte order.
///
/// # Errors
/// [`Error::Schema`] if symbol or timestamp_utc is missing or not canonical.
pub fn sort_ticks(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let (mut table, mut runs) = (SymbolTable::default(), Vec::new());
    let mut batch_runs = Vec::with_capacity(batches.len());
    for batch in batches {
        let before = runs.len();
        append_runs(column(batch, "symbol")?, 0, &mut table, &mut runs)?;
        batch_runs.push(before..runs.len());
    }
    let by_name = table.codes_by_name();
    let mut ranks = vec![0_i32; by_name.len()];
    by_name.iter().enumerate().for_each(|(rank, code)| ranks[*code as usize] = rank as i32);
    let names = StringArray::from_iter_values(by_name.iter().map(|code| &*table.names()[*code as usize]));
    let names: ArrayRef = Arc::new(names);
    let ranked = batches
        .iter()
        .zip(batch_runs)
        .map(|(batch, range)| with_ranks(batch, &runs[range], &ranks, &names))
        .collect::<Result<Vec<_>>>()?;
    let mut sorted = true;
    let mut previous: Option<&RecordBatch> = None;
    for batch in ranked.iter().filter(|batch| batch.num_rows() > 0) {
        sorted = sorted
            && Rows::new(batch)?.is_sorted(batch)?
            && previous.map_or(Ok(true), |previous| follows(previous, batch))?;
        previous = Some(batch);
    }
    match previous {
        Some(first) if !sorted => {
            Ok(vec![sort_batch(&concat_batches(&first.schema(), &ranked).map_err(arrow)?)?])
        }
        _ => Ok(ranked),
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Error::Schema(format!("sorting ticks: column {name} is missing")))
}

/// The batch with symbols as ranks into the names.
fn with_ranks(batch: &RecordBatch, runs: &[Run], ranks: &[i32], names: &ArrayRef) -> Result<RecordBatch> {
    let mut codes = Vec::with_capacity(batch.num_rows());
    for run in runs {
        codes.extend(std::iter::repeat_n(ranks[run.code as usize], run.len as usize));
    }
    let symbols =
        DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), Arc::clone(names)).map_err(arrow)?;
    let position = batch.schema().index_of("symbol").map_err(arrow)?;
    let mut columns = batch.columns().to_vec();
    columns[position] = Arc::new(symbols);
    let old = batch.schema();
    let mut fields: Vec<_> = old.fields().iter().map(Arc::clone).collect();
    fields[position] = Arc::new(old.field(position).clone().with_data_type(schema::text()));
    let schema = arrow_schema::Schema::new_with_metadata(fields, batch.schema().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(arrow)
}

/// The leading keys of a batch.
struct Rows<'a> {
    leading: Option<&'a [i32]>,
    ranks: &'a [i32],
    times: &'a [i64],
    sequences: Option<&'a [i64]>,
}

impl<'a> Rows<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self> {
        let times = column(batch, "timestamp_utc")?
            .as_primitive_opt::<TimestampNanosecondType>()
            .ok_or_else(|| Error::Schema("sorting ticks: timestamp_utc is not in nanoseconds".into()))?;
        Ok(Self {
            leading: batch.column_by_name(LEADING).map(|c| &c.as_primitive::<Int32Type>().values()[..]),
            ranks: column(batch, "symbol")?.as_dictionary::<Int32Type>().keys().values(),
            times: times.values(),
            sequences: batch.column_by_name("sequence").map(|c| &c.as_primitive::<Int64Type>().values()[..]),
        })
    }

    #[inline]
    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.compare_to(a, self, b)
    }

    #[inline]
    fn compare_to(&self, a: usize, other: &Self, b: usize) -> Ordering {
        let leading = match (self.leading, other.leading) {
            (Some(x), Some(y)) => x[a].cmp(&y[b]),
            _ => Ordering::Equal,
        };
        leading
            .then_with(|| self.ranks[a].cmp(&other.ranks[b]))
            .then_with(|| self.times[a].cmp(&other.times[b]))
            .then_with(|| match (self.sequences, other.sequences) {
                (Some(x), Some(y)) => x[a].cmp(&y[b]),
                _ => Ordering::Equal,
            })
    }

    fn is_sorted(&self, batch: &RecordBatch) -> Result<bool> {
        let mut ties: Option<Vec<DynComparator>> = None;
        let mut row = 1;
        while row < self.times.len() {
            // Blocks of one symbol in order of time are the rule.
            let block = (row + 256).min(self.times.len());
            if self.ascends(row, block) {
                row = block;
                continue;
            }
            match self.compare(row - 1, row) {
                Ordering::Less => {}
                Ordering::Greater => return Ok(false),
                Ordering::Equal => {
                    let ties = match &mut ties {
                        Some(ties) => ties,
                        None => ties.insert(tie_order(batch, batch)?),
                    };
                    if by_ties(ties, row - 1, row) == Ordering::Greater {
                        return Ok(false);
                    }
                }
            }
            row += 1;
        }
        Ok(true)
    }

    /// Whether each of the rows is of the symbol of the row before it, and later in time or else in sequence.
    fn ascends(&self, start: usize, stop: usize) -> bool {
        let Some(sequences) = self.sequences.filter(|_| self.leading.is_none()) else { return false };
        let pairs = |values: &'a [i64]| values[start - 1..stop].windows(2);
        let same = self.ranks[start - 1..stop].windows(2).fold(true, |all, pair| all & (pair[0] == pair[1]));
        same && pairs(self.times).zip(pairs(sequences)).fold(true, |all, (time, sequence)| {
            all & ((time[0] < time[1]) | ((time[0] == time[1]) & (sequence[0] < sequence[1])))
        })
    }
}

fn follows(previous: &RecordBatch, next: &RecordBatch) -> Result<bool> {
    let last = previous.num_rows() - 1;
    Ok(match Rows::new(previous)?.compare_to(last, &Rows::new(next)?, 0) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => by_ties(&tie_order(previous, next)?, last, 0) != Ordering::Greater,
    })
}

/// Comparators of the columns after the leading keys. Rows without a sequence keep their order.
fn tie_order(left: &RecordBatch, right: &RecordBatch) -> Result<Vec<DynComparator>> {
    if left.column_by_name("sequence").is_none() {
        return Ok(Vec::new());
    }
    let options = SortOptions { descending: false, nulls_first: true };
    let canonical = schema::ticks();
    let names = canonical.fields().iter().map(|field| field.name().as_str());
    names
        .filter(|name| !matches!(*name, "symbol" | "timestamp_utc" | "sequence"))
        .filter_map(|name| Some((left.column_by_name(name)?, right.column_by_name(name)?)))
        .map(|(left, right)| make_comparator(left, right, options).map_err(arrow))
        .collect()
}

fn by_ties(ties: &[DynComparator], a: usize, b: usize) -> Ordering {
    ties.iter().map(|compare| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn sort_batch(batch: &RecordBatch) -> Result<RecordBatch> {
    let rows = Rows::new(batch)?;
    let mut order = group(&rows);
    let ties = tie_order(batch, batch)?;
    let mut start = 0;
    while start < order.len() {
        let first = order[start] as usize;
        let same = |row: &u32| {
            rows.ranks[*row as usize] == rows.ranks[first]
                && rows.leading.is_none_or(|leading| leading[*row as usize] == leading[first])
        };
        let stop = start + order[start..].partition_point(same);
        let compare = |a: &u32, b: &u32| {
            let (a, b) = (*a as usize, *b as usize);
            let sequence = || rows.sequences.map_or(Ordering::Equal, |s| s[a].cmp(&s[b]));
            rows.times[a].cmp(&rows.times[b]).then_with(sequence).then_with(|| by_ties(&ties, a, b))
        };
        if !order[start..stop].is_sorted_by(|a, b| compare(a, b) != Ordering::Greater) {
            order[start..stop].sort_by(compare);
        }
        start = stop;
    }
    take_record_batch(batch, &UInt32Array::from(order)).map_err(arrow)
}

/// Rows by leading key and symbol, each group in input order: a counting sort.
fn group(rows: &Rows<'_>) -> Vec<u32> {
    let mut order = counting_sort(rows.ranks, None);
    if let Some(leading) = rows.leading {
        order = counting_sort(leading, Some(&order));
    }
    order
}

fn counting_sort(keys: &[i32], order: Option<&[u32]>) -> Vec<u32> {
    let low = keys.iter().copied().min().unwrap_or(0);
    let high = keys.iter().copied().max().unwrap_or(0);
    let slot = |key: i32| (i64::from(key) - i64::from(low)) as usize;
    let mut starts = vec![0_u32; slot(high) + 2];
    keys.iter().for_each(|key| starts[slot(*key) + 1] += 1);
    (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
    let mut sorted = vec![0_u32; keys.len()];
    let mut place = |row: u32| {
        let start = &mut starts[slot(keys[row as usize])];
        sorted[*start as usize] = row;
        *start += 1;
    };
    match order {
        Some(order) => order.iter().for_each(|row| place(*row)),
        None => (0..keys.len() as u32).for_each(&mut place),
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Array, Int64Array, TimestampNanosecondArray};
    use proptest::prelude::*;

    type Row = (u8, i64, i64, i64);

    fn batch(rows: &[Row]) -> RecordBatch {
        let symbols: StringArray = rows.iter().map(|row| Some(format!("S{}", row.0))).collect();
        let times: TimestampNanosecondArray = rows.iter().map(|row| Some(row.1)).collect();
        let sequences: Int64Array = rows.iter().map(|row| Some(row.2)).collect();
        let epochs: Int64Array = rows.iter().map(|row| Some(row.3)).collect();
        RecordBatch::try_from_iter([
            ("symbol", Arc::new(symbols) as ArrayRef),
            ("timestamp_utc", Arc::new(times.with_timezone("UTC"))),
            ("sequence", Arc::new(sequences)),
            ("epoch", Arc::new(epochs)),
        ])
        .unwrap()
    }

    fn rows(batches: &[RecordBatch]) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in batches {
            let symbols = batch["symbol"].as_dictionary::<Int32Type>();
            for row in 0..batch.num_rows() {
                let name =
                    symbols.downcast_dict::<StringArray>().unwrap().into_iter().nth(row).unwrap().unwrap();
                rows.push((
                    name[1..].parse().unwrap(),
                    batch["timestamp_utc"].as_primitive::<TimestampNanosecondType>().value(row),
                    batch["sequence"].as_primitive::<Int64Type>().value(row),
                    batch["epoch"].as_primitive::<Int64Type>().value(row),
                ));
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn any_order_of_any_batches_sorts(
            given in proptest::collection::vec(proptest::collection::vec((0_u8..4, -3_i64..3, 0_i64..3, 0_i64..3), 1..20), 1..4)
        ) {
            let batches: Vec<_> = given.iter().map(|rows| batch(rows)).collect();
            let mut expected: Vec<Row> = given.concat();
            expected.sort();
            prop_assert_eq!(rows(&sort_ticks(&batches).unwrap()), expected);
        }
    }

    #[test]
    fn sorted_input_keeps_its_buffers() {
        let batch = batch(&[(1, 5, 0, 0), (1, 5, 1, 0), (2, 0, 0, 0)]);
        let sorted = sort_ticks(std::slice::from_ref(&batch)).unwrap();
        assert!(batch["timestamp_utc"].to_data().ptr_eq(&sorted[0]["timestamp_utc"].to_data()));
    }
}
