//! Timeframes: `<n><unit>`, anchored at 1970-01-01T00:00:00Z, labelled by bucket start.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

const UNITS: [(&str, i64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const DAY_NS: i64 = 86_400_000_000_000;

/// The eleven timeframes of the specification, finest first.
pub const STANDARD: [&str; 11] = ["1s", "5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h", "4h", "1d"];

/// A bar length that divides a day, or a whole number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timeframe(i64);

impl Timeframe {
    /// Take a length in ns.
    ///
    /// # Errors
    /// [`Error::Timeframe`] for a length that neither divides a day nor is a whole number of days.
    pub fn from_ns(ns: i64) -> Result<Self> {
        let fits = ns > 0 && if ns < DAY_NS { DAY_NS % ns == 0 } else { ns % DAY_NS == 0 };
        if fits {
            Ok(Self(ns))
        } else {
            Err(Error::Timeframe {
                text: format!("{ns}ns"),
                why: "a bar must divide a day evenly or be a whole number of days",
            })
        }
    }

    /// Length in ns.
    pub fn ns(self) -> i64 {
        self.0
    }

    /// Start of the bucket that holds an instant (ns since 1970-01-01 UTC, also before it).
    ///
    /// Saturates at the first instant of `i64` ns, which no valid tick reaches.
    #[inline]
    pub fn floor(self, timestamp_ns: i64) -> i64 {
        timestamp_ns.saturating_sub(timestamp_ns.rem_euclid(self.0))
    }

    /// Whether bars of `finer` add up to bars of this timeframe.
    pub fn is_multiple_of(self, finer: Self) -> bool {
        self.0 % finer.0 == 0
    }
}

impl FromStr for Timeframe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = |why| Error::Timeframe { text: text.into(), why };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit_ns = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, ns)| *ns)
            .ok_or_else(|| fail("write a number and one of ns, us, ms, s, m, h, d, such as 5m or 1d"))?;
        let ns = number
            .parse::<i64>()
            .ok()
            .and_then(|n| n.checked_mul(unit_ns))
            .ok_or_else(|| fail("the number is missing or too large"))?;
        Self::from_ns(ns).map_err(|_| fail("a bar must divide a day evenly or be a whole number of days"))
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, ns) = UNITS.iter().find(|(_, ns)| self.0 % ns == 0).unwrap_or(&UNITS[6]);
        write!(f, "{}{unit}", self.0 / ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_labels_round_trip() {
        for label in STANDARD {
            assert_eq!(label.parse::<Timeframe>().unwrap().to_string(), label);
        }
        assert_eq!("60s".parse::<Timeframe>().unwrap().to_string(), "1m");
    }

    #[test]
    fn lengths_that_do_not_divide_a_day_are_refused() {
        for label in ["7m", "0s", "25h", "", "m", "1w", "99999999999d", "-5m", "1.5h"] {
            assert!(label.parse::<Timeframe>().is_err(), "{label}");
        }
    }

    #[test]
    fn floor_goes_down_before_1970() {
        let minute = "1m".parse::<Timeframe>().unwrap();
        assert_eq!(minute.floor(-1), -60_000_000_000);
        assert_eq!(minute.floor(59_999_999_999), 0);
        let days = "2d".parse::<Timeframe>().unwrap();
        assert_eq!(days.floor(DAY_NS), 0);
    }
}
