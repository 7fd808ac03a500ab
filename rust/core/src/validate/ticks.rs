//! One batch's columns, and what each row's values say against it.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int8Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, Decimal128Array, Int8Array, Int64Array, RecordBatch, TimestampNanosecondArray};

use crate::columns::BLOCK;
use crate::error::{Error, Result};
use crate::reasons::*;
use crate::schema::{
    ASK, BID, COMPOSITE, END_TIMESTAMP_NS, MAX_FIXED, MIN_TIMESTAMP_NS, TRADE, tick_type_of,
};

const NUMBER: u32 = NOT_A_NUMBER | INEXACT | OUT_OF_RANGE;

/// Columns of a coerced batch.
pub(super) struct Ticks<'a> {
    times: &'a TimestampNanosecondArray,
    rising: &'a [bool],
    pub(super) sequences: Option<&'a Int64Array>,
    kinds: Option<&'a Int8Array>,
    price: Option<&'a Decimal128Array>,
    volume: Option<&'a Decimal128Array>,
    bid: Option<&'a Decimal128Array>,
    ask: Option<&'a Decimal128Array>,
    sizes: Vec<&'a Decimal128Array>,
}

/// What a batch's rows are alike in, which decides how they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Trades with a price each and no quotes.
    Trades,
    /// Quotes with both sides each.
    Quotes,
    /// Anything else: row by row.
    Mixed,
}

/// A row's place in its symbol's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) time: i64,
    pub(super) sequence: Option<i64>,
}

impl Key {
    /// Whether this place is before another's; where a sequence is missing, equal instants are in order.
    pub(super) fn is_before(self, other: Self) -> bool {
        let earlier = self.sequence.zip(other.sequence).is_some_and(|(own, other)| own < other);
        self.time < other.time || (self.time == other.time && earlier)
    }
}

/// A row as it will be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) kind: i8,
    pub(super) price: Option<i128>,
    pub(super) volume: i128,
}

fn value(column: Option<&Decimal128Array>, row: usize) -> Option<i128> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn whole(column: Option<&Decimal128Array>) -> Option<&[i128]> {
    column.filter(|column| column.null_count() == 0).map(|column| &column.values()[..])
}

/// Half of bid + ask, half-even in units of 1e-8.
#[inline]
pub(super) fn mid(bid: i128, ask: i128) -> i128 {
    // What does not fit is rejected for it; its mid is never seen.
    let sum = bid.wrapping_add(ask);
    (sum >> 1) + (sum & (sum >> 1) & 1)
}

/// Bits of which the upper five are zero where a value is plainly in `low..=MAX_FIXED`: in 59 bits, as all but absurd ones.
fn excess(value: i128, low: u64) -> u64 {
    // Or-ed over values: no comparison per value, which plain SIMD lacks for 64 bits.
    (value as u64).wrapping_sub(low) | (value >> 64) as u64
}

fn within(values: &[i128], low: u64) -> bool {
    values.iter().fold(0, |bits, value| bits | excess(*value, low)) >> 59 == 0
}

/// The same for prices from 1 and volumes from 0: memory is faster read from both at once.
fn both_within(prices: &[i128], volumes: &[i128]) -> bool {
    let bits = |(price, volume): (&i128, &i128)| excess(*price, 1) | excess(*volume, 0);
    prices.iter().zip(volumes).fold(0, |all, row| all | bits(row)) >> 59 == 0
}

/// Whether every bid is below its ask, both within 59 bits.
fn uncrossed(bids: &[i128], asks: &[i128]) -> bool {
    let spread = |(bid, ask): (&i128, &i128)| (*ask as u64).wrapping_sub(*bid as u64).wrapping_sub(1);
    bids.iter().zip(asks).map(spread).fold(0, |bits, spread| bits | spread) >> 59 == 0
}

/// Whether every instant is from 1970 to `latest`, and before 2116.
fn in_time(times: &[i64], latest: i64) -> bool {
    let bits = |bits: i64, time: &i64| bits | *time | (*time << 1) | latest.wrapping_sub(*time);
    latest >= 0 && times.iter().fold(0, bits) >= 0
}

impl<'a> Ticks<'a> {
    pub(super) fn new(batch: &'a RecordBatch, rising: &'a [bool]) -> Result<Self> {
        let decimal = |name| {
            let column = batch.column_by_name(name).map(|column| column.as_primitive::<Decimal128Type>());
            column.filter(|column| column.null_count() < column.len())
        };
        let times = batch.column_by_name("timestamp_utc").ok_or_else(|| missing(batch, "timestamp_utc"))?;
        let ticks = Self {
            times: times.as_primitive::<TimestampNanosecondType>(),
            rising,
            sequences: batch.column_by_name("sequence").map(|column| column.as_primitive::<Int64Type>()),
            kinds: batch.column_by_name("tick_type").map(|column| column.as_primitive::<Int8Type>()),
            price: decimal("price"),
            volume: decimal("volume"),
            bid: decimal("bid"),
            ask: decimal("ask"),
            sizes: ["bid_size", "ask_size"].into_iter().filter_map(decimal).collect(),
        };
        let named = ["price", "bid", "ask"].iter().any(|name| batch.column_by_name(name).is_some());
        if named { Ok(ticks) } else { Err(missing(batch, "price (or bid, ask)")) }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn shape(&self) -> Shape {
        let all_of = |kind| match self.kinds {
            None => true,
            Some(kinds) => {
                kinds.null_count() == 0
                    && kinds.values().iter().fold(true, |all, found| all & (*found == kind))
            }
        };
        if self.times.null_count() > 0 {
            return Shape::Mixed;
        }
        let has_quotes = self.bid.is_some() || self.ask.is_some();
        let volumes = self.volume.is_none_or(|volume| volume.null_count() == 0);
        if !has_quotes && whole(self.price).is_some() && volumes && self.sizes.is_empty() && all_of(TRADE) {
            return Shape::Trades;
        }
        let both = whole(self.bid).is_some() && whole(self.ask).is_some();
        let sizes = self.sizes.iter().all(|size| size.null_count() == 0);
        if both && sizes && (self.kinds.is_some() || self.price.is_none()) && all_of(COMPOSITE) {
            return Shape::Quotes;
        }
        Shape::Mixed
    }

    /// Blocks of rows that hold something to look at closer, in batches of this shape; two-sided quotes get their mids.
    pub(super) fn suspects(
        &self,
        shape: Shape,
        latest: i64,
        mids: &mut Vec<i128>,
    ) -> Vec<std::ops::Range<usize>> {
        mids.reserve_exact(if shape == Shape::Quotes { self.len() } else { 0 });
        let rows = self.len();
        let blocks = (0..rows).step_by(BLOCK).map(|start| start..(start + BLOCK).min(rows));
        blocks
            .filter(|block| {
                let part = |column: Option<&'a Decimal128Array>| column.map(|c| &c.values()[block.clone()]);
                let times = &self.times.values()[block.clone()];
                let rises = self.rising[block.start / BLOCK];
                let timely = if rises { times[times.len() - 1] <= latest } else { in_time(times, latest) };
                let plain = match shape {
                    Shape::Mixed => false,
                    Shape::Trades => {
                        let price = part(self.price).unwrap_or_default();
                        match part(self.volume) {
                            Some(volume) => both_within(price, volume),
                            None => within(price, 1),
                        }
                    }
                    Shape::Quotes => {
                        let sides = (part(self.bid).unwrap_or_default(), part(self.ask).unwrap_or_default());
                        mids.extend(sides.0.iter().zip(sides.1).map(|(bid, ask)| mid(*bid, *ask)));
                        within(sides.0, 1)
                            && within(sides.1, 1)
                            && uncrossed(sides.0, sides.1)
                            && part(self.volume).is_none_or(|volume| within(volume, 0))
                            && self.sizes.iter().all(|size| within(&size.values()[block.clone()], 0))
                    }
                };
                !(timely && plain)
            })
            .collect()
    }

    /// Whether the instants of these rows never go back.
    pub(super) fn is_rising(&self, rows: std::ops::Range<usize>) -> bool {
        let times = self.times.values();
        let mut start = rows.start;
        while start < rows.end {
            let stop = rows.end.min((start / BLOCK + 1) * BLOCK);
            let rises = self.rising[start / BLOCK] || times[start..stop].is_sorted();
            if !rises || (start > rows.start && times[start] < times[start - 1]) {
                return false;
            }
            start = stop;
        }
        true
    }

    /// A row's place in its symbol's order.
    pub(super) fn key(&self, row: usize) -> Key {
        let sequence = self.sequences.filter(|sequences| sequences.is_valid(row));
        Key { time: self.times.value(row), sequence: sequence.map(|sequences| sequences.value(row)) }
    }

    /// A row as it will be stored.
    pub(super) fn row(&self, row: usize) -> Row {
        let (bid, ask, price) = (value(self.bid, row), value(self.ask, row), value(self.price, row));
        let volume = value(self.volume, row).unwrap_or(0);
        let given = self.kinds.filter(|kinds| kinds.is_valid(row)).map(|kinds| kinds.value(row));
        let kind =
            given.unwrap_or_else(|| tick_type_of(price.is_some(), volume != 0, bid.is_some(), ask.is_some()));
        match kind {
            BID => Row { kind, price: bid, volume: 0 },
            ASK => Row { kind, price: ask, volume: 0 },
            COMPOSITE => Row { kind, price: bid.zip(ask).map(|(bid, ask)| mid(bid, ask)), volume: 0 },
            _ => Row { kind, price, volume },
        }
    }

    /// Reasons against a row, besides those known before (`faults`) and those of its neighbours.
    pub(super) fn reasons(&self, row: usize, faults: u32, latest: i64) -> u32 {
        let stored = self.row(row);
        let (bid, ask) = (value(self.bid, row), value(self.ask, row));
        let mut mask = 0;
        if !(TRADE..=COMPOSITE).contains(&stored.kind) {
            mask |= TICK_TYPE_UNKNOWN;
        }
        if stored.price.is_none() && faults & NUMBER == 0 {
            mask |= PRICE_MISSING;
        }
        let is_quote = stored.kind != TRADE;
        let own = if is_quote { None } else { stored.price };
        for price in [own, bid, ask].into_iter().flatten() {
            mask |= match price {
                0 => PRICE_ZERO,
                price if price < 0 => PRICE_NEGATIVE,
                _ => 0,
            };
            mask |= out_of_range(price);
        }
        let sizes = self.sizes.iter().filter_map(|size| value(Some(size), row));
        for amount in value(self.volume, row).into_iter().chain(sizes) {
            mask |= if amount < 0 { VOLUME_NEGATIVE } else { 0 } | out_of_range(amount);
        }
        if let Some((bid, ask)) = bid.zip(ask) {
            mask |= if bid > ask { QUOTE_CROSSED } else { 0 } | if bid == ask { QUOTE_LOCKED } else { 0 };
        }
        mask | self.time_reasons(row, faults, latest)
    }

    fn time_reasons(&self, row: usize, faults: u32, latest: i64) -> u32 {
        if self.times.is_null(row) {
            return if faults & TIMESTAMP_OUT_OF_RANGE == 0 { TIMESTAMP_MISSING } else { 0 };
        }
        let time = self.times.value(row);
        if !(MIN_TIMESTAMP_NS..END_TIMESTAMP_NS).contains(&time) {
            return TIMESTAMP_OUT_OF_RANGE;
        }
        if time > latest { TIMESTAMP_FUTURE } else { 0 }
    }
}

fn out_of_range(value: i128) -> u32 {
    if value.unsigned_abs() > MAX_FIXED as u128 { OUT_OF_RANGE } else { 0 }
}

fn missing(batch: &RecordBatch, name: &str) -> Error {
    let schema = batch.schema();
    let present: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    Error::Schema(format!("column {name} is missing; the input has {}", present.join(", ")))
}
