//! Local time to UTC with the current span of equal offset remembered, so that a row costs one addition.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::error::{Error, Result};

const NS: i64 = 1_000_000_000;

/// The zone of local times, read as PEP 495 with `fold=0` does: a time that occurs twice is the first one,
/// a time that the clock skipped is moved on by the skip.
pub(super) struct Zone {
    zone: TimeZone,
    start: i64,
    end: i64,
    offset: i64,
}

impl Zone {
    /// An IANA name, or a fixed offset such as `-05:00`.
    pub(super) fn named(name: &str) -> Result<Self> {
        let zone = match fixed_offset(name.as_bytes()) {
            Some(seconds) => Offset::from_seconds(seconds).ok().map(TimeZone::fixed),
            None => TimeZone::get(name).ok(),
        };
        let zone = zone.ok_or_else(|| {
            Error::Argument(format!(
                "timezone {name:?} is not known; give an IANA name such as \"America/New_York\" or an offset such as \"-05:00\""
            ))
        })?;
        Ok(Self { zone, start: 1, end: 0, offset: 0 })
    }

    /// The instant of a local time, both in ns since 1970-01-01T00:00.
    #[inline(always)]
    pub(super) fn resolve(&mut self, local: i64) -> Option<i64> {
        if local < self.start || local >= self.end {
            return self.look_up(local);
        }
        local.checked_sub(self.offset)
    }

    #[cold]
    fn look_up(&mut self, local: i64) -> Option<i64> {
        let seconds = local.div_euclid(NS);
        let civil: DateTime = Offset::UTC.to_datetime(Timestamp::from_second(seconds).ok()?);
        let offset = match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        let offset = i64::from(offset.seconds());
        self.remember(seconds, offset);
        local.checked_sub(offset * NS)
    }

    /// Remember the local times around `seconds` that share its offset.
    fn remember(&mut self, seconds: i64, offset: i64) {
        let Ok(instant) = Timestamp::from_second(seconds - offset) else { return };
        // `preceding` leaves out a change at the instant itself, which is the one that begins its span.
        let Ok(after) = Timestamp::from_second(seconds - offset + 1) else { return };
        let start = match self.zone.preceding(after).next() {
            Some(change) => {
                let at = change.timestamp();
                let before = at
                    .checked_sub(jiff::SignedDuration::from_secs(1))
                    .map_or(offset, |earlier| i64::from(self.zone.to_offset(earlier).seconds()));
                at.as_second() + before.max(offset)
            }
            None => i64::MIN / NS,
        };
        let end = match self.zone.following(instant).next() {
            Some(change) => change.timestamp().as_second() + i64::from(change.offset().seconds()).max(offset),
            None => i64::MAX / NS,
        };
        if (start..end).contains(&seconds) && i64::from(self.zone.to_offset(instant).seconds()) == offset {
            self.start = start.saturating_mul(NS);
            self.end = end.saturating_mul(NS);
            self.offset = offset * NS;
        }
    }
}

/// `Z`, `±hh`, `±hhmm` or `±hh:mm`, in seconds.
pub(super) fn fixed_offset(text: &[u8]) -> Option<i32> {
    if matches!(text, b"Z" | b"z" | b"UTC" | b"GMT") {
        return Some(0);
    }
    let (&sign, digits) = text.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let pair = |tens: u8, units: u8| -> Option<i32> {
        (tens.is_ascii_digit() && units.is_ascii_digit())
            .then(|| i32::from(tens - b'0') * 10 + i32::from(units - b'0'))
    };
    let (hours, minutes) = match *digits {
        [a, b] => (pair(a, b)?, 0),
        [a, b, c, d] | [a, b, b':', c, d] => (pair(a, b)?, pair(c, d)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::{NS, Zone, fixed_offset};

    fn local(day: i64, hour: i64, minute: i64) -> i64 {
        (day * 86_400 + hour * 3600 + minute * 60) * NS
    }

    #[test]
    fn both_changes_of_new_york_read_as_pep_495_says() {
        // 2013-03-10 is day 15774 and 2013-11-03 is day 16012.
        let cases = [
            (local(15_774, 1, 59), 5),
            (local(15_774, 2, 30), 5),
            (local(15_774, 3, 0), 4),
            (local(16_012, 0, 59), 4),
            (local(16_012, 1, 30), 4),
            (local(16_012, 2, 0), 5),
        ];
        for order in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 1, 0, 5, 4, 3]] {
            let mut zone = Zone::named("America/New_York").unwrap();
            for index in order {
                let (time, hours) = cases[index];
                assert_eq!(zone.resolve(time), Some(time + hours * 3600 * NS), "case {index}");
            }
        }
    }

    #[test]
    fn offsets() {
        assert_eq!(fixed_offset(b"-05:00"), Some(-18_000));
        assert_eq!(fixed_offset(b"+0530"), Some(19_800));
        assert_eq!(fixed_offset(b"+08"), Some(28_800));
        assert_eq!(fixed_offset(b"+8"), None);
    }
}
