//! Finding separators, line ends and quotes, 64 bytes at a time.

/// Positions of three bytes in a text, in order.
pub(super) struct Marks<'a> {
    bytes: &'a [u8],
    wanted: [u8; 3],
    base: usize,
    next_block: usize,
    mask: u64,
    /// Bits of all bytes loaded so far: the highest is set if one is not ASCII or zero.
    unusual: u8,
}

impl<'a> Marks<'a> {
    pub(super) fn new(bytes: &'a [u8], wanted: [u8; 3]) -> Self {
        Self { bytes, wanted, base: 0, next_block: 0, mask: 0, unusual: 0 }
    }

    /// Whether all bytes up to the last position are ASCII and none is zero.
    pub(super) fn are_plain(&self) -> bool {
        self.unusual < 0x80
    }

    /// The next position, without passing it.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Option<usize> {
        while self.mask == 0 {
            if self.next_block >= self.bytes.len() {
                return None;
            }
            self.load();
        }
        Some(self.base + self.mask.trailing_zeros() as usize)
    }

    /// The next position.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<usize> {
        let found = self.peek();
        self.mask &= self.mask.wrapping_sub(1);
        found
    }

    #[inline]
    fn load(&mut self) {
        self.base = self.next_block;
        self.next_block += 64;
        let rest = &self.bytes[self.base..];
        self.mask = match rest.first_chunk::<64>() {
            Some(block) => self.look(block),
            None => {
                let mut block = [1_u8; 64];
                block[..rest.len()].copy_from_slice(rest);
                self.look(&block) & ((1_u64 << rest.len()) - 1)
            }
        };
    }

    #[inline]
    fn look(&mut self, block: &[u8; 64]) -> u64 {
        // A zero borrows into the highest bit.
        self.unusual = block.iter().fold(self.unusual, |bits, byte| bits | byte | byte.wrapping_sub(1));
        mask_of(block, self.wanted)
    }
}

/// Bit i is set where byte i is one of the wanted ones. Written so that the compiler compares 16 bytes at once.
#[inline]
fn mask_of(block: &[u8; 64], wanted: [u8; 3]) -> u64 {
    let mut hits = [0_u8; 64];
    for (hit, &byte) in hits.iter_mut().zip(block) {
        *hit = u8::from(byte == wanted[0]) | u8::from(byte == wanted[1]) | u8::from(byte == wanted[2]);
    }
    let mut mask = 0_u64;
    for (index, eight) in hits.chunks_exact(8).enumerate() {
        let mut word = 0_u64;
        for (shift, &hit) in eight.iter().enumerate() {
            word |= u64::from(hit) << (8 * shift);
        }
        mask |= (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * index);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn finds_every_mark_at_any_length() {
        for length in 0..200 {
            let text: Vec<u8> = (0..length).map(|i| b"ab,c\n\"d;"[(i * 7 + i / 9) % 8]).collect();
            let expected: Vec<usize> = (0..length).filter(|&i| b",\n\"".contains(&text[i])).collect();
            let mut marks = Marks::new(&text, [b',', b'\n', b'"']);
            let found: Vec<usize> = std::iter::from_fn(|| marks.next()).collect();
            assert_eq!(found, expected);
        }
    }
}
