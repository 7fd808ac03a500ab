//! Integer division that rounds once, half to even.

const EXACT_F64: f64 = 1_125_899_906_842_624.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// `numerator / denominator` rounded to the nearest integer, ties to the even one.
///
/// Null (`None`) at a zero denominator, or where the quotient leaves `i128`.
///
/// ```
/// use backtestr_core::round::div_half_even;
/// assert_eq!(div_half_even(5, 2), Some(2));
/// assert_eq!(div_half_even(-7, 2), Some(-4));
/// assert_eq!(div_half_even(1, 0), None);
/// ```
#[inline]
pub fn div_half_even(numerator: i128, denominator: i128) -> Option<i128> {
    if let Some(quotient) = div_small(numerator, denominator) {
        return Some(quotient);
    }
    let quotient = numerator.checked_div(denominator)?;
    let rest = numerator.checked_rem(denominator)?;
    let (twice, over) = rest.unsigned_abs().overflowing_mul(2);
    let size = denominator.unsigned_abs();
    if over || twice > size || (twice == size && quotient & 1 == 1) {
        let away = if (numerator < 0) == (denominator < 0) { 1 } else { -1 };
        return quotient.checked_add(away);
    }
    Some(quotient)
}

/// The same through a float estimate, corrected exactly; only for positive `i64` denominators and quotients under 2^50.
#[inline]
fn div_small(numerator: i128, denominator: i128) -> Option<i128> {
    let divisor = i64::try_from(denominator).ok().filter(|d| *d > 0 && *d < 1 << 62)?;
    let estimate = ((numerator >> 64) as i64 as f64 * TWO_64 + numerator as u64 as f64) / divisor as f64;
    if !(-EXACT_F64..=EXACT_F64).contains(&estimate) {
        return None;
    }
    let mut quotient = estimate as i64;
    let wide = numerator - i128::from(quotient) * denominator;
    // Under 1.6 divisors and 2^11 (where the halves cancel), so that the low half is all of it.
    let mut rest = wide as i64;
    while rest < 0 {
        quotient -= 1;
        rest += divisor;
    }
    while rest >= divisor {
        quotient += 1;
        rest -= divisor;
    }
    let beyond_half = rest - (divisor - rest);
    // No branch: which way a quotient rounds cannot be foretold.
    quotient += i64::from((beyond_half > 0) | ((beyond_half == 0) & (quotient & 1 == 1)));
    Some(i128::from(quotient))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_go_to_even() {
        let cases =
            [(1, 2, 0), (3, 2, 2), (5, 2, 2), (-1, 2, 0), (-3, 2, -2), (-5, 2, -2), (7, 3, 2), (8, 3, 3)];
        for (n, d, want) in cases {
            assert_eq!(div_half_even(n, d), Some(want), "{n}/{d}");
            assert_eq!(div_half_even(-n, -d), Some(want), "{n}/{d} with both signs turned");
        }
    }

    #[test]
    fn the_ends_of_i128_do_not_panic() {
        assert_eq!(div_half_even(i128::MIN, -1), None);
        assert_eq!(div_half_even(i128::MIN, 1), Some(i128::MIN));
        assert_eq!(div_half_even(i128::MAX, i128::MIN), Some(-1));
        assert_eq!(div_half_even(i128::MIN, i128::MAX), Some(-1));
    }

    proptest! {
        #[test]
        fn the_estimate_is_corrected_exactly(q in -(1_i64 << 50)..1 << 50, d in 1_i64..1 << 62, cut in 0u32..62, part in 0u32..5) {
            let d = i128::from(d >> cut).max(1);
            // Just below, at and just above a tie, and next to whole quotients.
            let rest = [0, 1, (d - 1) / 2, d / 2, d - 1][part as usize].min(d - 1);
            let n = i128::from(q) * d + rest;
            let up = rest * 2 > d || (rest * 2 == d && q & 1 == 1);
            prop_assert_eq!(div_half_even(n, d), Some(i128::from(q) + i128::from(up)));
            let small = i128::from(q >> (cut % 50)) * d.min(1 << 12) - 1;
            prop_assert_eq!(div_half_even(small, 1), Some(small));
        }

        #[test]
        fn nearest_and_even(n in any::<i128>(), shift in 0u32..120, d in 1i128..i128::MAX, cut in 0u32..126) {
            let (n, d) = (n >> shift, (d >> cut).max(1));
            if let Some(q) = div_half_even(n, d)
                && let Some(twice) = q.checked_mul(d).and_then(|p| n.checked_sub(p)).and_then(|r| r.checked_mul(2)) {
                    prop_assert!(twice.abs() <= d);
                    prop_assert!(twice.abs() < d || q % 2 == 0);
                }
        }
    }
}
