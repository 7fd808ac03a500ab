//! `DELTA_BINARY_PACKED`: the differences of neighbours above the smallest of their block, bit-packed.

use super::hybrid::pack;
use super::page::unsigned;

pub(crate) const BLOCK: usize = 128;
pub(crate) const MINIBLOCK: usize = 32;
pub(crate) const MINIBLOCKS: usize = BLOCK / MINIBLOCK;

/// Append the values.
pub(super) fn encode(values: &[i64], out: &mut Vec<u8>) {
    unsigned(BLOCK as u64, out);
    unsigned(MINIBLOCKS as u64, out);
    unsigned(values.len() as u64, out);
    signed(values.first().copied().unwrap_or(0), out);
    let mut start = 0;
    while start + 1 < values.len() {
        let stop = (start + BLOCK).min(values.len() - 1);
        block(&values[start..=stop], out);
        start = stop;
    }
}

/// The differences of up to 129 values.
fn block(values: &[i64], out: &mut Vec<u8>) {
    let mut steps = [0_u64; BLOCK];
    let count = values.len() - 1;
    let mut least = i64::MAX;
    for (step, pair) in steps.iter_mut().zip(values.windows(2)) {
        let difference = pair[1].wrapping_sub(pair[0]);
        least = least.min(difference);
        *step = difference as u64;
    }
    // What pads the last miniblock stays 0.
    steps[..count].iter_mut().for_each(|step| *step = step.wrapping_sub(least as u64));
    signed(least, out);
    let widths = out.len();
    out.extend([0; MINIBLOCKS]);
    for (number, steps) in steps.chunks_exact(MINIBLOCK).enumerate() {
        let bits = steps.iter().fold(0, |bits, step| bits | step);
        let width = u64::BITS - bits.leading_zeros();
        out[widths + number] = width as u8;
        pack(steps, width, out);
    }
}

fn signed(value: i64, out: &mut Vec<u8>) {
    unsigned(((value << 1) ^ (value >> 63)) as u64, out);
}
