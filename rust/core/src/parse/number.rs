//! Decimal text to units of 1e-8.

use super::fault;

const POWERS: [i64; 19] = {
    let mut powers = [1_i64; 19];
    let mut index = 1;
    while index < 19 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};
const MAX_FIXED: i64 = crate::schema::MAX_FIXED;

/// A number in units of 1e-8 and its fault bits (0 or `ROUNDED`), or the bits that say why there is none.
#[inline]
pub(super) fn parse(text: &[u8], power: i32, float: bool) -> Result<(i64, u32), u32> {
    // Up to 18 digits with a point, and nothing else: nearly every number there is.
    if text.len() <= 18 {
        let mut value = 0_i64;
        let mut point = text.len();
        let mut digits = 0;
        for (index, &byte) in text.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                value = value * 10 + i64::from(digit);
                digits += 1;
            } else if byte == b'.' && point == text.len() {
                point = index;
            } else {
                return general(text, power, float);
            }
        }
        let places = text.len().saturating_sub(point + 1) as i32 - power;
        if digits > 0 && (0..=8).contains(&places) {
            let fixed = value
                .checked_mul(POWERS[(8 - places) as usize])
                .ok_or(fault::OUT_OF_RANGE)?;
            if fixed <= MAX_FIXED {
                return Ok((fixed, 0));
            }
            return Err(fault::OUT_OF_RANGE);
        }
    }
    general(text, power, float)
}

#[cold]
fn general(text: &[u8], power: i32, float: bool) -> Result<(i64, u32), u32> {
    let text = text.trim_ascii();
    let (negative, text) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let split = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match split {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let mut digits: Vec<u8> = Vec::with_capacity(mantissa.len());
    let mut places: Option<i64> = None;
    for &byte in mantissa {
        match byte {
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                places = places.map(|count| count + 1);
            }
            b'.' if places.is_none() => places = Some(0),
            _ => return Err(fault::NOT_A_NUMBER),
        }
    }
    if digits.is_empty() {
        return Err(fault::NOT_A_NUMBER);
    }
    let (value, rounded) = scale(&digits, places.unwrap_or(0) - exponent - i64::from(power), float)?;
    Ok((if negative { -value } else { value }, rounded))
}

fn exponent(text: &[u8]) -> Result<i64, u32> {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(fault::NOT_A_NUMBER);
    }
    let value = digits
        .iter()
        .fold(0_i64, |sum, &byte| sum * 10 + i64::from(byte - b'0'));
    Ok(if negative { -value } else { value })
}

/// `digits` with `places` of them after the point, in units of 1e-8.
fn scale(digits: &[u8], places: i64, float: bool) -> Result<(i64, u32), u32> {
    let first = digits.iter().position(|&digit| digit != 0);
    let Some(first) = first else { return Ok((0, 0)) };
    let last = digits.iter().rposition(|&digit| digit != 0).unwrap_or(first);
    let places = places - (digits.len() - 1 - last) as i64;
    let digits = &digits[first..=last];
    let cut = (places - 8).max(0);
    if cut > 0 && !float {
        return Err(fault::INEXACT);
    }
    let kept = digits.len() as i64 - cut;
    if kept + (8 - places).max(0) > 18 {
        return Err(fault::OUT_OF_RANGE);
    }
    if kept < 0 {
        return Ok((0, fault::ROUNDED));
    }
    let (head, tail) = digits.split_at(kept as usize);
    let mut value = head
        .iter()
        .fold(0_i64, |sum, &digit| sum * 10 + i64::from(digit));
    if cut == 0 {
        return Ok((value * POWERS[(8 - places) as usize], 0));
    }
    let half = tail[0] == 5 && tail.len() == 1;
    if tail[0] > 5 || (tail[0] == 5 && !half) || (half && value % 2 == 1) {
        value += 1;
    }
    if value > MAX_FIXED {
        return Err(fault::OUT_OF_RANGE);
    }
    Ok((value, fault::ROUNDED))
}

/// A whole number of any sign.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{fault, parse};

    #[test]
    fn reads_decimals_exactly() {
        assert_eq!(parse(b"185.42", 0, false), Ok((18_542_000_000, 0)));
        assert_eq!(parse(b"3.844E-5", 0, false), Ok((3844, 0)));
        assert_eq!(parse(b"1.0E-8", 0, false), Ok((1, 0)));
        assert_eq!(parse(b"1821000", -4, false), Ok((18_210_000_000, 0)));
        assert_eq!(parse(b"-37.63", 0, false), Ok((-3_763_000_000, 0)));
        assert_eq!(parse(b"0.000000001", 0, false), Err(fault::INEXACT));
        assert_eq!(parse(b"100000000000", 0, false), Err(fault::OUT_OF_RANGE));
        assert_eq!(parse(b"nan", 0, false), Err(fault::NOT_A_NUMBER));
        assert_eq!(parse(b"", 0, false), Err(fault::NOT_A_NUMBER));
        assert_eq!(parse(b".", 0, false), Err(fault::NOT_A_NUMBER));
        assert_eq!(parse(b"3379.36999999999989", 0, true), Ok((337_937_000_000, fault::ROUNDED)));
        assert_eq!(parse(b"9999999999.99999999", 0, false), Ok((super::MAX_FIXED, 0)));
        assert_eq!(parse(b"9999999999.999999999", 0, true), Err(fault::OUT_OF_RANGE));
    }
}
