//! One tick or bar with exact decimals, for the edges of a program; bulk data stays in Arrow.

use std::fmt;

use rust_decimal::Decimal;

use crate::decimal::from_decimal;
use crate::error::{Error, Result};
use crate::round::div_half_even;
use crate::schema::{END_TIMESTAMP_NS, MIN_TIMESTAMP_NS, SCALE};
use crate::timeframe::Timeframe;

/// What a tick says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum TickType {
    /// A trade.
    Trade = crate::schema::TRADE,
    /// A quote with a bid only.
    Bid = crate::schema::BID,
    /// A quote with an ask only.
    Ask = crate::schema::ASK,
    /// A quote with both sides.
    Composite = crate::schema::COMPOSITE,
}

impl TryFrom<i8> for TickType {
    type Error = Error;

    fn try_from(code: i8) -> Result<Self> {
        match code {
            crate::schema::TRADE => Ok(Self::Trade),
            crate::schema::BID => Ok(Self::Bid),
            crate::schema::ASK => Ok(Self::Ask),
            crate::schema::COMPOSITE => Ok(Self::Composite),
            _ => Err(Error::Argument(format!("tick_type={code} is none of 0 to 3"))),
        }
    }
}

impl fmt::Display for TickType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trade => "trade",
            Self::Bid => "bid",
            Self::Ask => "ask",
            Self::Composite => "composite",
        })
    }
}

/// One trade or quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The instrument, as the vendor writes it.
    pub symbol: String,
    /// Ns since 1970-01-01 UTC.
    pub timestamp_ns: i64,
    /// Price of a trade; of a quote its mid, or its one side. In the quote currency.
    pub price: Decimal,
    /// Shares, contracts, or units of the base currency; 0 for quotes.
    pub volume: Decimal,
    /// Best bid, in the quote currency.
    pub bid: Option<Decimal>,
    /// Best ask, in the quote currency.
    pub ask: Option<Decimal>,
    /// Size at the bid, in units of `volume`.
    pub bid_size: Option<Decimal>,
    /// Size at the ask, in units of `volume`.
    pub ask_size: Option<Decimal>,
    /// What the tick says.
    pub tick_type: TickType,
}

impl Tick {
    /// (bid + ask) / 2, half-even at 1e-8; `None` unless both sides are there and fit a `DECIMAL(18, 8)`.
    pub fn mid_price(&self) -> Option<Decimal> {
        from_units(div_half_even(units(self.bid?)? + units(self.ask?)?, 2)?)
    }

    /// Ask minus bid, negative where the quote is crossed; `None` unless both sides are there and fit a
    /// `DECIMAL(18, 8)`.
    pub fn spread(&self) -> Option<Decimal> {
        from_units(units(self.ask?)? - units(self.bid?)?)
    }

    /// What the tick is stored with: a trade's price, or a quote's mid or one side.
    pub fn stored_price(&self) -> Option<Decimal> {
        match self.tick_type {
            TickType::Trade => Some(self.price),
            TickType::Bid => self.bid,
            TickType::Ask => self.ask,
            TickType::Composite => self.mid_price(),
        }
    }

    /// Whether the default validation rules keep the tick; they know no clock here, so the future is not refused.
    ///
    /// Crossed and locked quotes are valid, prices of zero or less are not.
    pub fn is_valid(&self) -> bool {
        let positive = |value| units(value).is_some_and(|units| units > 0);
        let size = |value| units(value).is_some_and(|units| units >= 0);
        !self.symbol.is_empty()
            && (MIN_TIMESTAMP_NS..END_TIMESTAMP_NS).contains(&self.timestamp_ns)
            && units(self.price).is_some()
            && self.stored_price().is_some_and(positive)
            && self.bid.is_none_or(positive)
            && self.ask.is_none_or(positive)
            && size(self.volume)
            && self.bid_size.is_none_or(size)
            && self.ask_size.is_none_or(size)
    }
}

/// Open, high, low, close, volume, turnover and count of a bucket `[timestamp, timestamp + timeframe)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// The instrument.
    pub symbol: String,
    /// Length of the bucket.
    pub timeframe: Timeframe,
    /// Start of the bucket, ns since 1970-01-01 UTC.
    pub timestamp_ns: i64,
    /// First eligible price; `None` where no tick was eligible.
    pub open: Option<Decimal>,
    /// Highest eligible price.
    pub high: Option<Decimal>,
    /// Lowest eligible price.
    pub low: Option<Decimal>,
    /// Last eligible price.
    pub close: Option<Decimal>,
    /// Sum of eligible volumes.
    pub volume: Decimal,
    /// Eligible trades, or quotes where the basis is a quote price.
    pub trade_count: u64,
}

impl Bar {
    /// Whether the bar can be: aligned to its timeframe, low ≤ open, close ≤ high, volume not negative.
    ///
    /// Prices may be `None` in pairs (open with close, high with low), as a bar spec can leave a bucket without an
    /// eligible price. Negative prices are real and valid here; whether they are kept is decided tick by tick.
    pub fn is_valid(&self) -> bool {
        let below = |low: Option<Decimal>, high: Option<Decimal>| match (low, high) {
            (Some(low), Some(high)) => low <= high,
            _ => true,
        };
        !self.symbol.is_empty()
            && self.timestamp_ns < END_TIMESTAMP_NS
            && self.timestamp_ns > MIN_TIMESTAMP_NS.saturating_sub(self.timeframe.ns())
            && self.timeframe.floor(self.timestamp_ns) == self.timestamp_ns
            && self.open.is_some() == self.close.is_some()
            && self.high.is_some() == self.low.is_some()
            && below(self.low, self.high)
            && below(self.low, self.open)
            && below(self.low, self.close)
            && below(self.open, self.high)
            && below(self.close, self.high)
            && self.volume >= Decimal::ZERO
    }

    /// (high + low + close) / 3, the exact fraction rounded half-even at 1e-8; `None` where one of them is missing or
    /// does not fit a `DECIMAL(18, 8)`.
    pub fn typical_price(&self) -> Option<Decimal> {
        from_units(div_half_even(units(self.high?)? + units(self.low?)? + units(self.close?)?, 3)?)
    }

    /// Greatest of high - low, |high - `prev_close`| and |low - `prev_close`| (Wilder 1978); high - low without a
    /// previous close. `None` where high or low is missing or a value does not fit a `DECIMAL(18, 8)`.
    pub fn true_range(&self, prev_close: Option<Decimal>) -> Option<Decimal> {
        let (mut high, mut low) = (units(self.high?)?, units(self.low?)?);
        if let Some(before) = prev_close {
            let before = units(before)?;
            (high, low) = (high.max(before), low.min(before));
        }
        from_units(high - low)
    }
}

/// The value in units of 1e-8; `None` where a `DECIMAL(18, 8)` does not hold it exactly.
fn units(value: Decimal) -> Option<i128> {
    let fixed = from_decimal(value);
    (fixed.faults == 0).then_some(fixed.value.into())
}

fn from_units(units: i128) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(units, SCALE.unsigned_abs().into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn quote(bid: &str, ask: &str) -> Tick {
        let (bid, ask) = (decimal(bid), decimal(ask));
        Tick {
            symbol: "A".into(),
            timestamp_ns: 0,
            price: bid,
            volume: Decimal::ZERO,
            bid: Some(bid),
            ask: Some(ask),
            bid_size: None,
            ask_size: None,
            tick_type: TickType::Composite,
        }
    }

    fn bar(open: &str, high: &str, low: &str, close: &str) -> Bar {
        Bar {
            symbol: "A".into(),
            timeframe: "1m".parse().unwrap(),
            timestamp_ns: 60_000_000_000,
            open: Some(decimal(open)),
            high: Some(decimal(high)),
            low: Some(decimal(low)),
            close: Some(decimal(close)),
            volume: Decimal::ONE,
            trade_count: 1,
        }
    }

    #[test]
    fn mid_rounds_half_to_even() {
        for (bid, ask, mid) in [
            ("0.00000001", "0.00000002", "0.00000002"),
            ("0.00000002", "0.00000003", "0.00000002"),
            ("-0.00000001", "-0.00000002", "-0.00000002"),
            ("9999999999.99999999", "9999999999.99999999", "9999999999.99999999"),
        ] {
            assert_eq!(quote(bid, ask).mid_price(), Some(decimal(mid)), "{bid} {ask}");
        }
        assert_eq!(quote("1", "0.000000001").mid_price(), None);
        assert_eq!(Tick { ask: None, ..quote("1", "2") }.mid_price(), None);
    }

    #[test]
    fn spread_is_negative_where_crossed() {
        assert_eq!(quote("1.5", "1.25").spread(), Some(decimal("-0.25")));
        assert!(quote("1.5", "1.25").is_valid());
    }

    #[test]
    fn validity_follows_the_default_rules() {
        assert!(!quote("0", "1").is_valid());
        assert!(!Tick { symbol: String::new(), ..quote("1", "2") }.is_valid());
        assert!(!Tick { volume: decimal("-1"), ..quote("1", "2") }.is_valid());
        assert!(!Tick { price: decimal("1.000000001"), ..quote("1", "2") }.is_valid());
        assert!(Tick { price: decimal("1.0000000010").round_dp(8), ..quote("1", "2") }.is_valid());
        assert!(!Tick { price: decimal("10000000000"), ..quote("1", "2") }.is_valid());
        assert!(!Tick { timestamp_ns: END_TIMESTAMP_NS, ..quote("1", "2") }.is_valid());
        assert!(!Tick { ask_size: Some(decimal("-1")), ..quote("1", "2") }.is_valid());
    }

    #[test]
    fn a_quote_needs_the_sides_of_its_type() {
        for (tick_type, price) in [
            (TickType::Trade, Some("1")),
            (TickType::Bid, Some("1")),
            (TickType::Ask, None),
            (TickType::Composite, None),
        ] {
            let tick = Tick { ask: None, tick_type, ..quote("1", "2") };
            assert_eq!(
                (tick.stored_price(), tick.is_valid()),
                (price.map(decimal), price.is_some()),
                "{tick_type}"
            );
        }
    }

    #[test]
    fn bars_with_no_eligible_price_are_valid() {
        let empty = Bar { open: None, high: None, low: None, close: None, ..bar("1", "1", "1", "1") };
        assert!(empty.is_valid());
        assert_eq!((empty.typical_price(), empty.true_range(None)), (None, None));
        assert!(!Bar { close: Some(Decimal::ONE), ..empty }.is_valid());
    }

    #[test]
    fn bars_must_be_ordered_and_aligned() {
        assert!(bar("2", "3", "1", "2").is_valid());
        assert!(bar("-2", "-1", "-3", "-2").is_valid());
        assert!(!bar("4", "3", "1", "2").is_valid());
        assert!(!bar("2", "3", "1", "0.5").is_valid());
        assert!(!Bar { timestamp_ns: 1, ..bar("2", "3", "1", "2") }.is_valid());
    }

    #[test]
    fn true_range_reaches_to_the_previous_close() {
        let bar = bar("2", "3", "1", "2");
        assert_eq!(bar.true_range(None), Some(decimal("2")));
        assert_eq!(bar.true_range(Some(decimal("4.5"))), Some(decimal("3.5")));
        assert_eq!(bar.true_range(Some(decimal("-1"))), Some(decimal("4")));
    }

    #[test]
    fn typical_price_is_rounded_once() {
        assert_eq!(bar("1", "2", "1", "2").typical_price(), Some(decimal("1.66666667")));
        assert_eq!(bar("-1", "-1", "-2", "-2").typical_price(), Some(decimal("-1.66666667")));
    }

    #[test]
    fn tick_types_come_from_their_codes() {
        for code in 0..4 {
            assert_eq!(TickType::try_from(code).unwrap() as i8, code);
        }
        assert!(TickType::try_from(4).is_err());
        assert_eq!(TickType::Composite.to_string(), "composite");
    }
}
