//! Time stamps of text to ns since 1970-01-01 UTC.

use super::fault;
use super::strptime::Pattern;
use super::zone::{Zone, fixed_offset};
use crate::decimal::eight_digits;
use crate::error::{Error, Result};

pub(super) const NS_PER_SECOND: i64 = 1_000_000_000;
pub(super) const NS_PER_DAY: i64 = 86_400 * NS_PER_SECOND;

/// How a field spells its time.
pub(super) enum Format {
    Iso,
    /// Ticks since 1970 of so many ns.
    Epoch(i64),
    MsOfDay,
    Pattern(Pattern),
}

impl Format {
    pub(super) fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "iso" => Self::Iso,
            "epoch_s" => Self::Epoch(NS_PER_SECOND),
            "epoch_ms" => Self::Epoch(1_000_000),
            "epoch_us" => Self::Epoch(1_000),
            "epoch_ns" => Self::Epoch(1),
            "ms_of_day" => Self::MsOfDay,
            pattern if pattern.contains('%') => Self::Pattern(Pattern::compile(pattern)?),
            other => {
                return Err(Error::Argument(format!(
                    "time format {other:?} is not known; give iso, epoch_s, epoch_ms, epoch_us, epoch_ns, ms_of_day or a pattern such as \"%Y%m%d %H%M%S%3f\""
                )));
            }
        })
    }
}

/// Local days and ns of the day, with the offset the text itself named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    /// Days since 1970-01-01; none where the text has no date.
    pub(super) days: Option<i64>,
    pub(super) ns_of_day: i64,
    pub(super) offset_s: Option<i32>,
}

/// A clock: zone, day of times without one, and the last minute read.
pub(super) struct Clock {
    zone: Option<Zone>,
    date: Option<i64>,
    minute: [u8; 16],
    minute_ns: i64,
}

impl Clock {
    pub(super) fn new(zone: Option<&str>, date: Option<&str>) -> Result<Self> {
        let date = match date {
            None => None,
            Some(text) => Some(iso_days(text.as_bytes()).filter(|_| text.len() == 10).ok_or_else(|| {
                Error::Argument(format!("date {text:?} is not a day; write it as YYYY-MM-DD"))
            })?),
        };
        let zone = match zone {
            None | Some("UTC" | "Etc/UTC" | "Z" | "+00:00") => None,
            Some(name) => Some(Zone::named(name)?),
        };
        Ok(Self { zone, date, minute: [0; 16], minute_ns: 0 })
    }

    /// Set the day of the times that follow, for rows that hold it in a field of its own.
    pub(super) fn set_date(&mut self, days: i64) {
        self.date = Some(days);
    }

    /// The instant, or the fault bits that say why there is none.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8], format: &Format) -> std::result::Result<i64, u32> {
        match format {
            Format::Iso => self.iso(text),
            Format::Epoch(unit) => epoch(text, *unit),
            Format::MsOfDay => {
                let ns_of_day = scaled(text, 6).ok_or(fault::TIMESTAMP_MISSING)??;
                let day = self.date.ok_or(fault::TIMESTAMP_MISSING)?;
                if !(0..NS_PER_DAY).contains(&ns_of_day) {
                    return Err(fault::TIMESTAMP_MISSING);
                }
                self.instant(day, ns_of_day, None)
            }
            Format::Pattern(pattern) => {
                let civil = pattern.read(text.trim_ascii()).ok_or(fault::TIMESTAMP_MISSING)?;
                let day = civil.days.or(self.date).ok_or(fault::TIMESTAMP_MISSING)?;
                self.instant(day, civil.ns_of_day, civil.offset_s)
            }
        }
    }

    #[inline]
    fn iso(&mut self, text: &[u8]) -> std::result::Result<i64, u32> {
        let Some((minute, rest)) = text.split_first_chunk::<16>() else {
            return self.iso_slow(text);
        };
        if *minute != self.minute {
            let Some(ns) = iso_minute(minute) else { return self.iso_slow(text) };
            self.minute = *minute;
            self.minute_ns = ns;
        }
        let Some(([b':', a, b], rest)) = rest.split_first_chunk::<3>() else {
            return self.iso_slow(text);
        };
        let (tens, units) = (a.wrapping_sub(b'0'), b.wrapping_sub(b'0'));
        if tens > 5 || units > 9 {
            return Err(fault::TIMESTAMP_MISSING);
        }
        let mut ns = (i64::from(tens) * 10 + i64::from(units)) * NS_PER_SECOND;
        let mut rest = rest;
        if let [b'.' | b',', digits @ ..] = rest {
            let (fraction, used) = fraction(digits).ok_or(fault::TIMESTAMP_MISSING)?;
            ns += fraction;
            rest = &digits[used..];
        }
        let local = self.minute_ns + ns;
        if rest.is_empty() {
            return match &mut self.zone {
                None => Ok(local),
                Some(zone) => zone.resolve(local).ok_or(fault::TIMESTAMP_OUT_OF_RANGE),
            };
        }
        let offset = fixed_offset(rest.trim_ascii()).ok_or(fault::TIMESTAMP_MISSING)?;
        local.checked_sub(i64::from(offset) * NS_PER_SECOND).ok_or(fault::TIMESTAMP_OUT_OF_RANGE)
    }

    /// Shorter and stranger spellings: date only, no seconds, spaces around, years that do not fit.
    #[cold]
    fn iso_slow(&mut self, text: &[u8]) -> std::result::Result<i64, u32> {
        let text = text.trim_ascii();
        let day = iso_days(text).ok_or(fault::TIMESTAMP_MISSING)?;
        let (mut ns, mut rest) = (0, &text[10..]);
        if let [b'T' | b't' | b' ', time @ ..] = rest {
            let (value, used) = time_of_day(time).ok_or(fault::TIMESTAMP_MISSING)?;
            ns = value;
            rest = time[used..].trim_ascii();
        }
        let offset = match rest {
            [] => None,
            _ => Some(fixed_offset(rest).ok_or(fault::TIMESTAMP_MISSING)?),
        };
        self.instant(day, ns, offset)
    }

    fn instant(&mut self, day: i64, ns_of_day: i64, offset_s: Option<i32>) -> std::result::Result<i64, u32> {
        let local = i128::from(day) * i128::from(NS_PER_DAY) + i128::from(ns_of_day);
        let local = i64::try_from(local).map_err(|_| fault::TIMESTAMP_OUT_OF_RANGE)?;
        match (offset_s, &mut self.zone) {
            (Some(offset), _) => local.checked_sub(i64::from(offset) * NS_PER_SECOND),
            (None, None) => Some(local),
            (None, Some(zone)) => zone.resolve(local),
        }
        .ok_or(fault::TIMESTAMP_OUT_OF_RANGE)
    }
}

/// `YYYY-MM-DDTHH:MM` in ns, where it fits.
fn iso_minute(text: &[u8; 16]) -> Option<i64> {
    let days = iso_days(text)?;
    if !matches!(text[10], b'T' | b' ' | b't') {
        return None;
    }
    let (ns, 5) = time_of_day(&text[11..])? else { return None };
    // One hour of room, so that seconds can be added without overflow.
    days.checked_mul(NS_PER_DAY)?
        .checked_add(ns)
        .filter(|value| value.unsigned_abs() < i64::MAX.unsigned_abs() - 3_600_000_000_000)
}

/// The days of a leading `YYYY-MM-DD`.
fn iso_days(text: &[u8]) -> Option<i64> {
    let date: &[u8; 10] = text.first_chunk()?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    days_from_civil(digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?)
}

/// A leading `HH:MM[:SS[.fraction]]`: ns and the bytes it took.
fn time_of_day(text: &[u8]) -> Option<(i64, usize)> {
    let hours = digits(text.get(..2)?)?;
    let minutes = digits(text.get(3..5)?)?;
    if text[2] != b':' || hours > 23 || minutes > 59 {
        return None;
    }
    let mut ns = (hours * 3600 + minutes * 60) * NS_PER_SECOND;
    let mut used = 5;
    if let [b':', a, b, ..] = text[5..] {
        let seconds = digits(&[a, b])?;
        if seconds > 59 {
            return None;
        }
        ns += seconds * NS_PER_SECOND;
        used = 8;
        if let [b'.' | b',', rest @ ..] = &text[8..] {
            let (value, taken) = fraction(rest)?;
            ns += value;
            used += 1 + taken;
        }
    }
    Some((ns, used))
}

/// Leading digits as a fraction of a second in ns; digits beyond the ninth must be zero.
#[inline]
pub(super) fn fraction(text: &[u8]) -> Option<(i64, usize)> {
    if let Some((six, rest)) = text.split_first_chunk::<6>()
        && !rest.first().is_some_and(u8::is_ascii_digit)
        && let Some(value) = six_digits(*six)
    {
        return Some((value * 1_000, 6));
    }
    let mut value = 0_i64;
    let mut used = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        if used < 9 {
            value = value * 10 + i64::from(digit);
        } else if digit != 0 {
            return None;
        }
        used += 1;
    }
    const UP: [i64; 9] = [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10];
    match used {
        0 => None,
        1..=8 => Some((value * UP[used], used)),
        _ => Some((value, used)),
    }
}

#[inline]
fn six_digits([a, b, c, d, e, f]: [u8; 6]) -> Option<i64> {
    eight_digits([b'0', b'0', a, b, c, d, e, f])
}

/// All bytes as one number.
#[inline]
pub(super) fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn epoch(text: &[u8], unit: i64) -> std::result::Result<i64, u32> {
    scaled(text, unit.ilog10() as usize).ok_or(fault::TIMESTAMP_MISSING)?
}

/// A plain decimal times ten to `power`: none where it is no number or leaves a fraction of a ns, an error where it leaves 64 bits.
#[inline]
fn scaled(text: &[u8], power: usize) -> Option<std::result::Result<i64, u32>> {
    if let Some(whole) = digits(text) {
        let value = whole.checked_mul(10_i64.pow(power as u32));
        return Some(value.ok_or(fault::TIMESTAMP_OUT_OF_RANGE));
    }
    scaled_decimal(text, power)
}

#[cold]
fn scaled_decimal(text: &[u8], power: usize) -> Option<std::result::Result<i64, u32>> {
    let text = text.trim_ascii();
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
    let (whole, places) = (&text[..point], text.get(point + 1..).unwrap_or(&[]));
    if whole.is_empty() || !whole.iter().chain(places).all(u8::is_ascii_digit) {
        return None;
    }
    let (used, lost) = places.split_at(places.len().min(power));
    if lost.iter().any(|&digit| digit != b'0') {
        return None;
    }
    let zeros = power - used.len();
    let value = whole
        .iter()
        .chain(used)
        .copied()
        .chain(std::iter::repeat_n(b'0', zeros))
        .try_fold(0_i64, |sum, byte| sum.checked_mul(10)?.checked_add(i64::from(byte - b'0')));
    Some(match value {
        Some(value) => Ok(if negative { -value } else { value }),
        None => Err(fault::TIMESTAMP_OUT_OF_RANGE),
    })
}

#[cfg(test)]
mod tests {
    use super::{Clock, Format, fault, six_digits};

    #[test]
    fn six_digits_at_once() {
        for value in (0..1_000_000_i64).step_by(7).chain([999_999]) {
            let text: [u8; 6] = format!("{value:06}").into_bytes().try_into().unwrap();
            assert_eq!(six_digits(text), Some(value));
        }
        for at in 0..6 {
            for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
                let mut text = *b"123456";
                text[at] = byte;
                assert_eq!(six_digits(text), None, "{byte} at {at}");
            }
        }
    }

    fn read(text: &str, format: &str) -> Result<i64, u32> {
        let mut clock = Clock::new(None, Some("2013-10-08")).unwrap();
        clock.read(text.as_bytes(), &Format::named(format).unwrap())
    }

    #[test]
    fn iso_in_all_spellings() {
        let second = 1_704_205_800_000_000_000;
        assert_eq!(read("2024-01-02T14:30:00.123456", "iso"), Ok(second + 123_456_000));
        assert_eq!(read("2024-01-02 14:30:00", "iso"), Ok(second));
        assert_eq!(read("2024-01-02T14:30", "iso"), Ok(second));
        assert_eq!(read("2024-01-02T14:30:00.123456789Z", "iso"), Ok(second + 123_456_789));
        assert_eq!(read("2024-01-02T14:30:00.1234567890Z", "iso"), Ok(second + 123_456_789));
        assert_eq!(read("2024-01-02T16:30:00+02:00", "iso"), Ok(second));
        assert_eq!(read("2024-01-02", "iso"), Ok(1_704_153_600_000_000_000));
        assert_eq!(read("2024-01-02T14:30:00.1234567891", "iso"), Err(fault::TIMESTAMP_MISSING));
        assert_eq!(read("2024-02-30T14:30:00", "iso"), Err(fault::TIMESTAMP_MISSING));
        assert_eq!(read("2024-01-02T24:30:00", "iso"), Err(fault::TIMESTAMP_MISSING));
        assert_eq!(read("1500-01-02T14:30:00", "iso"), Err(fault::TIMESTAMP_OUT_OF_RANGE));
        assert_eq!(read("", "iso"), Err(fault::TIMESTAMP_MISSING));
    }

    #[test]
    fn numbers_of_time() {
        assert_eq!(read("1583020803145000", "epoch_us"), Ok(1_583_020_803_145_000_000));
        assert_eq!(read("1583020803.145", "epoch_s"), Ok(1_583_020_803_145_000_000));
        assert_eq!(read("-1", "epoch_ms"), Ok(-1_000_000));
        assert_eq!(read("99999999999999999999", "epoch_ns"), Err(fault::TIMESTAMP_OUT_OF_RANGE));
        assert_eq!(read("14400009.367", "ms_of_day"), Ok(1_381_190_400_000_000_000 + 14_400_009_367_000));
        assert_eq!(read("86400000", "ms_of_day"), Err(fault::TIMESTAMP_MISSING));
    }
}
