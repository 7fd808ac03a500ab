//! Symbol columns of any Arrow string type, read as runs of equal values.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, DictionaryArray, GenericStringArray, OffsetSizeTrait, StringViewArray};
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::error::{Error, Result};

const LONGEST_STEP: usize = 512;
const UNSEEN: u32 = u32::MAX;
/// Rows read one by one before long runs are looked for again.
const SINGLES: usize = 256;

/// Symbols in order of first sight, each with a dense code.
#[derive(Debug, Clone, Default)]
pub struct SymbolTable {
    names: Vec<Box<str>>,
    codes: HashMap<Box<str>, u32, RandomState>,
}

impl SymbolTable {
    /// The code of a name, given at first sight.
    #[inline]
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(code) = self.codes.get(name) {
            return *code;
        }
        let code = self.names.len() as u32;
        self.names.push(name.into());
        self.codes.insert(name.into(), code);
        code
    }

    /// Forget all names but the first ones.
    pub fn truncate(&mut self, len: usize) {
        for name in self.names.drain(len..) {
            self.codes.remove(&name);
        }
    }

    /// All names, by code.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// All codes, in byte order of their names.
    pub fn codes_by_name(&self) -> Vec<u32> {
        let mut codes: Vec<u32> = (0..self.names.len() as u32).collect();
        codes.sort_unstable_by(|a, b| self.names[*a as usize].cmp(&self.names[*b as usize]));
        codes
    }
}

/// Neighbouring rows of one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The symbol's code.
    pub code: u32,
    /// Number of rows.
    pub len: u32,
}

/// Append the runs of a symbol column; neighbouring runs may share a symbol.
///
/// # Errors
/// [`Error::InvalidTick`] naming the row (counted from `first_row`) of a missing symbol; [`Error::Schema`] for a column that is not text.
pub fn append_runs(
    column: &ArrayRef,
    first_row: usize,
    table: &mut SymbolTable,
    runs: &mut Vec<Run>,
) -> Result<()> {
    if let Some(row) = first_null(column) {
        return Err(Error::InvalidTick(format!(
            "the symbol is missing in row {}; give every tick a symbol or validate first",
            first_row + row
        )));
    }
    match column.data_type() {
        DataType::Utf8 => text_runs(column.as_string::<i32>(), table, runs),
        DataType::LargeUtf8 => text_runs(column.as_string::<i64>(), table, runs),
        DataType::Utf8View => view_runs(column.as_string_view(), table, runs),
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => dictionary_runs(column.as_dictionary::<Int8Type>(), table, runs)?,
            DataType::Int16 => dictionary_runs(column.as_dictionary::<Int16Type>(), table, runs)?,
            DataType::Int32 => dictionary_runs(column.as_dictionary::<Int32Type>(), table, runs)?,
            DataType::Int64 => dictionary_runs(column.as_dictionary::<Int64Type>(), table, runs)?,
            DataType::UInt8 => dictionary_runs(column.as_dictionary::<UInt8Type>(), table, runs)?,
            DataType::UInt16 => dictionary_runs(column.as_dictionary::<UInt16Type>(), table, runs)?,
            DataType::UInt32 => dictionary_runs(column.as_dictionary::<UInt32Type>(), table, runs)?,
            DataType::UInt64 => dictionary_runs(column.as_dictionary::<UInt64Type>(), table, runs)?,
            other => return Err(not_text(other)),
        },
        other => return Err(not_text(other)),
    }
    Ok(())
}

/// The text of one row of any Arrow string column.
pub fn text_at(column: &ArrayRef, row: usize) -> Option<&str> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = dictionary.normalized_keys_at(row)?;
            text_at(dictionary.values(), key)
        }
        _ => None,
    }
}

trait KeyAt {
    fn normalized_keys_at(&self, row: usize) -> Option<usize>;
}

impl KeyAt for dyn arrow_array::array::AnyDictionaryArray + '_ {
    fn normalized_keys_at(&self, row: usize) -> Option<usize> {
        let keys = self.keys();
        macro_rules! key {
            ($($kind:ident => $native:ty),*) => {
                match keys.data_type() {
                    $(DataType::$kind => keys.as_primitive::<$native>().value(row).to_usize(),)*
                    _ => None,
                }
            };
        }
        key!(Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
             UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type)
    }
}

/// Whether a type is text in any of Arrow's forms.
pub fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn not_text(kind: &DataType) -> Error {
    Error::Schema(format!(
        "column symbol is {kind}; give text (utf8, large_utf8, utf8_view or a dictionary of them)"
    ))
}

fn first_null(column: &ArrayRef) -> Option<usize> {
    if column.is_nullable() {
        let nulls = column.logical_nulls()?;
        return (0..nulls.len()).find(|row| nulls.is_null(*row));
    }
    None
}

#[inline]
fn push(runs: &mut Vec<Run>, code: u32, mut len: usize) {
    while len > 0 {
        let part = len.min(u32::MAX as usize);
        runs.push(Run { code, len: part as u32 });
        len -= part;
    }
}

fn text_runs<O: OffsetSizeTrait>(
    column: &GenericStringArray<O>,
    table: &mut SymbolTable,
    runs: &mut Vec<Run>,
) {
    let offsets: &[O] = column.value_offsets();
    let bytes = column.value_data();
    let rows = column.len();
    let mut recent = Recent::new(rows);
    let mut start = 0;
    while start < rows {
        let first = offsets[start].as_usize();
        let width = offsets[start + 1].as_usize() - first;
        let code = match short_key(bytes, first, width) {
            Some(key) => recent.code(key, || table.intern(column.value(start))),
            None => table.intern(column.value(start)),
        };
        if runs.len() == runs.capacity() && start > LONGEST_STEP {
            runs.reserve((rows - start).min(2 * runs.len()));
        }
        let mut end = start + 1;
        let next = offsets.get(end + 1).map(|stop| (offsets[end].as_usize(), stop.as_usize()));
        let differs = |(from, to): (usize, usize)| {
            let key = short_key(bytes, first, width);
            key.is_some() && key != short_key(bytes, from, to - from)
        };
        if next.is_some_and(|(from, to)| to - from != width || differs((from, to))) {
            let mut is_mixed = true;
            while is_mixed && start < rows {
                let stop = (start + SINGLES).min(rows);
                if runs.capacity() - runs.len() < SINGLES {
                    runs.reserve(if start < LONGEST_STEP { SINGLES } else { rows - start });
                }
                let made = single_rows(column, start..stop, &mut recent, table, runs);
                is_mixed = made * 4 > stop - start;
                start = stop;
            }
            continue;
        }
        let mut step = 1;
        // Equal widths and a text that equals itself shifted by one width: a whole block of equal symbols.
        while end < rows && step > 0 {
            let stop = (end + step).min(rows);
            let from = offsets[end].as_usize();
            let to = offsets[stop].as_usize();
            let same = to - from == width * (stop - end)
                && equal_widths(&offsets[end..=stop], width)
                && bytes[from..to] == bytes[from - width..to - width];
            if same {
                end = stop;
                step = (step * 2).min(LONGEST_STEP);
            } else {
                step /= 2;
            }
        }
        push(runs, code, end - start);
        start = end;
    }
}

/// Append the runs of at most [`SINGLES`] rows without a guess at their length; gives their number.
#[inline]
fn single_rows<O: OffsetSizeTrait>(
    column: &GenericStringArray<O>,
    rows: Range<usize>,
    recent: &mut Recent,
    table: &mut SymbolTable,
    runs: &mut Vec<Run>,
) -> usize {
    let bytes = column.value_data();
    let offsets: &[O] = &column.value_offsets()[rows.start..=rows.end];
    let mut made = [Run { code: UNSEEN, len: 0 }; SINGLES + 1];
    let (mut at, mut last) = (0, made[0]);
    for (row, ends) in rows.zip(offsets.windows(2)) {
        let (first, stop) = (ends[0].as_usize(), ends[1].as_usize());
        let code = match short_key(bytes, first, stop - first) {
            Some(key) => recent.code(key, || table.intern(column.value(row))),
            None => table.intern(column.value(row)),
        };
        // No branch: whether a symbol repeats cannot be foretold.
        let same = code == last.code;
        last = Run { code, len: if same { last.len + 1 } else { 1 } };
        at += usize::from(!same);
        made[at] = last;
    }
    runs.extend_from_slice(&made[1..=at]);
    at
}

/// Bytes of a text of at most eight and its length, where eight can be read.
type ShortKey = (u64, u8);

#[inline]
fn short_key(bytes: &[u8], first: usize, width: usize) -> Option<ShortKey> {
    let word = bytes.get(first..first.checked_add(8)?)?.try_into().ok()?;
    let mask = match width {
        0 => 0,
        1..=8 => u64::MAX >> (64 - 8 * width),
        _ => return None,
    };
    Some((u64::from_le_bytes(word) & mask, width as u8))
}

/// Codes of short names seen lately, found without hashing their text.
struct Recent {
    slots: Vec<(u64, u8, u32)>,
}

impl Recent {
    const BITS: u32 = 14;
    const FEW_ROWS: usize = 1 << Self::BITS;

    fn new(rows: usize) -> Self {
        let slots = if rows < Self::FEW_ROWS { 0 } else { 1 << Self::BITS };
        Self { slots: vec![(0, 0, UNSEEN); slots] }
    }

    #[inline]
    fn code(&mut self, (word, width): ShortKey, intern: impl FnOnce() -> u32) -> u32 {
        // Both halves of the product: names that differ in a few digits only would meet in one of them.
        let product = u128::from(word ^ u64::from(width)) * 0x9E37_79B9_7F4A_7C15;
        let at = (((product >> 64) as u64 ^ product as u64) & ((1 << Self::BITS) - 1)) as usize;
        let Some(slot) = self.slots.get(at) else {
            return intern();
        };
        if (slot.0, slot.1) == (word, width) && slot.2 != UNSEEN {
            return slot.2;
        }
        let second = self.slots[at ^ 1];
        if (second.0, second.1) == (word, width) && second.2 != UNSEEN {
            return second.2;
        }
        self.slots[at ^ 1] = self.slots[at];
        self.slots[at] = (word, width, intern());
        self.slots[at].2
    }
}

#[inline]
fn equal_widths<O: OffsetSizeTrait>(offsets: &[O], width: usize) -> bool {
    let Some(width) = O::from_usize(width) else {
        return false;
    };
    let next = offsets.iter().skip(1);
    offsets.iter().zip(next).fold(true, |same, (a, b)| same & (*b - *a == width))
}

fn view_runs(column: &StringViewArray, table: &mut SymbolTable, runs: &mut Vec<Run>) {
    let views = column.views();
    let mut start = 0;
    while start < views.len() {
        let view = views[start];
        let name = column.value(start);
        let short = name.len() <= 12;
        let mut end = start + 1;
        while end < views.len() && (views[end] == view || (!short && column.value(end) == name)) {
            end += 1;
        }
        push(runs, table.intern(name), end - start);
        start = end;
    }
}

fn dictionary_runs<K: ArrowDictionaryKeyType>(
    column: &DictionaryArray<K>,
    table: &mut SymbolTable,
    runs: &mut Vec<Run>,
) -> Result<()> {
    if !is_text(column.values().data_type()) {
        return Err(not_text(column.values().data_type()));
    }
    let keys = column.keys().values();
    let mut codes = vec![UNSEEN; column.values().len()];
    let mut start = 0;
    while start < keys.len() {
        let key = keys[start];
        let index = key.as_usize();
        let mut end = start + 1;
        while end < keys.len() && keys[end] == key {
            end += 1;
        }
        if codes[index] == UNSEEN {
            codes[index] = table.intern(text_at(column.values(), index).unwrap_or_default());
        }
        push(runs, codes[index], end - start);
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::UInt8Type;
    use arrow_array::{LargeStringArray, StringArray};

    use super::*;

    fn rows(column: ArrayRef) -> Vec<String> {
        let (mut table, mut runs) = (SymbolTable::default(), Vec::new());
        append_runs(&column, 0, &mut table, &mut runs).unwrap();
        let name = |run: &Run| vec![table.names()[run.code as usize].to_string(); run.len as usize];
        runs.iter().flat_map(name).collect()
    }

    fn texts(seed: u64) -> Vec<String> {
        let mut state = seed;
        let mut texts = Vec::new();
        while texts.len() < 3000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = ["", "A", "B", "AA", "AB", "ABAB", "a symbol longer than twelve bytes"]
                [(state >> 33) as usize % 7];
            let times = if state >> 60 == 0 { 1500 } else { (state >> 40) as usize % 5 };
            texts.extend(std::iter::repeat_n(name.to_string(), times));
        }
        texts
    }

    #[test]
    fn every_string_type_gives_back_its_rows() {
        for seed in 0..20 {
            let texts = texts(seed);
            let array = StringArray::from(texts.clone());
            assert_eq!(rows(Arc::new(array.clone())), texts);
            assert_eq!(rows(Arc::new(array.slice(7, 1000))), texts[7..1007]);
            assert_eq!(rows(Arc::new(LargeStringArray::from(texts.clone()))), texts);
            assert_eq!(rows(Arc::new(StringViewArray::from_iter_values(&texts))), texts);
            let dictionary: DictionaryArray<UInt8Type> = texts.iter().map(String::as_str).collect();
            assert_eq!(rows(Arc::new(dictionary.slice(3, 50))), texts[3..53]);
        }
    }

    #[test]
    fn symbols_that_share_a_slot_keep_their_codes() {
        // Many more names than slots, with stretches that switch between short and long runs.
        let texts: Vec<String> = (0..120_000_u64)
            .map(|row| if row % 30_000 < 2_000 { row / 700 } else { row.wrapping_mul(0x9E37_79B9) % 40_000 })
            .map(|name| format!("S{name}"))
            .collect();
        assert_eq!(rows(Arc::new(StringArray::from(texts.clone()))), texts);
    }

    #[test]
    fn a_missing_symbol_names_its_row() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("A"), None]));
        let error = append_runs(&column, 10, &mut SymbolTable::default(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("row 11"), "{error}");
    }
}
