//! Ticks, row by row against the rules: accepted, rejected with reasons, and counts.

mod rules;
mod ticks;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::{Decimal128Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Int8Array, Int32Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray, UInt32Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use arrow_select::filter::filter_record_batch;

pub use rules::{Rules, bit};
use ticks::{Key, Shape, Ticks};

use crate::columns::coerce;
use crate::error::{Error, Result};
use crate::reasons::{OUT_OF_ORDER, PRICE_JUMP, SYMBOL_MISSING};
use crate::schema::{self, COMPOSITE, TRADE};
use crate::symbols::{Run, SymbolTable, append_runs, text_at};

/// What became of one batch.
#[derive(Debug, Clone)]
pub struct Validated {
    /// Rows that no rule rejects, in canonical types, with tick_type, price and volume filled in.
    pub accepted: RecordBatch,
    /// The others, with `row` (ordinal over all batches) and `reasons`.
    pub rejected: RecordBatch,
    /// Rows per reason bit.
    pub counts: [u64; 32],
}

/// What is remembered of a symbol.
#[derive(Debug, Clone, Copy)]
struct Last {
    rules: usize,
    key: Key,
    price: Option<i128>,
}

/// Validates batch by batch; what depends on the row before is carried across batches.
#[derive(Debug, Clone)]
pub struct Validator {
    rules: Vec<Rules>,
    by_symbol: HashMap<String, usize>,
    symbols: SymbolTable,
    names: Arc<StringArray>,
    last: Vec<Last>,
    row: u64,
}

impl Validator {
    /// A validator with rules for all symbols, and others for some.
    pub fn new(rules: Rules, per_symbol: impl IntoIterator<Item = (String, Rules)>) -> Self {
        let mut all = vec![rules];
        let mut by_symbol = HashMap::new();
        for (symbol, rules) in per_symbol {
            by_symbol.insert(symbol, all.len());
            all.push(rules);
        }
        let names = Arc::new(StringArray::new_null(0));
        Self { rules: all, by_symbol, symbols: SymbolTable::default(), names, last: Vec::new(), row: 0 }
    }

    /// Validate a batch; `clock_ns` is the present for rules that state none.
    ///
    /// # Errors
    /// [`Error::Schema`] for a missing column or an unusable type.
    pub fn validate(&mut self, batch: &RecordBatch, clock_ns: i64) -> Result<Validated> {
        let coerced = coerce(batch)?;
        let mut masks = coerced.faults;
        let runs = self.runs(&coerced.batch, &mut masks)?;
        let ticks = Ticks::new(&coerced.batch, &coerced.rising)?;
        let shape = ticks.shape();
        let mids = self.check_rows(&ticks, shape, &runs, clock_ns, &mut masks);
        self.check_neighbours(&ticks, &runs, &mut masks);
        let stored = store(&ticks, shape, mids, &coerced.batch, self.codes(&runs)?)?;
        self.split(stored, &runs, masks)
    }

    /// Runs of symbols; rows without one get their fault.
    fn runs(&mut self, batch: &RecordBatch, masks: &mut Option<Vec<u32>>) -> Result<Vec<Run>> {
        let column = batch.column_by_name("symbol");
        let mut column = Arc::clone(
            column
                .ok_or_else(|| Error::Schema("column symbol is missing; name it, or pass symbol=".into()))?,
        );
        if column.logical_nulls().is_some_and(|nulls| nulls.null_count() > 0) {
            let texts = (0..column.len()).map(|row| Some(text_at(&column, row).unwrap_or_default()));
            column = Arc::new(texts.collect::<StringArray>());
        }
        let mut runs = Vec::new();
        append_runs(&column, 0, &mut self.symbols, &mut runs)?;
        for name in &self.symbols.names()[self.last.len()..] {
            let rules = self.by_symbol.get(&**name).copied().unwrap_or(0);
            self.last.push(Last { rules, key: Key { time: i64::MIN, sequence: None }, price: None });
        }
        let mut start = 0;
        for run in &runs {
            let stop = start + run.len as usize;
            if self.symbols.names()[run.code as usize].is_empty() {
                let masks = masks.get_or_insert_with(|| vec![0; batch.num_rows()]);
                masks[start..stop].iter_mut().for_each(|mask| *mask |= SYMBOL_MISSING);
            }
            start = stop;
        }
        Ok(runs)
    }

    fn codes(&mut self, runs: &[Run]) -> Result<ArrayRef> {
        if self.names.len() != self.symbols.names().len() {
            self.names = Arc::new(StringArray::from_iter_values(self.symbols.names()));
        }
        let rows = runs.iter().map(|run| run.len as usize).sum();
        // The builder need not check its codes afterwards, but looks each run's name up.
        if runs.len() < rows / 64 {
            let error = |error: arrow_schema::ArrowError| Error::Schema(error.to_string());
            let mut builder = StringDictionaryBuilder::<Int32Type>::new_with_dictionary(rows, &self.names)
                .map_err(error)?;
            for run in runs {
                builder.append_n(self.names.value(run.code as usize), run.len as usize).map_err(error)?;
            }
            return Ok(Arc::new(builder.finish()));
        }
        let mut codes = Vec::with_capacity(rows);
        for run in runs {
            codes.extend(std::iter::repeat_n(run.code as i32, run.len as usize));
        }
        let values: ArrayRef = Arc::clone(&self.names) as ArrayRef;
        let symbols = DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), values);
        Ok(Arc::new(symbols.map_err(|error| Error::Schema(error.to_string()))?))
    }

    fn check_rows(
        &self,
        ticks: &Ticks<'_>,
        shape: Shape,
        runs: &[Run],
        clock_ns: i64,
        masks: &mut Option<Vec<u32>>,
    ) -> Vec<i128> {
        // The strictest bound finds the blocks; the row's own bound judges it.
        let latest = |rules: &Rules| rules.latest(clock_ns);
        let strictest = self.rules.iter().map(latest).min().unwrap_or(clock_ns);
        let mut mids = Vec::new();
        let suspects = ticks.suspects(shape, strictest, &mut mids);
        if suspects.is_empty() {
            return mids;
        }
        let masks = masks.get_or_insert_with(|| vec![0; ticks.len()]);
        let mut runs = runs.iter();
        let (mut stop, mut bound) = (0, strictest);
        for row in suspects.into_iter().flatten() {
            while row >= stop {
                let Some(run) = runs.next() else { break };
                stop += run.len as usize;
                bound = latest(&self.rules[self.last[run.code as usize].rules]);
            }
            masks[row] |= ticks.reasons(row, masks[row], bound);
        }
        mids
    }

    /// Order and jumps, against the symbol's last row that was kept.
    fn check_neighbours(&mut self, ticks: &Ticks<'_>, runs: &[Run], masks: &mut Option<Vec<u32>>) {
        let sequences =
            ticks.sequences.filter(|sequences| sequences.null_count() == 0).map(Int64Array::values);
        let is_numbered = ticks.sequences.is_none() || sequences.is_some();
        let mut start = 0;
        for run in runs {
            let rows = start..start + run.len as usize;
            start = rows.end;
            let last = &mut self.last[run.code as usize];
            let rules = self.rules[last.rules];
            let kept =
                |masks: &Vec<u32>| masks[rows.clone()].iter().all(|mask| mask & rules.rejecting() == 0);
            let rises = is_numbered
                && masks.as_ref().is_none_or(kept)
                && rules.max_jump.is_none()
                && !ticks.key(rows.start).is_before(last.key)
                && ticks.is_rising(rows.clone())
                && sequences.is_none_or(|sequences| sequences[rows.clone()].is_sorted());
            if rises {
                last.key = ticks.key(rows.end - 1);
                continue;
            }
            for row in rows {
                let known = masks.as_ref().map_or(0, |masks| masks[row]);
                if known & rules.rejecting() != 0 {
                    continue;
                }
                let (key, price) = (ticks.key(row), ticks.row(row).price);
                let mut found = if key.is_before(last.key) { OUT_OF_ORDER } else { 0 };
                let jumped =
                    last.price.zip(price).is_some_and(|(before, price)| rules.is_jump(before, price));
                if jumped && found & rules.reject == 0 {
                    found |= PRICE_JUMP;
                }
                if found != 0 {
                    masks.get_or_insert_with(|| vec![0; ticks.len()])[row] |= found;
                }
                if found & rules.reject == 0 {
                    (last.key, last.price) = (key, price);
                }
            }
        }
    }

    fn split(&mut self, stored: RecordBatch, runs: &[Run], masks: Option<Vec<u32>>) -> Result<Validated> {
        let first = self.row;
        self.row += stored.num_rows() as u64;
        let mut counts = [0; 32];
        let Some(mut masks) = masks else {
            return Ok(Validated {
                rejected: with_reasons(&stored.slice(0, 0), vec![], vec![])?,
                accepted: stored,
                counts,
            });
        };
        let mut reject = Vec::with_capacity(masks.len());
        let mut rows = masks.iter_mut();
        for run in runs {
            let rules = self.rules[self.last[run.code as usize].rules];
            for mask in rows.by_ref().take(run.len as usize) {
                *mask &= rules.counted();
                reject.push(*mask & rules.rejecting() != 0);
            }
        }
        for mask in masks.iter().filter(|mask| **mask != 0) {
            (0..32).filter(|bit| mask >> bit & 1 == 1).for_each(|bit| counts[bit] += 1);
        }
        if !reject.contains(&true) {
            return Ok(Validated {
                rejected: with_reasons(&stored.slice(0, 0), vec![], vec![])?,
                accepted: stored,
                counts,
            });
        }
        let ordinals: Vec<i64> =
            (0..).zip(&reject).filter(|(_, out)| **out).map(|(row, _)| first as i64 + row).collect();
        let reasons: Vec<u32> =
            masks.into_iter().zip(&reject).filter(|(_, out)| **out).map(|(mask, _)| mask).collect();
        let out = BooleanArray::from(reject);
        let keep: BooleanArray = out.values().iter().map(|out| Some(!out)).collect();
        let filter =
            |rows| filter_record_batch(&stored, rows).map_err(|error| Error::Schema(error.to_string()));
        Ok(Validated {
            rejected: with_reasons(&filter(&out)?, ordinals, reasons)?,
            accepted: filter(&keep)?,
            counts,
        })
    }
}

fn with_reasons(rows: &RecordBatch, ordinals: Vec<i64>, reasons: Vec<u32>) -> Result<RecordBatch> {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("row", DataType::Int64, false)));
    fields.push(Arc::new(Field::new("reasons", DataType::UInt32, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from(ordinals)));
    columns.push(Arc::new(UInt32Array::from(reasons)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::Schema(error.to_string()))
}

/// The columns as they are stored: what the input has, with tick_type, price and volume made where they follow.
fn store(
    ticks: &Ticks<'_>,
    shape: Shape,
    mids: Vec<i128>,
    batch: &RecordBatch,
    symbols: ArrayRef,
) -> Result<RecordBatch> {
    let rows = ticks.len();
    // In a batch of one shape a given type is the type.
    let given = batch.column_by_name("tick_type").map(Arc::clone);
    let all = |kind| given.unwrap_or_else(|| Arc::new(Int8Array::from(vec![kind; rows])));
    let (kinds, price, volume): (ArrayRef, ArrayRef, ArrayRef) = match shape {
        Shape::Trades => {
            let price = batch.column_by_name("price").map(Arc::clone);
            let volume = batch.column_by_name("volume").filter(|v| v.null_count() == 0).map(Arc::clone);
            let zeros = || decimals(vec![0; rows], None);
            (all(TRADE), price.unwrap_or_else(zeros), volume.unwrap_or_else(zeros))
        }
        Shape::Quotes => (all(COMPOSITE), decimals(mids, None), decimals(vec![0; rows], None)),
        Shape::Mixed => {
            let made: Vec<_> = (0..rows).map(|row| ticks.row(row)).collect();
            let missing = made.iter().any(|row| row.price.is_none());
            let nulls = missing.then(|| NullBuffer::from_iter(made.iter().map(|row| row.price.is_some())));
            let price = made.iter().map(|row| row.price.unwrap_or(0)).collect();
            let volume = made.iter().map(|row| row.volume).collect();
            (
                Arc::new(Int8Array::from_iter_values(made.iter().map(|row| row.kind))),
                decimals(price, nulls),
                decimals(volume, None),
            )
        }
    };
    let made: [(&str, ArrayRef); 4] =
        [("symbol", symbols), ("tick_type", kinds), ("price", price), ("volume", volume)];
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in schema::ticks().fields() {
        let own = made.iter().find(|(name, _)| name == field.name()).map(|(_, column)| column);
        if let Some(column) = own.or_else(|| batch.column_by_name(field.name())) {
            fields.push(Field::new(field.name(), column.data_type().clone(), true));
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::Schema(error.to_string()))
}

fn decimals(values: Vec<i128>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<Decimal128Type>::new(values.into(), nulls).with_data_type(schema::fixed()))
}
