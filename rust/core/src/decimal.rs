//! Numbers as integers of 1e-8, exact or refused.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::reasons::{INEXACT, NOT_A_NUMBER, OUT_OF_RANGE, ROUNDED};
use crate::schema::{MAX_FIXED, SCALE};

const POWERS: [i64; 19] = {
    let mut powers = [1_i64; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A number read: its value in units of 1e-8, and the reason bits it earns. A fault that rejects leaves 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// Units of 1e-8.
    pub value: i64,
    /// Bits of [`crate::reasons`].
    pub faults: u32,
}

impl Fixed {
    const fn ok(value: i64) -> Self {
        Self { value, faults: 0 }
    }

    const fn fault(faults: u32) -> Self {
        Self { value: 0, faults }
    }
}

/// Digits of a number as written: `sign * digits * 10^exponent`.
struct Written {
    negative: bool,
    digits: u128,
    exponent: i32,
    /// Non-zero digits beyond the 38 kept.
    more: bool,
}

fn scan(text: &[u8]) -> Option<Written> {
    let (negative, mut rest) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mut digits, mut kept, mut exponent, mut seen, mut more) = (0_u128, 0_u32, 0_i32, false, false);
    let mut after_point = false;
    while let Some((byte, tail)) = rest.split_first() {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                let digit = u128::from(byte - b'0');
                if kept == 38 {
                    more |= digit != 0;
                    exponent += i32::from(!after_point);
                } else {
                    digits = digits * 10 + digit;
                    kept += u32::from(digits != 0);
                    exponent -= i32::from(after_point);
                }
            }
            b'.' if !after_point => after_point = true,
            b'e' | b'E' if seen => {
                let power: i32 = std::str::from_utf8(tail).ok()?.parse().ok()?;
                exponent = exponent.saturating_add(power);
                rest = &[];
                continue;
            }
            _ => return None,
        }
        rest = tail;
    }
    seen.then_some(Written { negative, digits, exponent, more })
}

/// Read a decimal text such as `185.42` or `3.844E-5`, exactly.
///
/// `shift` is the power of ten the vendor's number is to be multiplied by (prices × 10,000: -4).
pub fn parse_exact(text: &[u8], shift: i32) -> Fixed {
    if let Some(value) = parse_short(text, shift) {
        return Fixed::ok(value);
    }
    let Some(written) = scan(text) else {
        return Fixed::fault(NOT_A_NUMBER);
    };
    fit(&written, shift)
}

/// The usual case: up to 18 digits, at most one point, at most 8 decimals.
#[inline]
fn parse_short(text: &[u8], shift: i32) -> Option<i64> {
    if text.len() > 19 {
        return None;
    }
    let negative = *text.first()? == b'-';
    let text = &text[usize::from(negative)..];
    if shift == 0 {
        // All eight decimals, as many exchanges print them.
        if let Some((whole @ [_, ..], [b'.', places @ ..])) = text.split_last_chunk::<9>()
            && let Some(places) = eight_digits(*places)
            && let Some(whole) = whole.iter().try_fold(0, |sum: i64, byte| {
                byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
            })
        {
            let value = whole * POWERS[8] + places;
            return Some(if negative { -value } else { value });
        }
    }
    let (mut digits, mut decimals, mut point) = (0_i64, 0_usize, 0_usize);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            digits = digits.wrapping_mul(10).wrapping_add(i64::from(digit));
            decimals += point;
        } else if *byte == b'.' && point == 0 {
            point = 1;
        } else {
            return None;
        }
    }
    let count = text.len() - point;
    let power = i32::from(SCALE) + shift - decimals as i32;
    if count == 0 || count > 18 || !(0..=18).contains(&power) || count + power as usize > 18 {
        return None;
    }
    let value = digits * POWERS[power as usize];
    Some(if negative { -value } else { value })
}

/// Eight digits at once: neighbours are joined to pairs, and those weighed by one multiplication.
#[inline]
pub(crate) fn eight_digits(text: [u8; 8]) -> Option<i64> {
    let text = u64::from_le_bytes(text);
    let digits = text.wrapping_sub(0x3030_3030_3030_3030);
    let beyond_nine = digits.wrapping_add(0x7676_7676_7676_7676);
    if (text | digits | beyond_nine) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = digits * 10 + (digits >> 8);
    let weigh = |pairs: u64, weights: u64| (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(weights);
    let high = weigh(pairs, 100 + (1_000_000 << 32));
    let low = weigh(pairs >> 16, 1 + (10_000 << 32));
    Some((high.wrapping_add(low) >> 32) as i64)
}

fn fit(written: &Written, shift: i32) -> Fixed {
    if written.digits == 0 {
        return Fixed::ok(0);
    }
    let power = written.exponent.saturating_add(shift).saturating_add(i32::from(SCALE));
    let magnitude = if power >= 0 {
        if written.more || power > 18 {
            return Fixed::fault(OUT_OF_RANGE);
        }
        written.digits.checked_mul(POWERS[power as usize] as u128)
    } else {
        let divisor = 10_u128.checked_pow(power.unsigned_abs());
        match divisor {
            Some(divisor) if written.digits.is_multiple_of(divisor) && !written.more => {
                Some(written.digits / divisor)
            }
            Some(divisor) if written.digits / divisor > MAX_FIXED as u128 => None,
            _ => return Fixed::fault(INEXACT),
        }
    };
    match magnitude {
        Some(magnitude) if magnitude <= MAX_FIXED as u128 => {
            Fixed::ok(if written.negative { -(magnitude as i64) } else { magnitude as i64 })
        }
        _ => Fixed::fault(OUT_OF_RANGE),
    }
}

/// Round a written number half-even at 1e-8.
fn round(written: &Written, shift: i32) -> Fixed {
    let exact = fit(written, shift);
    if exact.faults != INEXACT {
        return exact;
    }
    let power = written.exponent.saturating_add(shift).saturating_add(i32::from(SCALE)).unsigned_abs();
    let Some(divisor) = 10_u128.checked_pow(power) else {
        return Fixed { value: 0, faults: ROUNDED };
    };
    let (quotient, rest) = (written.digits / divisor, written.digits % divisor);
    let up = rest > divisor / 2 || (rest == divisor / 2 && (written.more || quotient % 2 == 1));
    let magnitude = quotient + u128::from(up);
    if magnitude > MAX_FIXED as u128 {
        return Fixed::fault(OUT_OF_RANGE);
    }
    let value = magnitude as i64;
    Fixed { value: if written.negative { -value } else { value }, faults: ROUNDED }
}

/// Read a text that a vendor printed from a float: the nearest float's shortest decimal, rounded half-even at 1e-8.
pub fn parse_float(text: &[u8], shift: i32) -> Fixed {
    // Up to 15 digits survive the trip through a float.
    if text.len() <= 16
        && let Some(value) = parse_short(text, shift)
    {
        return Fixed::ok(value);
    }
    if scan(text).is_none() {
        return Fixed::fault(NOT_A_NUMBER);
    }
    match std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) {
        Some(float) => from_shortest(float.is_finite(), format_args!("{float:e}"), shift),
        None => Fixed::fault(NOT_A_NUMBER),
    }
}

/// A float as its shortest round-trip decimal, rounded half-even at 1e-8 if that has more decimals.
#[inline]
pub fn from_f64(float: f64) -> Fixed {
    // Below 2^25 neighbouring floats are less than 1e-8 apart, so a decimal of 8 places that round-trips is the
    // shortest one.
    if float.abs() < 33_554_432.0 {
        let scaled = (float * 1e8).round_ties_even();
        if scaled / 1e8 == float {
            return Fixed::ok(scaled as i64);
        }
    }
    from_shortest(float.is_finite(), format_args!("{float:e}"), 0)
}

/// A 32-bit float as its own shortest round-trip decimal, `shift`ed, rounded half-even at 1e-8 if that has more.
pub fn from_f32(float: f32, shift: i32) -> Fixed {
    from_shortest(float.is_finite(), format_args!("{float:e}"), shift)
}

fn from_shortest(finite: bool, text: std::fmt::Arguments<'_>, shift: i32) -> Fixed {
    use std::io::Write as _;
    let mut buffer = [0_u8; 40];
    let mut rest = &mut buffer[..];
    if !finite || rest.write_fmt(text).is_err() {
        return Fixed::fault(NOT_A_NUMBER);
    }
    let free = rest.len();
    match scan(&buffer[..40 - free]) {
        Some(written) => round(&written, shift),
        None => Fixed::fault(NOT_A_NUMBER),
    }
}

/// Units of 1e-8 as a decimal.
pub fn to_decimal(value: i64) -> Decimal {
    Decimal::from_i128_with_scale(i128::from(value), SCALE as u32).normalize()
}

/// A decimal in units of 1e-8, exactly.
pub fn from_decimal(decimal: Decimal) -> Fixed {
    let decimal = decimal.normalize();
    if decimal.scale() > SCALE as u32 {
        return Fixed::fault(INEXACT);
    }
    let power = SCALE as u32 - decimal.scale();
    let value =
        decimal.mantissa().checked_mul(i128::from(POWERS[power as usize])).and_then(|value| value.to_i64());
    match value {
        Some(value) if value.unsigned_abs() <= MAX_FIXED.unsigned_abs() => Fixed::ok(value),
        _ => Fixed::fault(OUT_OF_RANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn written_numbers() {
        let cases: [(&str, i64, u32); 20] = [
            ("185.42", 18_542_000_000, 0),
            ("-0.00000001", -1, 0),
            ("3.844E-5", 3844, 0),
            ("1.0E-8", 1, 0),
            (".5", 50_000_000, 0),
            ("5.", 500_000_000, 0),
            ("+1", 100_000_000, 0),
            ("0.1234567800000", 12_345_678, 0),
            ("0.123456789", 0, INEXACT),
            ("9999999999.99999999", 999_999_999_999_999_999, 0),
            ("10000000000", 0, OUT_OF_RANGE),
            ("1e400", 0, OUT_OF_RANGE),
            ("1e-400", 0, INEXACT),
            ("0e999999999999", 0, NOT_A_NUMBER),
            ("NaN", 0, NOT_A_NUMBER),
            ("inf", 0, NOT_A_NUMBER),
            ("", 0, NOT_A_NUMBER),
            ("-", 0, NOT_A_NUMBER),
            ("1.2.3", 0, NOT_A_NUMBER),
            ("1 ", 0, NOT_A_NUMBER),
        ];
        for (text, value, faults) in cases {
            assert_eq!(parse_exact(text.as_bytes(), 0), Fixed { value, faults }, "{text}");
        }
        assert_eq!(parse_exact(b"1854200", -4), Fixed::ok(18_542_000_000));
        assert_eq!(parse_exact(b"0.75", 6), Fixed::ok(75_000_000_000_000));
    }

    #[test]
    fn printed_floats() {
        assert_eq!(parse_float(b"3379.36999999999989", 0), Fixed::ok(337_937_000_000));
        assert_eq!(parse_float(b"0.1234567891", 0), Fixed { value: 12_345_679, faults: ROUNDED });
        assert_eq!(parse_float(b"1e999", 0).faults, NOT_A_NUMBER);
        assert_eq!(from_f64(f64::NAN).faults, NOT_A_NUMBER);
        assert_eq!(from_f64(-0.0), Fixed::ok(0));
        assert_eq!(from_f64(0.000_000_005), Fixed { value: 0, faults: ROUNDED });
        assert_eq!(from_f64(0.000_000_015), Fixed { value: 2, faults: ROUNDED });
        assert_eq!(from_f32(0.75, 6), Fixed::ok(75_000_000_000_000));
        assert_eq!(from_f32(0.1, 0), Fixed::ok(10_000_000));
    }

    #[test]
    fn decimals_beyond_the_range_are_faults() {
        for text in
            ["10000000000", "92233720368.54775808", "-92233720368.54775808", "79228162514264337593543950335"]
        {
            assert_eq!(from_decimal(text.parse().unwrap()), Fixed::fault(OUT_OF_RANGE), "{text}");
        }
        assert_eq!(from_decimal("0.123456789".parse().unwrap()), Fixed::fault(INEXACT));
    }

    proptest! {
        #[test]
        fn every_fixed_number_reads_back(value in -MAX_FIXED..=MAX_FIXED) {
            prop_assert_eq!(parse_exact(to_decimal(value).to_string().as_bytes(), 0), Fixed::ok(value));
            prop_assert_eq!(from_decimal(to_decimal(value)), Fixed::ok(value));
        }

        #[test]
        fn eight_decimals_at_once_read_as_one_by_one(value in -MAX_FIXED..=MAX_FIXED, at in 0usize..21, byte in any::<u8>()) {
            let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
            let mut text = format!("{sign}{}.{:08}", size / 100_000_000, size % 100_000_000).into_bytes();
            prop_assert_eq!(parse_exact(&text, 0), Fixed::ok(value));
            if let Some(changed) = text.get_mut(at) {
                *changed = byte;
            }
            let expected = scan(&text).map_or(Fixed::fault(NOT_A_NUMBER), |written| fit(&written, 0));
            prop_assert_eq!(parse_exact(&text, 0), expected);
        }

        #[test]
        fn cents_survive_floats(cents in -9_007_199_254_740_991_i64..9_007_199_254_740_991) {
            let text = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
            let float: f64 = text.parse().map_err(|_| TestCaseError::fail("float"))?;
            let exact = parse_exact(text.as_bytes(), 0);
            prop_assert_eq!(from_f64(float), exact);
            prop_assert_eq!(parse_float(text.as_bytes(), 0), exact);
        }

        #[test]
        fn floats_round_like_their_shortest_decimal(float in -1e9..1e9_f64) {
            let shortest: Decimal = format!("{float}").parse().map_err(|_| TestCaseError::fail("decimal"))?;
            let rounded = shortest.round_dp_with_strategy(8, rust_decimal::RoundingStrategy::MidpointNearestEven);
            prop_assert_eq!(from_f64(float).value, from_decimal(rounded).value);
        }
    }
}
