//! Ticks to bars of many timeframes, exactly: one pass over the ticks, coarser bars rolled up from finer ones.

mod bars;
pub mod columns;
mod eligibility;
mod gather;
mod input;
mod interleaved;
mod kernel;
pub mod plan;
mod state;
mod stream;

use std::ops::Range;

use arrow_array::{ArrayRef, RecordBatch};

use crate::error::{Error, Result};
use crate::timeframe::Timeframe;
use bars::BarColumns;
pub use eligibility::{BarSpec, Basis};
use gather::{Gathered, Wanted, is_ordered};
use input::{Input, Segment, take_columns};
use interleaved::Interleaved;
use kernel::{Carry, MAX_SUM, Sink, Stop, Ticks, fold};
use plan::Plan;
pub use stream::BarAggregator;

/// What bars are made: the timeframes, the price they show, and which trades count.
#[derive(Debug, Clone)]
pub struct BarOptions {
    /// The requested timeframes, linked.
    pub plan: Plan,
    /// What a bar's prices are.
    pub basis: Basis,
    /// Which trades count for which part of a bar.
    pub spec: BarSpec,
}

/// Bars of all ticks, ordered by timeframe (finest first), symbol (byte order) and time.
///
/// # Errors
/// [`Error::Schema`], [`Error::InvalidTick`] naming the row, or [`Error::Overflow`] naming the bar.
pub fn aggregate_bars(batches: &[RecordBatch], options: &BarOptions) -> Result<RecordBatch> {
    let taken = take_columns(batches, 0)?;
    let input = Input::new(&taken, options.basis, &options.spec)?;
    let plain = input.is_plain();
    let segments = if plain && input.is_grouped() { Some(input.segments()) } else { None };
    let mut levels = options.plan.levels().iter();
    let in_turns = plain && segments.is_none() && levels.all(|level| level.root == 0);
    let finest_ns = options.plan.levels()[0].timeframe.ns();
    let interleaved = if in_turns { Interleaved::fold(&input, finest_ns) } else { None };
    let gathered = match (&segments, &interleaved) {
        (None, None) => Gathered::new(&input, plain, Wanted::default())?,
        _ => Gathered::default(),
    };
    let pass = Pass { input: &input, plain, segments, interleaved, gathered };
    let codes = input.symbols.codes_by_name();
    let mut bars = BarColumns::new(!plain);
    bars.reserve(pass.estimate(&codes, &options.plan));
    let mut levels: Vec<Range<usize>> = Vec::new();
    for (number, level) in options.plan.levels().iter().enumerate() {
        let start = bars.len();
        match level.parent {
            None => pass.fold_ticks(&codes, level.timeframe, number, &mut bars)?,
            Some(parent) => bars.roll_up(levels[parent].clone(), level.timeframe.ns(), number).map_err(
                |(stop, symbol)| {
                    let name = &input.symbols.names()[codes[symbol as usize] as usize];
                    stop_error(stop, level.timeframe, name, 0)
                },
            )?,
        }
        levels.push(start..bars.len());
    }
    let names = codes.iter().map(|code| input.symbols.names()[*code as usize].as_ref()).collect();
    bars.into_batch(names, &options.plan, options.basis)
}

/// Symbols in byte order, with turnover and volume of the trades of each.
pub(crate) fn sum_trades(batches: &[RecordBatch]) -> Result<(ArrayRef, Vec<(i128, i128)>)> {
    let taken = take_columns(batches, 0)?;
    let spec = BarSpec::default();
    let input = Input::new(&taken, Basis::Trade, &spec)?;
    let mut sums = vec![None; input.symbols.names().len()];
    for chunk in &input.chunks {
        let mut row = 0;
        for run in &chunk.runs {
            for row in row..row + run.len as usize {
                let Some(tick) = chunk.reader.read(row)? else {
                    continue;
                };
                let (turnover, volume) = sums[run.code as usize].get_or_insert((0_i128, 0_i128));
                *turnover = Some(i128::from(tick.price) * i128::from(tick.volume))
                    .and_then(|product| turnover.checked_add(product))
                    .filter(|sum| (-MAX_SUM..=MAX_SUM).contains(sum))
                    .ok_or_else(|| {
                        let name = &input.symbols.names()[run.code as usize];
                        Error::InvalidTick(format!(
                            "the turnover of {name:?} leaves DECIMAL(38, 16); split the input"
                        ))
                    })?;
                *volume += i128::from(tick.volume);
            }
            row += run.len as usize;
        }
    }
    let traded: Vec<u32> =
        input.symbols.codes_by_name().into_iter().filter(|code| sums[*code as usize].is_some()).collect();
    let names = traded.iter().map(|code| input.symbols.names()[*code as usize].as_ref()).collect();
    let sums = traded.iter().filter_map(|code| sums[*code as usize]).collect();
    Ok((bars::text((0..traded.len() as i32).collect(), names)?, sums))
}

struct Pass<'a> {
    input: &'a Input<'a>,
    plain: bool,
    segments: Option<Vec<Vec<Segment>>>,
    interleaved: Option<Interleaved>,
    gathered: Gathered,
}

impl Pass<'_> {
    fn fold_ticks(
        &self,
        codes: &[u32],
        timeframe: Timeframe,
        number: usize,
        bars: &mut BarColumns,
    ) -> Result<()> {
        for (rank, code) in codes.iter().enumerate() {
            let start = bars.len();
            let folded = match (&self.segments, &self.interleaved) {
                (Some(segments), _) => self.in_place(&segments[*code as usize], timeframe, bars)?,
                (None, Some(interleaved)) => {
                    interleaved.push_to(*code, bars);
                    !interleaved.is_disordered(*code)
                }
                (None, None) => {
                    let slots = self.gathered.range(*code);
                    if self.gathered.is_ordered(slots.clone()) {
                        fold_all(self.gathered.ticks(slots.clone()), timeframe, bars).map_err(|stop| {
                            self.error(stop, timeframe, *code, &self.gathered.timestamp[slots])
                        })?;
                        true
                    } else {
                        false
                    }
                }
            };
            if !folded {
                bars.truncate(start);
                self.sorted(*code, timeframe, bars)?;
            }
            bars.label(rank, number);
        }
        Ok(())
    }

    /// Fold a symbol's rows where they are; false where they are out of order.
    fn in_place(&self, segments: &[Segment], timeframe: Timeframe, bars: &mut BarColumns) -> Result<bool> {
        let mut carry = Carry::default();
        let mut last = (i64::MIN, i64::MIN);
        for segment in segments {
            let chunk = &self.input.chunks[segment.chunk];
            let rows = segment.start..segment.start + segment.len;
            let timestamp = &chunk.columns.timestamp[rows.clone()];
            if let Some(sequence) = chunk.columns.sequence.as_ref().filter(|_| self.input.has_sequence) {
                let sequence = &sequence.values()[rows.clone()];
                if last >= (timestamp[0], sequence[0]) && last != (i64::MIN, i64::MIN)
                    || !is_ordered(timestamp, sequence)
                {
                    return Ok(false);
                }
                last = (timestamp[timestamp.len() - 1], sequence[sequence.len() - 1]);
            }
            let (Some(price), Some(volume)) = (&chunk.columns.price, &chunk.columns.volume) else {
                return Ok(false);
            };
            let ticks = Ticks {
                timestamp,
                price: &price.values()[rows.clone()],
                volume: &volume.values()[rows.clone()],
                parts: None,
                unit_ns: self.input.unit_ns,
            };
            match fold(ticks, timeframe.ns(), &mut carry, bars) {
                Ok(()) => {}
                Err(Stop::Disorder) => return Ok(false),
                Err(Stop::Value(from, to)) => {
                    for row in from..to {
                        chunk.reader.read(rows.start + row)?;
                    }
                }
                Err(stop) => {
                    let code = self.code_at(segment);
                    return Err(self.error(stop, timeframe, code, timestamp));
                }
            }
        }
        if let Some(bar) = carry.bar {
            bars.push(&bar);
        }
        Ok(true)
    }

    fn code_at(&self, segment: &Segment) -> u32 {
        let mut start = 0;
        for run in &self.input.chunks[segment.chunk].runs {
            if start == segment.start {
                return run.code;
            }
            start += run.len as usize;
        }
        0
    }

    /// Gather one symbol, sort it, and fold it.
    fn sorted(&self, code: u32, timeframe: Timeframe, bars: &mut BarColumns) -> Result<()> {
        let mut gathered = Gathered::new(self.input, self.plain, Wanted { only: Some(code), origin: true })?;
        let slots = gathered.range(code);
        gathered.sort(self.input, slots.clone());
        fold_all(gathered.ticks(slots.clone()), timeframe, bars)
            .map_err(|stop| self.error(stop, timeframe, code, &gathered.timestamp[slots]))
    }

    fn error(&self, stop: Stop, timeframe: Timeframe, code: u32, timestamps: &[i64]) -> Error {
        let row = match stop {
            Stop::Instant(at) | Stop::Bucket(at) => self.input.row_at(timestamps[at]),
            _ => 0,
        };
        stop_error(stop, timeframe, &self.input.symbols.names()[code as usize], row)
    }

    /// An upper bound of the bars of ordered ticks.
    fn estimate(&self, codes: &[u32], plan: &Plan) -> usize {
        if let Some(interleaved) = &self.interleaved {
            return interleaved.estimate(plan);
        }
        let mut total = 0;
        for code in codes {
            let (rows, span) = self.extent(*code);
            let mut counts: Vec<usize> = Vec::with_capacity(plan.levels().len());
            for level in plan.levels() {
                let finer = level.parent.map_or(rows, |parent| counts[parent]);
                let buckets = span.saturating_mul(self.input.unit_ns) / level.timeframe.ns() + 2;
                counts.push(finer.min(buckets as usize));
            }
            total += counts.iter().sum::<usize>();
        }
        total
    }

    /// Rows of a symbol and the time from its first to its last.
    fn extent(&self, code: u32) -> (usize, i64) {
        let Some(segments) = &self.segments else {
            let slots = self.gathered.range(code);
            let times = &self.gathered.timestamp[slots];
            let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
            return (times.len(), last.saturating_sub(first).max(0));
        };
        let segments = &segments[code as usize];
        let rows = segments.iter().map(|s| s.len).sum();
        let at = |segment: &Segment, row: usize| self.input.chunks[segment.chunk].columns.timestamp[row];
        match (segments.first(), segments.last()) {
            (Some(first), Some(last)) => {
                let end = at(last, last.start + last.len - 1);
                (rows, end.saturating_sub(at(first, first.start)).max(0))
            }
            _ => (0, 0),
        }
    }
}

fn fold_all(
    ticks: Ticks<'_, i64>,
    timeframe: Timeframe,
    bars: &mut BarColumns,
) -> std::result::Result<(), Stop> {
    let mut carry = Carry::default();
    fold(ticks, timeframe.ns(), &mut carry, bars)?;
    if let Some(bar) = carry.bar {
        bars.push(&bar);
    }
    Ok(())
}

fn stop_error(stop: Stop, timeframe: Timeframe, symbol: &str, row: usize) -> Error {
    match stop {
        Stop::Overflow(what, timestamp_ns) => Error::Overflow {
            what,
            timeframe: timeframe.to_string(),
            symbol: symbol.into(),
            timestamp_ns,
            limit: if what == "volume" { "DECIMAL(38, 8)" } else { "DECIMAL(38, 16)" },
        },
        Stop::Instant(_) => Error::InvalidTick(format!(
            "the timestamp in row {row} ({symbol:?}) is outside 1678 to 2262; validate the ticks first"
        )),
        Stop::Bucket(_) => Error::InvalidTick(format!(
            "the {timeframe} bar of row {row} ({symbol:?}) begins before the first instant of 64-bit nanoseconds; take a shorter timeframe"
        )),
        Stop::Disorder | Stop::Value(..) => {
            Error::InvalidTick(format!("the ticks of {symbol:?} changed while they were read"))
        }
    }
}
