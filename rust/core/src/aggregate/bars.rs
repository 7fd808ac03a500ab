//! Finished bars by column, ready to be an Arrow record batch.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};

use super::eligibility::{ALL, Basis, PRICE, RANGE};
use super::kernel::{Bar, MAX_SUM, Sink, Stop};
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::round::div_half_even;
use crate::schema;

/// Bars held back until their columns are written in one go.
const STAGED: usize = 64;

/// Bars of all levels, in output order.
#[derive(Debug, Default)]
pub(crate) struct BarColumns {
    staged: Vec<Bar>,
    symbol: Vec<i32>,
    timeframe: Vec<i32>,
    start: Vec<i64>,
    open: Vec<i128>,
    high: Vec<i128>,
    low: Vec<i128>,
    close: Vec<i128>,
    volume: Vec<i128>,
    turnover: Vec<i128>,
    vwap: Vec<i128>,
    count: Vec<i64>,
    parts: Vec<u8>,
    partial: bool,
    zero_volume: bool,
}

impl BarColumns {
    /// `partial`: some rows count for some parts of a bar only.
    pub(crate) fn new(partial: bool) -> Self {
        Self { partial, staged: Vec::with_capacity(STAGED), ..Self::default() }
    }

    /// Number of bars, once they are labelled.
    pub(crate) fn len(&self) -> usize {
        self.start.len()
    }

    fn wide(&mut self) -> [&mut Vec<i128>; 7] {
        [
            &mut self.open,
            &mut self.high,
            &mut self.low,
            &mut self.close,
            &mut self.volume,
            &mut self.turnover,
            &mut self.vwap,
        ]
    }

    pub(crate) fn reserve(&mut self, bars: usize) {
        for column in [&mut self.symbol, &mut self.timeframe] {
            column.reserve_exact(bars);
        }
        for column in [&mut self.start, &mut self.count] {
            column.reserve_exact(bars);
        }
        for column in self.wide() {
            column.reserve_exact(bars);
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.staged.clear();
        for column in [&mut self.start, &mut self.count] {
            column.truncate(len);
        }
        for column in self.wide() {
            column.truncate(len);
        }
        self.parts.truncate(len);
    }

    /// Name the symbol of all bars pushed since the last call.
    pub(crate) fn label(&mut self, symbol: usize, timeframe: usize) {
        self.flush();
        self.symbol.resize(self.start.len(), symbol as i32);
        self.timeframe.resize(self.start.len(), timeframe as i32);
    }

    fn flush(&mut self) {
        let mut staged = std::mem::take(&mut self.staged);
        let bars = || staged.iter();
        self.start.extend(bars().map(|bar| bar.start));
        self.count.extend(bars().map(|bar| bar.count));
        self.volume.extend(bars().map(|bar| bar.volume));
        self.turnover.extend(bars().map(|bar| bar.turnover));
        if self.partial {
            let known = |bar: &Bar, bit: u8, value: i64| if bar.parts & bit == 0 { 0 } else { value.into() };
            self.open.extend(bars().map(|bar| known(bar, PRICE, bar.open)));
            self.high.extend(bars().map(|bar| known(bar, RANGE, bar.high)));
            self.low.extend(bars().map(|bar| known(bar, RANGE, bar.low)));
            self.close.extend(bars().map(|bar| known(bar, PRICE, bar.close)));
            self.parts.extend(bars().map(|bar| bar.parts));
        } else {
            self.open.extend(bars().map(|bar| i128::from(bar.open)));
            self.high.extend(bars().map(|bar| i128::from(bar.high)));
            self.low.extend(bars().map(|bar| i128::from(bar.low)));
            self.close.extend(bars().map(|bar| i128::from(bar.close)));
        }
        self.vwap.extend(bars().map(|bar| div_half_even(bar.turnover, bar.volume).unwrap_or(0)));
        self.zero_volume |= bars().fold(false, |zero, bar| zero | (bar.volume == 0));
        staged.clear();
        self.staged = staged;
    }

    fn bar(&self, at: usize) -> Bar {
        let parts = if self.partial { self.parts[at] } else { ALL };
        // an absent range is stored as zeros, which would widen the bar it rolls into
        let (high, low) = match parts & RANGE {
            0 => (i64::MIN, i64::MAX),
            _ => (self.high[at] as i64, self.low[at] as i64),
        };
        Bar {
            start: self.start[at],
            open: self.open[at] as i64,
            high,
            low,
            close: self.close[at] as i64,
            parts,
            volume: self.volume[at],
            turnover: self.turnover[at],
            count: self.count[at],
        }
    }

    /// Roll the labelled bars of one level up to a coarser one.
    ///
    /// # Errors
    /// The stop and the symbol's number.
    pub(crate) fn roll_up(
        &mut self,
        finer: Range<usize>,
        length_ns: i64,
        timeframe: usize,
    ) -> std::result::Result<(), (Stop, i32)> {
        let mut at = finer.start;
        while at < finer.end {
            let symbol = self.symbol[at];
            let same = self.symbol[at..finer.end].partition_point(|other| *other == symbol);
            self.roll_up_symbol(at..at + same, length_ns).map_err(|stop| (stop, symbol))?;
            self.label(symbol as usize, timeframe);
            at += same;
        }
        Ok(())
    }

    fn roll_up_symbol(&mut self, finer: Range<usize>, length_ns: i64) -> std::result::Result<(), Stop> {
        let mut at = finer.start;
        while at < finer.end {
            let first = self.start[at];
            let start = first.checked_sub(first.rem_euclid(length_ns)).ok_or(Stop::Bucket(0))?;
            let starts = &self.start[at..finer.end];
            let bars = starts.iter().position(|next| next - start >= length_ns).unwrap_or(starts.len());
            let bars = at..at + bars;
            at = bars.end;
            let bar = match self.sum(bars.clone(), start) {
                Some(bar) => bar,
                None => self.append_all(bars, start)?,
            };
            self.push(&bar);
        }
        Ok(())
    }

    /// Bars of one bucket as one; none where some are partial or a sum leaves its type.
    fn sum(&self, bars: Range<usize>, start: i64) -> Option<Bar> {
        if self.partial {
            return None;
        }
        let ends = (*self.open.get(bars.start)? as i64, *self.close[bars.clone()].last()? as i64);
        let (mut high, mut low) = (i64::MIN, i64::MAX);
        let highs = self.high[bars.clone()].iter().zip(&self.low[bars.clone()]);
        for (above, below) in highs {
            (high, low) = (high.max(*above as i64), low.min(*below as i64));
        }
        let (mut volume, mut turnover, mut count) = (0_i128, 0_i128, 0_i64);
        let sums = self.volume[bars.clone()].iter().zip(&self.turnover[bars.clone()]).zip(&self.count[bars]);
        for ((v, t), c) in sums {
            (volume, turnover) = (volume.checked_add(*v)?, turnover.checked_add(*t)?);
            count += c;
            if volume > MAX_SUM || !(-MAX_SUM..=MAX_SUM).contains(&turnover) {
                return None;
            }
        }
        Some(Bar { start, open: ends.0, high, low, close: ends.1, parts: ALL, volume, turnover, count })
    }

    fn append_all(&self, mut bars: Range<usize>, start: i64) -> std::result::Result<Bar, Stop> {
        let mut bar = Bar { start, ..self.bar(bars.start) };
        bars.start += 1;
        for later in bars {
            bar.append(&self.bar(later))?;
        }
        Ok(bar)
    }

    /// The table of `schema::bars()`; `symbols` are the texts behind the symbol numbers.
    pub(crate) fn into_batch(self, symbols: Vec<&str>, plan: &Plan, basis: Basis) -> Result<RecordBatch> {
        let rows = self.len();
        let frames: Vec<String> = plan.levels().iter().map(|l| l.timeframe.to_string()).collect();
        let valid = |bit: u8| {
            let all = !self.partial || self.parts.iter().all(|p| p & bit != 0);
            (!all).then(|| NullBuffer::from(BooleanBuffer::collect_bool(rows, |i| self.parts[i] & bit != 0)))
        };
        let (price, range) = (valid(PRICE), valid(RANGE));
        let traded = self
            .zero_volume
            .then(|| NullBuffer::from(BooleanBuffer::collect_bool(rows, |i| self.volume[i] != 0)));
        let columns: Vec<ArrayRef> = vec![
            text(self.symbol, symbols)?,
            text(self.timeframe, frames.iter().map(String::as_str).collect())?,
            text(vec![0; rows], vec![basis.name()])?,
            Arc::new(TimestampNanosecondArray::from(self.start).with_timezone("UTC")),
            decimal(self.open, price.clone(), 18, 8)?,
            decimal(self.high, range.clone(), 18, 8)?,
            decimal(self.low, range, 18, 8)?,
            decimal(self.close, price, 18, 8)?,
            decimal(self.volume, None, 38, 8)?,
            decimal(self.turnover, None, 38, 16)?,
            decimal(self.vwap, traded, 18, 8)?,
            Arc::new(Int64Array::from(self.count)),
        ];
        RecordBatch::try_new(schema::bars(), columns).map_err(|error| Error::Schema(error.to_string()))
    }
}

impl Sink for BarColumns {
    #[inline]
    fn push(&mut self, bar: &Bar) {
        self.staged.push(*bar);
        if self.staged.len() == STAGED {
            self.flush();
        }
    }
}

/// A dictionary column.
pub(crate) fn text(keys: Vec<i32>, values: Vec<&str>) -> Result<ArrayRef> {
    let values = Arc::new(StringArray::from(values));
    let column = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), values);
    Ok(Arc::new(column.map_err(|error| Error::Schema(error.to_string()))?))
}

fn decimal(values: Vec<i128>, nulls: Option<NullBuffer>, precision: u8, scale: i8) -> Result<ArrayRef> {
    let column = Decimal128Array::new(values.into(), nulls).with_precision_and_scale(precision, scale);
    Ok(Arc::new(column.map_err(|error| Error::Schema(error.to_string()))?))
}
