//! Which rows count for which part of a bar, and at which price.

use std::str::FromStr;

use arrow_array::{Array, Decimal128Array};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::columns::TickColumns;
use crate::error::{Error, Result};
use crate::round::div_half_even;
use crate::schema::{ASK, BID, COMPOSITE, MAX_FIXED, TRADE, tick_type_of};
use crate::symbols::text_at;

/// A row sets open and close.
pub(crate) const PRICE: u8 = 1;
/// A row sets high and low.
pub(crate) const RANGE: u8 = 2;
/// A row adds to volume, turnover and count.
pub(crate) const VOLUME: u8 = 4;
/// A row counts for everything.
pub(crate) const ALL: u8 = PRICE | RANGE | VOLUME;

/// What a bar's prices are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Basis {
    /// Prices of trades.
    #[default]
    Trade,
    /// Bids of quotes.
    Bid,
    /// Asks of quotes.
    Ask,
    /// Half-even means of two-sided quotes.
    Mid,
}

impl Basis {
    /// The name in the column `price_basis`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Bid => "bid",
            Self::Ask => "ask",
            Self::Mid => "mid",
        }
    }
}

impl FromStr for Basis {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Trade, Self::Bid, Self::Ask, Self::Mid]
            .into_iter()
            .find(|basis| basis.name() == text)
            .ok_or_else(|| {
                Error::Argument(format!(
                    "price is {text:?}; it is one of \"trade\", \"bid\", \"ask\" and \"mid\""
                ))
            })
    }
}

/// Eligibility of trades by type and condition code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarSpec {
    /// Tick types that count as trades.
    pub tick_types: Vec<i8>,
    /// Codes of trades that set no open and close.
    pub price_excludes: Vec<String>,
    /// Codes of trades that set no high and low.
    pub high_low_excludes: Vec<String>,
    /// Codes of trades that count towards no volume, turnover and trade count.
    pub volume_excludes: Vec<String>,
}

impl Default for BarSpec {
    fn default() -> Self {
        Self {
            tick_types: vec![TRADE],
            price_excludes: vec![],
            high_low_excludes: vec![],
            volume_excludes: vec![],
        }
    }
}

impl BarSpec {
    /// Whether conditions matter at all.
    pub(crate) fn reads_conditions(&self) -> bool {
        !(self.price_excludes.is_empty()
            && self.high_low_excludes.is_empty()
            && self.volume_excludes.is_empty())
    }

    fn parts(&self, conditions: &str) -> u8 {
        let part = |excluded: &[String], bit: u8| {
            let hit = conditions.split(',').any(|code| excluded.iter().any(|e| e == code.trim()));
            if hit { 0 } else { bit }
        };
        part(&self.price_excludes, PRICE)
            | part(&self.high_low_excludes, RANGE)
            | part(&self.volume_excludes, VOLUME)
    }
}

/// One row's price, volume and the parts of a bar it counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) price: i64,
    pub(crate) volume: i64,
    pub(crate) parts: u8,
}

/// Reads rows of one batch under one basis and spec.
pub(crate) struct RowReader<'a> {
    columns: &'a TickColumns,
    basis: Basis,
    spec: &'a BarSpec,
    parts: Option<Vec<u8>>,
    first_row: usize,
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(
        columns: &'a TickColumns,
        basis: Basis,
        spec: &'a BarSpec,
        first_row: usize,
    ) -> Result<Self> {
        let missing = |name: &str| {
            Error::Schema(format!("column {name} is missing; {} bars are made of it", basis.name()))
        };
        match basis {
            Basis::Trade if columns.price.is_none() => return Err(missing("price")),
            Basis::Trade if columns.volume.is_none() => return Err(missing("volume")),
            Basis::Bid | Basis::Mid if columns.bid.is_none() => return Err(missing("bid")),
            Basis::Ask | Basis::Mid if columns.ask.is_none() => return Err(missing("ask")),
            _ => {}
        }
        let reads = basis == Basis::Trade && spec.reads_conditions();
        Ok(Self {
            columns,
            basis,
            spec,
            parts: if reads { condition_parts(columns, spec) } else { None },
            first_row,
        })
    }

    /// Whether every row is a trade with price and volume that counts for everything.
    pub(crate) fn is_plain(&self) -> bool {
        let c = self.columns;
        let no_quotes = || empty(c.bid.as_ref()) && empty(c.ask.as_ref());
        let typed = |types: &arrow_array::Int8Array| {
            types.null_count() == 0
                && match self.spec.tick_types.as_slice() {
                    [only] => types.values().iter().fold(true, |all, t| all & (t == only)),
                    many => types.values().iter().all(|t| many.contains(t)),
                }
        };
        self.basis == Basis::Trade
            && self.parts.is_none()
            && c.price.as_ref().is_some_and(|p| p.null_count() == 0)
            && c.volume.as_ref().is_some_and(|v| v.null_count() == 0)
            && c.tick_type
                .as_ref()
                .map_or_else(|| self.spec.tick_types.contains(&TRADE) && no_quotes(), typed)
    }

    /// The row as it counts for bars; none where it does not.
    pub(crate) fn read(&self, row: usize) -> Result<Option<Tick>> {
        let bid = value(self.columns.bid.as_ref(), row);
        let ask = value(self.columns.ask.as_ref(), row);
        let kind = match self.columns.tick_type.as_ref().filter(|t| t.is_valid(row)) {
            Some(types) => types.value(row),
            None => {
                let price = value(self.columns.price.as_ref(), row);
                let volume = value(self.columns.volume.as_ref(), row).unwrap_or(0);
                tick_type_of(price.is_some(), volume != 0, bid.is_some(), ask.is_some())
            }
        };
        if self.basis == Basis::Trade {
            return self.trade(row, kind);
        }
        let price = match self.basis {
            Basis::Bid if kind == BID || kind == COMPOSITE => bid,
            Basis::Ask if kind == ASK || kind == COMPOSITE => ask,
            Basis::Mid if kind == COMPOSITE => {
                let pair = (self.sided(bid, row, "bid")?, self.sided(ask, row, "ask")?);
                return self.quote(div_half_even(i128::from(pair.0) + i128::from(pair.1), 2), row);
            }
            _ => return Ok(None),
        };
        self.quote(Some(self.sided(price, row, self.basis.name())?.into()), row)
    }

    fn quote(&self, price: Option<i128>, row: usize) -> Result<Option<Tick>> {
        let price = self.fit(price, row, self.basis.name())?;
        Ok(Some(Tick { price, volume: 0, parts: ALL }))
    }

    fn sided(&self, side: Option<i128>, row: usize, name: &str) -> Result<i64> {
        self.fit(side, row, name)
    }

    fn trade(&self, row: usize, kind: i8) -> Result<Option<Tick>> {
        if !self.spec.tick_types.contains(&kind) {
            return Ok(None);
        }
        let parts = self.parts.as_ref().map_or(ALL, |parts| parts[row]);
        if parts == 0 {
            return Ok(None);
        }
        let price = self.fit(value(self.columns.price.as_ref(), row), row, "price")?;
        let volume = self.fit(value(self.columns.volume.as_ref(), row), row, "volume")?;
        if volume < 0 {
            return Err(self.refuse(row, "volume", "is negative"));
        }
        Ok(Some(Tick { price, volume, parts }))
    }

    fn fit(&self, value: Option<i128>, row: usize, name: &str) -> Result<i64> {
        let value = value.ok_or_else(|| self.refuse(row, name, "is missing"))?;
        match i64::try_from(value) {
            Ok(fits) if fits.abs() <= MAX_FIXED => Ok(fits),
            _ => Err(self.refuse(row, name, "has more than 18 digits")),
        }
    }

    fn refuse(&self, row: usize, name: &str, why: &str) -> Error {
        Error::InvalidTick(format!(
            "the {name} {why} in row {}; validate the ticks first",
            self.first_row + row
        ))
    }
}

fn empty(column: Option<&Decimal128Array>) -> bool {
    column.is_none_or(|c| c.null_count() == c.len())
}

#[inline]
fn value(column: Option<&Decimal128Array>, row: usize) -> Option<i128> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
}

fn condition_parts(columns: &TickColumns, spec: &BarSpec) -> Option<Vec<u8>> {
    let texts = columns.conditions.as_ref()?;
    let mut known: HashMap<&str, u8, RandomState> = HashMap::default();
    let part = |row| {
        let text = text_at(texts, row).unwrap_or_default();
        *known.entry(text).or_insert_with(|| spec.parts(text))
    };
    Some((0..columns.rows).map(part).collect())
}
