//! Numbers of fields.

use super::fault;
use crate::decimal::{Fixed, parse_exact, parse_float};

/// A number times ten to `power` in units of 1e-8 and its flags, or the fault bits that say why there is none.
#[inline]
pub(super) fn parse(text: &[u8], power: i32, float: bool) -> Result<(i64, u32), u32> {
    let Fixed { value, faults } = read(text, power, float);
    match faults {
        0 | fault::ROUNDED => Ok((value, faults)),
        fault::NOT_A_NUMBER => trimmed(text, power, float),
        _ => Err(faults),
    }
}

#[inline]
fn read(text: &[u8], power: i32, float: bool) -> Fixed {
    if float { parse_float(text, power) } else { parse_exact(text, power) }
}

/// Spaces around a number are no part of it.
#[cold]
fn trimmed(text: &[u8], power: i32, float: bool) -> Result<(i64, u32), u32> {
    let Fixed { value, faults } = read(text.trim_ascii(), power, float);
    if faults & !fault::ROUNDED == 0 { Ok((value, faults)) } else { Err(faults) }
}

/// A number whose decimal point is a comma; a point in it is none.
pub(super) fn parse_comma(text: &[u8], power: i32, float: bool) -> Result<(i64, u32), u32> {
    if text.contains(&b'.') {
        return Err(fault::NOT_A_NUMBER);
    }
    let pointed: Vec<u8> = text.iter().map(|&byte| if byte == b',' { b'.' } else { byte }).collect();
    parse(&pointed, power, float)
}

/// A whole number of any sign.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{fault, parse};

    #[test]
    fn numbers_may_have_spaces_around_them() {
        assert_eq!(parse(b" 185.42", 0, false), Ok((18_542_000_000, 0)));
        assert_eq!(parse(b"1821000 ", -4, false), Ok((18_210_000_000, 0)));
        assert_eq!(parse(b"  ", 0, false), Err(fault::NOT_A_NUMBER));
        assert_eq!(parse(b"3379.36999999999989", 0, true), Ok((337_937_000_000, 0)));
        assert_eq!(parse(b"3379.36999999999989", 0, false), Err(fault::INEXACT));
    }
}
