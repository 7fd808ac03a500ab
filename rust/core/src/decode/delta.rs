//! `DELTA_BINARY_PACKED`, back to values.

use super::bits::{Cursor, unpack};
use super::corrupt;
use crate::encode::delta::{BLOCK, MINIBLOCK, MINIBLOCKS};
use crate::error::Result;

/// So many values, each converted; nothing may follow them.
pub(super) fn decode<T>(data: &[u8], count: usize, convert: impl Fn(i64) -> T) -> Result<Vec<T>> {
    let mut data = Cursor(data);
    let form = [data.unsigned()?, data.unsigned()?, data.unsigned()?];
    if form != [BLOCK as u64, MINIBLOCKS as u64, count as u64] {
        return Err(corrupt("deltas of another form or number"));
    }
    let mut value = data.signed()?;
    let mut values = Vec::with_capacity(count.next_multiple_of(BLOCK) + 1);
    if count > 0 {
        values.push(convert(value));
    }
    while values.len() < count {
        let least = data.signed()?;
        for width in data.array::<MINIBLOCKS>()? {
            let packed = data.0;
            data.take(MINIBLOCK / 8 * usize::from(width))?;
            let mut steps = [0; MINIBLOCK];
            match width {
                0 => {}
                1..=64 => unpack(packed, u32::from(width), &mut steps),
                _ => return Err(corrupt("a delta of more than 64 bits")),
            }
            values.extend(steps.iter().map(|step| {
                value = value.wrapping_add(least).wrapping_add(*step as i64);
                convert(value)
            }));
        }
    }
    // What pads the last block is no value.
    values.truncate(count);
    if data.is_empty() { Ok(values) } else { Err(corrupt("bytes behind the last delta")) }
}
