//! A text format made ready: each field with its reader.

use std::collections::HashMap;

use super::columns::{Columns, NUMBERS, Texts, Values};
use super::fault;
use super::number;
use super::spec::{FieldSpec, TextSpec};
use super::time::{Clock, Format};
use crate::error::{Error, Result};

/// What a field is read as.
pub(super) enum Target {
    Ignore,
    Symbol,
    Timestamp(Format),
    Date(Format),
    Number(NumberField),
    TickType(HashMap<Vec<u8>, i8>),
    Exchange,
    Conditions,
    Suspicious,
    Sequence,
}

pub(super) struct NumberField {
    column: usize,
    power: i32,
    float: bool,
    comma: bool,
    zero_is_absent: bool,
    empty_is_absent: bool,
}

impl Target {
    fn compile(field: &FieldSpec) -> Result<Self> {
        let format = || Format::named(field.format.as_deref().unwrap_or("iso"));
        if let Some(column) = NUMBERS.iter().position(|name| *name == field.target) {
            return Ok(Self::Number(NumberField {
                column,
                power: field.power,
                float: field.float,
                comma: field.comma,
                zero_is_absent: field.zero_is_absent,
                empty_is_absent: field.empty_is_absent,
            }));
        }
        Ok(match field.target.as_str() {
            "ignore" => Self::Ignore,
            "symbol" => Self::Symbol,
            "timestamp" => Self::Timestamp(format()?),
            "date" => Self::Date(format()?),
            "tick_type" => Self::TickType(
                field.codes.iter().map(|(text, code)| (text.clone().into_bytes(), *code)).collect(),
            ),
            "exchange" => Self::Exchange,
            "conditions" => Self::Conditions,
            "suspicious" => Self::Suspicious,
            "sequence" => Self::Sequence,
            other => return Err(Error::Argument(format!("text field {other:?} is no column of ticks"))),
        })
    }

    /// Whether a quoted text of this field may run over the end of a line.
    pub(super) fn may_hold_lines(&self) -> bool {
        matches!(self, Self::Ignore | Self::Conditions)
    }
}

/// The readers of one format and their clock. A date that stands in its own field is read before the time.
pub(super) struct Reader {
    pub(super) targets: Vec<Target>,
    order: Vec<usize>,
    clock: Clock,
    day_clock: Clock,
    /// The last date read from a field of its own.
    day: Option<i64>,
}

impl Reader {
    pub(super) fn compile<'a>(spec: &TextSpec, rows: usize) -> Result<(Self, Columns<'a>)> {
        let targets = spec.fields.iter().map(Target::compile).collect::<Result<Vec<_>>>()?;
        let mut columns = Columns::new(rows);
        let (mut times, mut seen) = (0, [false; 6]);
        for target in &targets {
            let again = match target {
                Target::Symbol => columns.symbol.replace(Texts::new(rows)).is_some(),
                Target::Number(number) => {
                    columns.numbers[number.column] = Some(Values::new(rows));
                    std::mem::replace(&mut seen[number.column], true)
                }
                Target::TickType(_) => columns.tick_type.replace(Values::new(rows)).is_some(),
                Target::Exchange => columns.exchange.replace(Texts::new(rows)).is_some(),
                Target::Conditions => columns.conditions.replace(Texts::new(rows)).is_some(),
                Target::Sequence => columns.sequence.replace(Values::new(rows)).is_some(),
                Target::Timestamp(_) => {
                    times += 1;
                    times > 1
                }
                Target::Ignore | Target::Date(_) | Target::Suspicious => false,
            };
            if again {
                return Err(Error::Argument("two text fields have the same column as their target".into()));
            }
        }
        if times != 1 {
            return Err(Error::Argument("one text field must be the timestamp".into()));
        }
        columns.constant_symbol.clone_from(&spec.symbol);
        let mut order: Vec<usize> =
            (0..targets.len()).filter(|&index| !matches!(targets[index], Target::Ignore)).collect();
        order.sort_by_key(|&index| !matches!(targets[index], Target::Date(_)));
        let reader = Self {
            targets,
            order,
            clock: Clock::new(spec.zone.as_deref(), spec.date.as_deref())?,
            day_clock: Clock::new(None, None)?,
            day: None,
        };
        Ok((reader, columns))
    }

    /// Whether a field may hold line ends, if texts may be quoted.
    pub(super) fn may_hold_lines(&self) -> bool {
        self.targets.iter().any(Target::may_hold_lines)
    }

    /// Read the rows of a block into the columns, one field of all of them after the other, and empty it.
    pub(super) fn read<'a>(&mut self, block: &mut Block<'a>, columns: &mut Columns<'a>) {
        let rows = block.offsets.len();
        let mut faults = [0; BLOCK];
        let faults = &mut faults[..rows];
        for &index in &self.order {
            let cells = &block.cells[index][..rows];
            let texts = cells.iter().map(|cell| cell.text).zip(&mut *faults);
            match &self.targets[index] {
                Target::Symbol => {
                    for (cell, faults) in cells.iter().zip(&mut *faults) {
                        if !push_text(&mut columns.symbol, *cell) {
                            *faults |= fault::SYMBOL_MISSING;
                        }
                    }
                }
                Target::Timestamp(format) => {
                    for (row, (text, faults)) in texts.enumerate() {
                        if let Some(Some(day)) = block.days.get(row) {
                            self.clock.set_date(*day);
                        }
                        match self.clock.read(text, format) {
                            Ok(ns) => columns.timestamp.push(ns),
                            Err(bits) => {
                                columns.timestamp.push_absent();
                                *faults |= bits;
                            }
                        }
                    }
                }
                Target::Number(field) => {
                    if let Some(column) = &mut columns.numbers[field.column] {
                        texts.for_each(|(text, faults)| *faults |= push_number(field, text, column));
                    }
                }
                Target::Date(format) => {
                    // A date that cannot be read leaves the one before; its row is refused.
                    block.days.clear();
                    for (text, faults) in texts {
                        match self.day_clock.read(text, format) {
                            Ok(ns) => self.day = Some(ns.div_euclid(super::time::NS_PER_DAY)),
                            Err(bits) => *faults |= bits,
                        }
                        block.days.push(self.day);
                    }
                }
                Target::TickType(codes) => {
                    if let Some(column) = &mut columns.tick_type {
                        for (text, faults) in texts {
                            match codes.get(text) {
                                Some(&code) => column.push(code),
                                None => {
                                    column.push_absent();
                                    *faults |= fault::TICK_TYPE_UNKNOWN;
                                }
                            }
                        }
                    }
                }
                Target::Exchange => cells.iter().for_each(|cell| {
                    push_text(&mut columns.exchange, *cell);
                }),
                Target::Conditions => cells.iter().for_each(|cell| {
                    push_text(&mut columns.conditions, *cell);
                }),
                Target::Suspicious => texts.filter(|(text, _)| *text == b"1").for_each(|(_, faults)| {
                    *faults |= fault::SUSPICIOUS;
                }),
                Target::Sequence => {
                    if let Some(column) = &mut columns.sequence {
                        for (text, faults) in texts {
                            match number::integer(text) {
                                Some(value) => column.push(value),
                                None => {
                                    column.push_absent();
                                    *faults |= fault::NOT_A_NUMBER;
                                }
                            }
                        }
                    }
                }
                Target::Ignore => {}
            }
        }
        for (offset, faults) in block.offsets.drain(..).zip(faults) {
            columns.end_row(offset, *faults);
        }
    }
}

/// Rows found and not read yet.
pub(super) struct Block<'a> {
    cells: Vec<[Cell<'a>; BLOCK]>,
    offsets: Vec<u32>,
    /// Of each row, where a field holds it.
    days: Vec<Option<i64>>,
}

/// Few enough that their cells stay in the nearest cache.
const BLOCK: usize = 128;

impl<'a> Block<'a> {
    pub(super) fn new(fields: usize) -> Self {
        Self {
            cells: vec![[Cell::default(); BLOCK]; fields],
            offsets: Vec::with_capacity(BLOCK),
            days: Vec::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.offsets.len() == BLOCK
    }

    #[inline(always)]
    pub(super) fn push(&mut self, cells: &[Cell<'a>], offset: u32) {
        let row = self.offsets.len();
        for (column, cell) in self.cells.iter_mut().zip(cells) {
            column[row] = *cell;
        }
        self.offsets.push(offset);
    }
}

/// The text of one field.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell<'a> {
    pub(super) text: &'a [u8],
    pub(super) quoted: bool,
    /// A quote within is written twice.
    pub(super) doubled: Option<u8>,
}

#[inline(always)]
fn push_text<'a>(column: &mut Option<Texts<'a>>, cell: Cell<'a>) -> bool {
    let Some(column) = column else { return true };
    match cell.doubled {
        // Padding around a text is no part of it; within quotes it is.
        None => column.push(if cell.quoted { cell.text } else { cell.text.trim_ascii() }),
        Some(quote) => {
            let mut text = Vec::with_capacity(cell.text.len());
            let mut skip = false;
            for &byte in cell.text {
                skip = byte == quote && !skip;
                if !skip {
                    text.push(byte);
                }
            }
            column.push_owned(text)
        }
    }
}

#[inline(always)]
fn push_number(field: &NumberField, text: &[u8], column: &mut Values<i128>) -> u32 {
    if text.is_empty() && field.empty_is_absent {
        column.push_absent();
        return 0;
    }
    let read = if field.comma {
        number::parse_comma(text, field.power, field.float)
    } else {
        number::parse(text, field.power, field.float)
    };
    match read {
        Ok((0, _)) if field.zero_is_absent => {
            column.push_absent();
            0
        }
        Ok((value, faults)) => {
            column.push(i128::from(value));
            faults
        }
        Err(faults) => {
            column.push_absent();
            faults
        }
    }
}
