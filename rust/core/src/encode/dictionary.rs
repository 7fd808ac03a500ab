//! The distinct values of a column chunk, in order of first sight.

/// A value that a dictionary finds by its bits.
pub(super) trait Word: Copy + Eq {
    fn bits(self) -> u64;
}

impl Word for i64 {
    #[inline]
    fn bits(self) -> u64 {
        self as u64
    }
}

impl Word for i128 {
    #[inline]
    fn bits(self) -> u64 {
        self as u64 ^ (self >> 64) as u64
    }
}

/// The distinct values, and the index among them of each value.
pub(super) fn index<T: Word>(values: &[T]) -> (Vec<T>, Vec<u32>) {
    let mut table = Table { slots: vec![0; 1 << 10], shift: u64::BITS - 10, entries: Vec::new() };
    let indices = values.iter().map(|value| table.find(*value)).collect();
    (table.entries, indices)
}

/// Open addressing, at most half full; a slot holds an index plus one.
struct Table<T> {
    slots: Vec<u32>,
    shift: u32,
    entries: Vec<T>,
}

impl<T: Word> Table<T> {
    #[inline]
    fn slot(&self, value: T) -> usize {
        (value.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    #[inline]
    fn find(&mut self, value: T) -> u32 {
        let mut slot = self.slot(value);
        while let Some(index) = self.slots[slot].checked_sub(1) {
            if self.entries[index as usize] == value {
                return index;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.insert(slot, value)
    }

    fn insert(&mut self, slot: usize, value: T) -> u32 {
        self.entries.push(value);
        self.slots[slot] = self.entries.len() as u32;
        if self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
        self.entries.len() as u32 - 1
    }

    fn grow(&mut self) {
        self.shift -= 2;
        self.slots = vec![0; self.slots.len() * 4];
        for index in 0..self.entries.len() {
            let mut slot = self.slot(self.entries[index]);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = index as u32 + 1;
        }
    }
}
