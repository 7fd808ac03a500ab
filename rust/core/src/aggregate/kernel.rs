//! One symbol's ticks in order, folded into the bars of one timeframe.

use super::eligibility::{ALL, PRICE, RANGE, VOLUME};
use crate::schema::{END_TIMESTAMP_NS, MAX_FIXED, MIN_TIMESTAMP_NS};

/// Largest magnitude of a 38-digit decimal.
pub(crate) const MAX_SUM: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// One bar while it is made. `parts` says which of its prices are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) start: i64,
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) close: i64,
    pub(crate) parts: u8,
    pub(crate) volume: i128,
    pub(crate) turnover: i128,
    pub(crate) count: i64,
}

impl Bar {
    pub(crate) fn empty(start: i64) -> Self {
        Self {
            start,
            open: 0,
            high: i64::MIN,
            low: i64::MAX,
            close: 0,
            parts: 0,
            volume: 0,
            turnover: 0,
            count: 0,
        }
    }

    /// Add a bar of a later time in the same bucket.
    pub(crate) fn append(&mut self, later: &Self) -> Result<(), Stop> {
        if later.parts & PRICE != 0 {
            if self.parts & PRICE == 0 {
                self.open = later.open;
            }
            self.close = later.close;
        }
        self.add_unordered(later)
    }

    /// Add what needs no order: high, low and the sums.
    pub(crate) fn add_unordered(&mut self, other: &Self) -> Result<(), Stop> {
        self.high = self.high.max(other.high);
        self.low = self.low.min(other.low);
        self.parts |= other.parts;
        self.volume = self.volume.checked_add(other.volume).ok_or(Stop::Overflow("volume", self.start))?;
        self.turnover =
            self.turnover.checked_add(other.turnover).ok_or(Stop::Overflow("turnover", self.start))?;
        self.count += other.count;
        self.check()
    }

    /// Refuse sums that leave their decimal type.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Stop> {
        if self.volume > MAX_SUM {
            return Err(Stop::Overflow("volume", self.start));
        }
        if self.turnover > MAX_SUM || self.turnover < -MAX_SUM {
            return Err(Stop::Overflow("turnover", self.start));
        }
        Ok(())
    }
}

/// Why folding stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A row is earlier than the one before it.
    Disorder,
    /// The instant at this index is outside the valid ones.
    Instant(usize),
    /// The bucket of the instant at this index begins before the first `i64` ns.
    Bucket(usize),
    /// Some value among these indices has more than 18 digits or is a negative volume.
    Value(usize, usize),
    /// A sum of the bar that starts here leaves its type.
    Overflow(&'static str, i64),
}

/// A price or volume as stored: decimals of 128 bits, or their gathered low halves.
pub(crate) trait Fixed: Copy {
    fn low(self) -> i64;
    /// Zero where the low half is the whole value.
    fn misfit(self) -> i64;
    /// Zero where the low half, read without a sign, is the whole value.
    fn sign(self) -> i64;
}

impl Fixed for i128 {
    #[inline(always)]
    fn low(self) -> i64 {
        self as i64
    }
    #[inline(always)]
    fn misfit(self) -> i64 {
        (self >> 64) as i64 ^ (self as i64 >> 63)
    }
    #[inline(always)]
    fn sign(self) -> i64 {
        (self >> 64) as i64
    }
}

impl Fixed for i64 {
    #[inline(always)]
    fn low(self) -> i64 {
        self
    }
    #[inline(always)]
    fn misfit(self) -> i64 {
        0
    }
    #[inline(always)]
    fn sign(self) -> i64 {
        0
    }
}

/// Ticks of one symbol, by column; `parts` is none where every row counts for everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks<'a, V> {
    pub(crate) timestamp: &'a [i64],
    pub(crate) price: &'a [V],
    pub(crate) volume: &'a [V],
    pub(crate) parts: Option<&'a [u8]>,
    pub(crate) unit_ns: i64,
}

/// What is running between two stretches of one symbol's ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carry {
    pub(crate) bar: Option<Bar>,
    end: i64,
    last: i64,
    /// Bucket length in units; 0 where it is no whole number of them.
    step: i64,
}

impl Default for Carry {
    fn default() -> Self {
        Self { bar: None, end: i64::MIN, last: i64::MIN, step: 0 }
    }
}

impl Carry {
    /// Add a row that lies in the running bucket; false, with nothing done, where it needs [`fold`].
    #[inline]
    pub(crate) fn add_one<V: Fixed>(&mut self, at: i64, price: V, volume: V) -> bool {
        let Some(bar) = self.bar.as_mut() else {
            return false;
        };
        let (misfit, price, volume) = (price.misfit() | volume.misfit(), price.low(), volume.low());
        let is_valid = misfit == 0
            && (-MAX_FIXED..=MAX_FIXED).contains(&price)
            && (0..=MAX_FIXED).contains(&volume)
            && bar.parts == ALL;
        if !is_valid || at < self.last || at >= self.end {
            return false;
        }
        let volume_sum = bar.volume.wrapping_add(i128::from(volume));
        let turnover = bar.turnover.wrapping_add(i128::from(price).wrapping_mul(i128::from(volume)));
        if volume_sum > MAX_SUM || !(-MAX_SUM..=MAX_SUM).contains(&turnover) {
            return false;
        }
        (bar.volume, bar.turnover, bar.close) = (volume_sum, turnover, price);
        (bar.high, bar.low) = (bar.high.max(price), bar.low.min(price));
        bar.count = bar.count.wrapping_add(1);
        self.last = at;
        true
    }

    /// Start (ns) and end (units) of the bucket after the running one, if the instant lies in it: no division needed.
    #[inline]
    fn next(&self, at: i64, length_ns: i64) -> Option<(i64, i64)> {
        let start = self.bar.as_ref()?.start.checked_add(length_ns)?;
        let end = self.end.checked_add(self.step)?;
        let is_valid = start.checked_add(length_ns)? <= END_TIMESTAMP_NS;
        (at < end && is_valid).then_some((start, end))
    }
}

/// Where finished bars go, with the indices of the rows that set open and close.
pub(crate) trait Sink {
    fn push(&mut self, bar: &Bar);
    fn rows(&mut self, _from: usize, _to: usize) {}
}

/// First and end of the bucket of an instant: start in ns, end in units.
#[inline]
fn bucket(at: i64, index: usize, unit_ns: i64, length_ns: i64) -> Result<(i64, i64), Stop> {
    let ns = at.checked_mul(unit_ns).ok_or(Stop::Instant(index))?;
    if !(MIN_TIMESTAMP_NS..END_TIMESTAMP_NS).contains(&ns) {
        return Err(Stop::Instant(index));
    }
    let start = ns.checked_sub(ns.rem_euclid(length_ns)).ok_or(Stop::Bucket(index))?;
    let end_ns = start.saturating_add(length_ns).min(END_TIMESTAMP_NS);
    let end = match unit_ns {
        1 => end_ns,
        1_000 => ceil(end_ns, 1_000),
        unit => ceil(end_ns, unit),
    };
    Ok((start, end))
}

#[inline(always)]
fn ceil(value: i64, unit: i64) -> i64 {
    value.div_euclid(unit) + i64::from(value.rem_euclid(unit) != 0)
}

/// Fold ordered ticks into bars; the last bar stays in `carry`.
pub(crate) fn fold<V: Fixed, S: Sink>(
    ticks: Ticks<'_, V>,
    length_ns: i64,
    carry: &mut Carry,
    sink: &mut S,
) -> Result<(), Stop> {
    let times = ticks.timestamp;
    let mut from = 0;
    while from < times.len() {
        let first = times[from];
        if first < carry.last {
            return Err(Stop::Disorder);
        }
        if first >= carry.end || carry.bar.is_none() {
            if carry.bar.is_none() && length_ns % ticks.unit_ns == 0 {
                carry.step = length_ns / ticks.unit_ns;
            }
            let (start, end) = match carry.next(first, length_ns) {
                Some(next) => next,
                None => bucket(first, from, ticks.unit_ns, length_ns)?,
            };
            if let Some(done) = carry.bar.replace(Bar::empty(start)) {
                sink.push(&done);
            }
            carry.end = end;
        }
        let Some(bar) = carry.bar.as_mut() else {
            return Err(Stop::Disorder);
        };
        let to = match ticks.parts {
            None => add(bar, &ticks, from, carry.end)?,
            Some(parts) => {
                let to = from + stretch(&times[from..], carry.end)?;
                add_parts(bar, &ticks.price[from..to], &ticks.volume[from..to], &parts[from..to])?;
                to
            }
        };
        carry.last = times[to - 1];
        sink.rows(from, to);
        from = to;
    }
    Ok(())
}

/// Number of leading instants before `end`, which must not go back in time; at least one.
#[inline]
fn stretch(times: &[i64], end: i64) -> Result<usize, Stop> {
    let mut last = times[0];
    let mut len = 1;
    for &at in &times[1..] {
        if at >= end {
            break;
        }
        if at < last {
            return Err(Stop::Disorder);
        }
        last = at;
        len += 1;
    }
    Ok(len)
}

/// Rows added up before the sum is checked: so many products of 18 digits stay within `i128`.
const MOST_ROWS: usize = 128;
/// Rows whose volumes of 18 digits add up within `u64`.
const FEW_ROWS: usize = 16;

/// Add the rows from one on that lie before `end`, each of which counts for everything; gives the row after them.
#[inline]
fn add<V: Fixed>(bar: &mut Bar, ticks: &Ticks<'_, V>, from: usize, end: i64) -> Result<usize, Stop> {
    let most = ticks.timestamp.len().min(from + MOST_ROWS);
    let to = from + stretch(&ticks.timestamp[from..most], end)?;
    let (prices, volumes) = (&ticks.price[from..to], &ticks.volume[from..to]);
    let (mut high, mut low) = (bar.high, bar.low);
    let (mut volume_sum, mut turnover) = (0_u128, 0_i128);
    let (mut misfit, mut bits) = (0_i64, 0_u64);
    for (prices, volumes) in prices.chunks(FEW_ROWS).zip(volumes.chunks(FEW_ROWS)) {
        // As few accumulators as registers hold: sums kept in memory cost more than all the rest.
        let mut few = 0_u64;
        for (p, v) in prices.iter().zip(volumes) {
            let (price, volume) = (p.low(), v.low());
            misfit |= p.misfit() | v.sign();
            bits |= volume as u64;
            high = high.max(price);
            low = low.min(price);
            few = few.wrapping_add(volume as u64);
            turnover = turnover.wrapping_add(i128::from(price).wrapping_mul(i128::from(volume)));
        }
        volume_sum += u128::from(few);
    }
    let is_large = |v: &V| !(0..=MAX_FIXED).contains(&v.low());
    // No volume has more than all bits of all volumes together.
    let some_large = bits > MAX_FIXED as u64 && volumes.iter().any(is_large);
    if misfit != 0 || some_large || high > MAX_FIXED || low < -MAX_FIXED {
        return Err(Stop::Value(from, to));
    }
    if bar.parts & PRICE == 0 {
        bar.open = ticks.price[from].low();
    }
    bar.close = ticks.price[to - 1].low();
    bar.parts = ALL;
    bar.count += (to - from) as i64;
    (bar.high, bar.low) = (high, low);
    bar.volume = bar.volume.checked_add(volume_sum as i128).ok_or(Stop::Overflow("volume", bar.start))?;
    bar.turnover = bar.turnover.checked_add(turnover).ok_or(Stop::Overflow("turnover", bar.start))?;
    bar.check()?;
    Ok(to)
}

fn add_parts<V: Fixed>(bar: &mut Bar, prices: &[V], volumes: &[V], parts: &[u8]) -> Result<(), Stop> {
    for ((p, v), parts) in prices.iter().zip(volumes).zip(parts) {
        let price = p.low();
        if parts & PRICE != 0 {
            if bar.parts & PRICE == 0 {
                bar.open = price;
            }
            bar.close = price;
        }
        if parts & RANGE != 0 {
            bar.high = bar.high.max(price);
            bar.low = bar.low.min(price);
        }
        if parts & VOLUME != 0 {
            let product = i128::from(price) * i128::from(v.low());
            bar.volume += i128::from(v.low());
            bar.turnover = bar.turnover.checked_add(product).ok_or(Stop::Overflow("turnover", bar.start))?;
            bar.count += 1;
        }
        bar.parts |= parts;
    }
    bar.check()
}
