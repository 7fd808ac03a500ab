//! Bytes one behind the other, and numbers packed in bits.

use super::corrupt;
use crate::error::Result;

/// What is left of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, left) =
            self.0.split_at_checked(bytes).ok_or_else(|| corrupt("a page that ends too early"))?;
        self.0 = left;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(corrupt)
    }

    /// A number of seven bits a byte.
    pub(super) fn unsigned(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(corrupt("a number of more than 64 bits"))
    }

    /// A number with its sign in the lowest bit.
    pub(super) fn signed(&mut self) -> Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }
}

/// Numbers of `width` bits each, from 1 to 64, the first in the lowest bits; more bytes behind them make it faster.
#[inline]
pub(super) fn unpack(packed: &[u8], width: u32, numbers: &mut [u64]) {
    let (mask, width) = (u64::MAX >> (u64::BITS - width), width as usize);
    // Eight bytes from any bit on hold 57.
    let whole = if width <= 57 { (packed.len().saturating_sub(8) * 8 / width).min(numbers.len()) } else { 0 };
    let (fast, rest) = numbers.split_at_mut(whole);
    let word = |bit: usize| {
        packed[bit / 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (bit % 8)
    };
    let mut bit = 0;
    if width <= 14 {
        for some in fast.chunks_mut(57 / width) {
            let mut word = word(bit);
            for number in some.iter_mut() {
                *number = word & mask;
                word >>= width;
            }
            bit += width * some.len();
        }
    } else {
        for number in fast {
            *number = word(bit) & mask;
            bit += width;
        }
    }
    for number in rest {
        *number = slow(packed, bit) as u64 & mask;
        bit += width;
    }
}

/// The bits from one on, those behind the end as zeros.
fn slow(packed: &[u8], bit: usize) -> u128 {
    let mut bytes = [0; 16];
    let from = &packed[bit / 8..];
    let length = from.len().min(bytes.len());
    bytes[..length].copy_from_slice(&from[..length]);
    u128::from_le_bytes(bytes) >> (bit % 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hybrid::pack;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unpack_undoes_pack(numbers in proptest::collection::vec(any::<u64>(), 0..12), width in 1_u32..=64) {
            let numbers: Vec<u64> = numbers.iter().cycle().take(numbers.len() * 8)
                .map(|number| number >> (u64::BITS - width)).collect();
            let mut packed = Vec::new();
            pack(&numbers, width, &mut packed);
            let mut unpacked = vec![0; numbers.len()];
            unpack(&packed, width, &mut unpacked);
            prop_assert_eq!(unpacked, numbers);
        }
    }
}
