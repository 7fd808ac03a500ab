//! Time patterns in the manner of `strptime`, compiled once.

use super::time::{Civil, NS_PER_SECOND, days_from_civil, digits, fraction};
use super::zone::fixed_offset;
use crate::error::{Error, Result};

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

#[derive(Debug, Clone, Copy)]
enum Item {
    Literal(u8),
    Year,
    ShortYear,
    Month,
    MonthName,
    Day,
    Hour,
    Hour12,
    Half,
    Minute,
    Second,
    Fraction(Option<usize>),
    /// A point and digits, or nothing.
    PointFraction,
    Offset,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    items: Vec<Item>,
    has_date: bool,
}

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Self> {
        let refuse = |what: &str| {
            Error::Argument(format!(
                "time format {pattern:?}: {what}; known are %Y %y %m %b %d %H %I %p %M %S %f %.f %1f to %9f %z %%"
            ))
        };
        let mut items = Vec::new();
        let mut bytes = pattern.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                items.push(Item::Literal(byte));
                continue;
            }
            items.push(match bytes.next() {
                Some(b'Y') => Item::Year,
                Some(b'y') => Item::ShortYear,
                Some(b'm') => Item::Month,
                Some(b'b') => Item::MonthName,
                Some(b'd') => Item::Day,
                Some(b'H') => Item::Hour,
                Some(b'I') => Item::Hour12,
                Some(b'p') => Item::Half,
                Some(b'M') => Item::Minute,
                Some(b'S') => Item::Second,
                Some(b'f') => Item::Fraction(None),
                Some(width @ b'1'..=b'9') if bytes.next() == Some(b'f') => {
                    Item::Fraction(Some(usize::from(width - b'0')))
                }
                Some(b'.') if bytes.next() == Some(b'f') => Item::PointFraction,
                Some(b'z') => Item::Offset,
                Some(b'%') => Item::Literal(b'%'),
                _ => return Err(refuse("a % is followed by something unknown")),
            });
        }
        let year = items.iter().any(|item| matches!(item, Item::Year | Item::ShortYear));
        let month = items.iter().any(|item| matches!(item, Item::Month | Item::MonthName));
        let day = items.iter().any(|item| matches!(item, Item::Day));
        if (year || month || day) && !(year && month && day) {
            return Err(refuse("a date needs year, month and day"));
        }
        Ok(Self { items, has_date: year })
    }

    /// The local time that the whole text spells.
    pub(super) fn read(&self, text: &[u8]) -> Option<Civil> {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        let (mut hour, mut minute, mut second, mut ns) = (0, 0, 0, 0);
        let (mut afternoon, mut offset_s) = (None, None);
        let mut rest = text;
        for item in &self.items {
            match item {
                Item::Literal(byte) => rest = rest.strip_prefix(&[*byte])?,
                Item::Year => year = take(&mut rest, 4)?,
                Item::ShortYear => {
                    let short = take(&mut rest, 2)?;
                    year = if short < 69 { 2000 + short } else { 1900 + short };
                }
                Item::Month => month = take_pair(&mut rest)?,
                Item::MonthName => {
                    let name = rest.first_chunk::<3>()?.to_ascii_lowercase();
                    month = MONTHS.iter().position(|known| known[..] == name[..])? as i64 + 1;
                    rest = &rest[3..];
                }
                Item::Day => day = take_pair(&mut rest)?,
                Item::Hour | Item::Hour12 => hour = take_pair(&mut rest)?,
                Item::Half => {
                    afternoon = match rest.first_chunk::<2>()?.to_ascii_uppercase()[..] {
                        [b'A', b'M'] => Some(false),
                        [b'P', b'M'] => Some(true),
                        _ => return None,
                    };
                    rest = &rest[2..];
                }
                Item::Minute => minute = take(&mut rest, 2)?,
                Item::Second => second = take(&mut rest, 2)?,
                Item::Fraction(width) => {
                    let limit = width.unwrap_or(rest.len());
                    let (value, used) = fraction(rest.get(..limit)?)?;
                    if width.is_some_and(|width| width != used) {
                        return None;
                    }
                    ns = value;
                    rest = &rest[used..];
                }
                Item::PointFraction => {
                    if let [b'.', digits @ ..] = rest {
                        let (value, used) = fraction(digits)?;
                        ns = value;
                        rest = &digits[used..];
                    }
                }
                Item::Offset => {
                    offset_s = Some(fixed_offset(rest)?);
                    rest = &[];
                }
            }
        }
        if let Some(afternoon) = afternoon {
            if !(1..=12).contains(&hour) {
                return None;
            }
            hour = hour % 12 + if afternoon { 12 } else { 0 };
        }
        if !rest.is_empty() || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = if self.has_date { Some(days_from_civil(year, month, day)?) } else { None };
        Some(Civil { days, ns_of_day: (hour * 3600 + minute * 60 + second) * NS_PER_SECOND + ns, offset_s })
    }
}

/// Two digits, or one that something other than a digit follows, as in `1/2/2024 9:30`.
fn take_pair(rest: &mut &[u8]) -> Option<i64> {
    let width = if rest.get(1).is_some_and(|byte| !byte.is_ascii_digit()) { 1 } else { 2 };
    take(rest, width)
}

fn take(rest: &mut &[u8], width: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(width)?;
    *rest = tail;
    digits(head)
}

#[cfg(test)]
mod tests {
    use super::{Civil, Pattern};

    #[test]
    fn patterns() {
        let expected = Some(Civil { days: Some(18_262), ns_of_day: 61_200_065_000_000, offset_s: None });
        for (pattern, text) in [
            ("%Y%m%d %H%M%S%3f", "20200101 170000065"),
            ("%Y%m%d %H%M%S%f", "20200101 170000065"),
            ("%Y.%m.%dT%H:%M:%S.%f", "2020.01.01T17:00:00.065"),
            ("%d-%b-%y %I:%M:%S.%f %p", "01-JAN-20 05:00:00.065 PM"),
        ] {
            assert_eq!(Pattern::compile(pattern).unwrap().read(text.as_bytes()), expected, "{pattern}");
        }
        let dotted = Pattern::compile("%d/%m/%Y %H:%M:%S%.f").unwrap();
        assert_eq!(dotted.read(b"1/1/2020 17:00:00.065"), expected);
        assert_eq!(dotted.read(b"01/01/2020 17:00:00").unwrap().ns_of_day, 61_200_000_000_000);
        assert_eq!(Pattern::compile("%H%M%S").unwrap().read(b"12345"), None);
        assert_eq!(Pattern::compile("%Y%m%d").unwrap().read(b"20200231"), None);
        assert!(Pattern::compile("%Y-%q").is_err());
        assert!(Pattern::compile("%m-%d").is_err());
    }
}
