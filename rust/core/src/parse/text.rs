//! Delimited text, row by row.

use memchr::{memchr, memchr_iter, memrchr};

use super::Parsed;
use super::columns::Columns;
use super::fields::{Block, Cell, Reader};
use super::scan::Marks;
use super::spec::TextSpec;
use crate::error::{Error, Result};

/// A row longer than this has lost its end: most often to a quote that is never closed.
const MAX_ROW_BYTES: usize = 1 << 20;
/// Offsets of rows are 32-bit.
const MAX_CHUNK_BYTES: usize = 1 << 30;

/// Parse the complete rows of a chunk.
///
/// `last` says that no bytes follow, so that a row without a line end is complete. `first_line` is the line number
/// of the chunk's first byte, for messages. Blank lines are no rows.
///
/// # Errors
/// `Structure` for a wrong number of fields, broken quotes, NUL bytes and bytes that are not UTF-8;
/// `Argument` for a format that makes no sense.
pub fn parse_text(chunk: &[u8], spec: &TextSpec, last: bool, first_line: u64) -> Result<Parsed> {
    if chunk.len() > MAX_CHUNK_BYTES {
        return Err(Error::Argument("a chunk of text is at most 1 GiB".into()));
    }
    let separator = one_byte("separator", spec.separator)?;
    let quote = spec.quote.map(|quote| one_byte("quote", quote)).transpose()?;
    let end = if last { chunk.len() } else { memrchr(b'\n', chunk).map_or(0, |at| at + 1) };
    let text = Text { bytes: &chunk[..end], first_line, separator, quote };
    let mut marks = Marks::new(text.bytes, [separator, b'\n', quote.unwrap_or(b'\n')]);
    let parsed = text.rows(spec, &mut marks, last);
    if parsed.is_err() || !marks.are_plain() {
        text.check_bytes()?;
    }
    let (columns, start, lines) = parsed?;
    if chunk.len() - start > MAX_ROW_BYTES && start < end.max(1) {
        return Err(text.error(start, 0, "a row longer than 1 MiB"));
    }
    Ok(Parsed { batch: columns.finish()?, consumed: start, lines, skipped: 0 })
}

/// About how many rows a text has, and not many more: memory that is asked for may be filled with zeros whole.
fn rows_of(text: &[u8]) -> usize {
    let head = &text[..text.len().min(1 << 16)];
    let lines = memchr_iter(b'\n', head).count() + 1;
    let rows = lines as u64 * text.len() as u64 / head.len().max(1) as u64;
    (rows + rows / 32) as usize + 1
}

/// Where the last row ends that surely ends in `data`, whose first row begins in `tail`; 0 where none does.
pub fn row_end(tail: &[u8], data: &[u8], quote: Option<u8>) -> usize {
    let end = memrchr(b'\n', data).map_or(0, |at| at + 1);
    // Quotes come in pairs, doubled ones too, so an odd one before a line's end is open there.
    let count = |quote, text: &[u8]| memchr_iter(quote, text).count();
    let is_open = quote.is_some_and(|quote| (count(quote, tail) + count(quote, &data[..end])) % 2 == 1);
    if is_open { 0 } else { end }
}

fn one_byte(what: &str, letter: char) -> Result<u8> {
    u8::try_from(letter)
        .ok()
        .filter(|byte| byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0))
        .ok_or_else(|| Error::Argument(format!("{what} {letter:?} is not one ASCII character")))
}

struct Text<'a> {
    bytes: &'a [u8],
    first_line: u64,
    separator: u8,
    quote: Option<u8>,
}

impl<'a> Text<'a> {
    #[cold]
    fn error(&self, at: usize, column: usize, message: impl Into<String>) -> Error {
        Error::Structure {
            message: message.into(),
            line: self.first_line + memchr_iter(b'\n', &self.bytes[..at]).count() as u64,
            column: column as u64,
        }
    }

    /// Bytes before `at` on its line that are separators, plus one.
    fn column_at(&self, at: usize) -> usize {
        let line = memrchr(b'\n', &self.bytes[..at]).map_or(0, |end| end + 1);
        memchr_iter(self.separator, &self.bytes[line..at]).count() + 1
    }

    /// All complete rows: their columns, where they end, and the lines up to there.
    fn rows(&self, spec: &TextSpec, marks: &mut Marks<'a>, last: bool) -> Result<(Columns<'a>, usize, u64)> {
        let (mut reader, mut columns) = Reader::compile(spec, rows_of(self.bytes))?;
        let fields = reader.targets.len();
        let mut block = Block::new(fields);
        let mut cells = vec![Cell::default(); fields];
        let (mut start, mut lines) = (0, 0);
        while start < self.bytes.len() {
            let Some((next, count)) = self.row(start, marks, &reader, &mut cells, last)? else { break };
            if count > 0 {
                block.push(&cells, start as u32);
                if block.is_full() {
                    reader.read(&mut block, &mut columns);
                }
            }
            lines += 1;
            start = next;
        }
        reader.read(&mut block, &mut columns);
        // Blank lines and rows end one line each, unless a quoted text holds more of them.
        if reader.may_hold_lines() || !self.bytes[..start].ends_with(b"\n") {
            lines = memchr_iter(b'\n', &self.bytes[..start]).count() as u64;
        }
        Ok((columns, start, lines))
    }

    fn check_bytes(&self) -> Result<()> {
        if let Some(at) = memchr(0, self.bytes) {
            return Err(self.error(
                at,
                self.column_at(at),
                "a NUL byte; is this text, and is encoding= right?",
            ));
        }
        if let Err(error) = std::str::from_utf8(self.bytes) {
            let at = error.valid_up_to();
            let message = format!(
                "byte 0x{:02x} is not UTF-8; name the text's encoding with encoding=",
                self.bytes[at]
            );
            return Err(self.error(at, self.column_at(at), message));
        }
        Ok(())
    }

    /// Find the cells of the row at `start`: where the next row starts and how many cells there are (0 on a blank line).
    #[inline(always)]
    fn row(
        &self,
        start: usize,
        marks: &mut Marks<'a>,
        reader: &Reader,
        cells: &mut [Cell<'a>],
        last: bool,
    ) -> Result<Option<(usize, usize)>> {
        let bytes = self.bytes;
        let (mut at, mut count) = (start, 0);
        loop {
            let mut cell_end = marks.next().unwrap_or(bytes.len());
            let mut doubled = None;
            let quoted = cell_end < bytes.len() && Some(bytes[cell_end]) == self.quote;
            let mut cell_start = at;
            let mut after = cell_end;
            if quoted {
                if cell_end != at {
                    return Err(self.error(
                        at,
                        count + 1,
                        "a quote inside a field that does not begin with one",
                    ));
                }
                let Some(closed) = self.close_quote(at, marks, last, count, reader)? else { return Ok(None) };
                cell_start = at + 1;
                (cell_end, after, doubled) = closed;
            }
            let row_ends = after >= bytes.len() || bytes[after] == b'\n';
            if row_ends {
                if after >= bytes.len() && !last {
                    return Ok(None);
                }
                if !quoted && cell_end > cell_start && bytes[cell_end - 1] == b'\r' {
                    cell_end -= 1;
                }
                if count == 0 && !quoted && cell_end == cell_start {
                    return Ok(Some(((after + 1).min(bytes.len()), 0)));
                }
            }
            if let Some(cell) = cells.get_mut(count) {
                *cell = Cell { text: &bytes[cell_start..cell_end], quoted, doubled };
            }
            count += 1;
            if row_ends {
                if count != cells.len() {
                    if count == 1 && !quoted && bytes[start..cell_end].iter().all(|&byte| byte == b' ') {
                        return Ok(Some(((after + 1).min(bytes.len()), 0)));
                    }
                    return Err(self.wrong_count(start, count, cells.len()));
                }
                return Ok(Some(((after + 1).min(bytes.len()), count)));
            }
            at = after + 1;
        }
    }

    #[cold]
    fn wrong_count(&self, start: usize, count: usize, expected: usize) -> Error {
        let line =
            &self.bytes[start..memchr(b'\n', &self.bytes[start..]).map_or(self.bytes.len(), |at| start + at)];
        if line.iter().rev().skip(1).any(|&byte| byte == b'\r') {
            return self.error(
                start,
                0,
                "lines are ended by carriage returns alone; convert them to line feeds",
            );
        }
        let message = format!("{count} fields where {expected} are expected; check separator= and columns=");
        self.error(start, count.min(expected + 1), message)
    }

    /// Pass a quoted cell that opened at `open`: where its text ends, where the byte after the quote is, and whether quotes are doubled within.
    #[inline]
    fn close_quote(
        &self,
        open: usize,
        marks: &mut Marks<'a>,
        last: bool,
        count: usize,
        reader: &Reader,
    ) -> Result<Option<(usize, usize, Option<u8>)>> {
        let mut doubled = None;
        let single_line = !reader.targets.get(count).is_some_and(super::fields::Target::may_hold_lines);
        while let Some(at) = marks.next() {
            if at - open > MAX_ROW_BYTES {
                return Err(self.unclosed(open, count));
            }
            if self.bytes[at] == b'\n' && single_line {
                return Err(self.error(open, count + 1, "a quote opens here and is not closed on its line"));
            }
            if Some(self.bytes[at]) != self.quote {
                continue;
            }
            let mut next = marks.peek();
            if next == Some(at + 1) && self.bytes.get(at + 1).copied() == self.quote {
                marks.next();
                doubled = self.quote;
                continue;
            }
            if next.is_none() && !last {
                return Ok(None);
            }
            let mut after = at + 1;
            if self.bytes.get(after) == Some(&b'\r')
                && matches!(self.bytes.get(after + 1), None | Some(b'\n'))
            {
                after += 1;
            }
            if after >= self.bytes.len() {
                return Ok(Some((at, after, doubled)));
            }
            if next == Some(after) && Some(self.bytes[after]) != self.quote {
                next = marks.next();
                return Ok(Some((at, next.unwrap_or(after), doubled)));
            }
            return Err(self.error(
                open,
                count + 1,
                "a quote opens here and is followed by text after its end",
            ));
        }
        if last || self.bytes.len() - open > MAX_ROW_BYTES {
            return Err(self.unclosed(open, count));
        }
        Ok(None)
    }

    #[cold]
    fn unclosed(&self, open: usize, count: usize) -> Error {
        self.error(open, count + 1, "a quote opens here and is never closed")
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
