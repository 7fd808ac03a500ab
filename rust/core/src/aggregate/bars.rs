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
use super::kernel::{Bar, Sink, Stop};
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::round::div_half_even;
use crate::schema;

/// Bars of all levels, in output order.
#[derive(Debug, Default)]
pub(crate) struct BarColumns {
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
        Self { partial, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.start.len()
    }

    pub(crate) fn reserve(&mut self, bars: usize) {
        for column in [&mut self.symbol, &mut self.timeframe] {
            column.reserve_exact(bars);
        }
        for column in [&mut self.start, &mut self.count] {
            column.reserve_exact(bars);
        }
        for column in [
            &mut self.open,
            &mut self.high,
            &mut self.low,
            &mut self.close,
            &mut self.volume,
            &mut self.turnover,
            &mut self.vwap,
        ] {
            column.reserve_exact(bars);
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        for column in [&mut self.start, &mut self.count] {
            column.truncate(len);
        }
        for column in [
            &mut self.open,
            &mut self.high,
            &mut self.low,
            &mut self.close,
            &mut self.volume,
            &mut self.turnover,
            &mut self.vwap,
        ] {
            column.truncate(len);
        }
        self.parts.truncate(len);
    }

    /// Name the symbol of all bars pushed since the last call.
    pub(crate) fn label(&mut self, symbol: usize, timeframe: usize) {
        self.symbol.resize(self.start.len(), symbol as i32);
        self.timeframe.resize(self.start.len(), timeframe as i32);
    }

    pub(crate) fn bar(&self, at: usize) -> Bar {
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
            let mut bar = self.bar(at);
            let start =
                bar.start.checked_sub(bar.start.rem_euclid(length_ns)).ok_or((Stop::Bucket(0), symbol))?;
            bar.start = start;
            at += 1;
            while at < finer.end && self.symbol[at] == symbol && self.start[at] - start < length_ns {
                bar.append(&self.bar(at)).map_err(|stop| (stop, symbol))?;
                at += 1;
            }
            self.push(&bar);
            self.label(symbol as usize, timeframe);
        }
        Ok(())
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
        let known = |bit: u8, value: i64| if bar.parts & bit == 0 { 0 } else { i128::from(value) };
        self.start.push(bar.start);
        self.open.push(known(PRICE, bar.open));
        self.high.push(known(RANGE, bar.high));
        self.low.push(known(RANGE, bar.low));
        self.close.push(known(PRICE, bar.close));
        self.volume.push(bar.volume);
        self.turnover.push(bar.turnover);
        self.count.push(bar.count);
        self.zero_volume |= bar.volume == 0;
        self.vwap.push(self.vwap_of(bar));
        if self.partial {
            self.parts.push(bar.parts);
        }
    }
}

impl BarColumns {
    #[inline]
    fn vwap_of(&self, bar: &Bar) -> i128 {
        if !self.partial && bar.high == bar.low {
            return i128::from(bar.high);
        }
        div_half_even(bar.turnover, bar.volume).unwrap_or(0)
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
