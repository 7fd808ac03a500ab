//! Small numbers as runs of equal ones and bit-packed ones: levels and dictionary indices.

use super::bits::{Cursor, unpack};
use super::corrupt;
use crate::encode::hybrid::GROUP;
use crate::error::Result;

/// Numbers that are unpacked together: whole bytes of any width.
const AT_ONCE: usize = 256;

/// Numbers that come one behind the other.
pub(super) enum Run<'a> {
    /// The same, so many times.
    Same(u64, usize),
    Each(&'a [u64]),
}

/// Hand on so many numbers of `width` bits; nothing may follow them.
pub(super) fn decode(data: &[u8], width: u32, count: usize, mut emit: impl FnMut(Run<'_>)) -> Result<()> {
    let mut data = Cursor(data);
    let mut left = count;
    while left > 0 {
        let head = data.unsigned()?;
        let length = usize::try_from(head >> 1).map_err(corrupt)?;
        if head & 1 == 0 {
            if length > left {
                return Err(corrupt("a run beyond the last row"));
            }
            let mut bytes = [0; 8];
            let stored = data.take(width.div_ceil(8) as usize)?;
            bytes[..stored.len()].copy_from_slice(stored);
            emit(Run::Same(u64::from_le_bytes(bytes), length));
            left -= length;
        } else {
            let bytes = length.checked_mul(width as usize).ok_or_else(|| corrupt("a run without end"))?;
            let mut packed = data.0;
            data.take(bytes)?;
            if length == 0 || width == 0 || length > left.div_ceil(GROUP) {
                return Err(corrupt("a run beyond the last row"));
            }
            // What pads the last eight is no number.
            let wanted = (length * GROUP).min(left);
            let mut numbers = [0; AT_ONCE];
            for first in (0..wanted).step_by(AT_ONCE) {
                let numbers = &mut numbers[..(wanted - first).min(AT_ONCE)];
                unpack(packed, width, numbers);
                emit(Run::Each(numbers));
                packed = packed.get(AT_ONCE / 8 * width as usize..).unwrap_or_default();
            }
            left -= wanted;
        }
    }
    if data.is_empty() { Ok(()) } else { Err(corrupt("bytes behind the last number")) }
}
