//! Small numbers as runs of equal ones and, between those, bit-packed: levels and dictionary indices.

use super::page::unsigned;

/// Numbers that are looked at together: a bit-packed run holds a multiple of these.
pub(crate) const GROUP: usize = 8;

/// Append numbers that `width` bits hold.
pub(super) fn encode(numbers: &[u32], width: u32, out: &mut Vec<u8>) {
    let (mut packed_from, mut at) = (0, 0);
    while at < numbers.len() {
        let run = equal(&numbers[at..]);
        if run < GROUP {
            at = (at + GROUP).min(numbers.len());
            continue;
        }
        pack_run(&numbers[packed_from..at], width, out);
        unsigned((run as u64) << 1, out);
        out.extend(&numbers[at].to_le_bytes()[..width.div_ceil(8) as usize]);
        at += run;
        packed_from = at;
    }
    pack_run(&numbers[packed_from..], width, out);
}

/// How many numbers are equal to the first.
fn equal(numbers: &[u32]) -> usize {
    let first = numbers[0];
    let same = |group: &&[u32]| group.iter().fold(true, |all, number| all & (*number == first));
    let whole = numbers.chunks_exact(GROUP).take_while(same).count() * GROUP;
    whole + numbers[whole..].iter().take(GROUP).take_while(|number| **number == first).count()
}

fn pack_run(numbers: &[u32], width: u32, out: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    unsigned((numbers.len().div_ceil(GROUP) as u64) << 1 | 1, out);
    for group in numbers.chunks(GROUP) {
        let mut padded = [0; GROUP];
        padded.iter_mut().zip(group).for_each(|(to, number)| *to = u64::from(*number));
        pack(&padded, width, out);
    }
}

/// Append numbers in `width` bits each, the first in the lowest; their bits are whole bytes.
#[inline]
pub(crate) fn pack(numbers: &[u64], width: u32, out: &mut Vec<u8>) {
    let (mut bits, mut filled) = (0_u64, 0);
    for number in numbers {
        bits |= number << filled;
        filled += width;
        if filled >= u64::BITS {
            out.extend(bits.to_le_bytes());
            filled -= u64::BITS;
            bits = if filled == 0 { 0 } else { number >> (width - filled) };
        }
    }
    out.extend(&bits.to_le_bytes()[..filled as usize / 8]);
}
