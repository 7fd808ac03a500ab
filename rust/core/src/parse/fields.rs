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
        };
        Ok((reader, columns))
    }

    /// Read the fields of a row into the columns.
    #[inline(always)]
    pub(super) fn row<'a>(&mut self, cells: &[Cell<'a>], offset: u32, columns: &mut Columns<'a>) {
        let mut faults = 0;
        for &index in &self.order {
            let cell = cells[index];
            let text = cell.text;
            match &self.targets[index] {
                Target::Symbol => {
                    if !push_text(&mut columns.symbol, cell) {
                        faults |= fault::SYMBOL_MISSING;
                    }
                }
                Target::Timestamp(format) => match self.clock.read(text, format) {
                    Ok(ns) => columns.timestamp.push(ns),
                    Err(bits) => {
                        columns.timestamp.push_absent();
                        faults |= bits;
                    }
                },
                Target::Number(field) => faults |= push_number(field, text, columns),
                Target::Date(format) => match self.day_clock.read(text, format) {
                    Ok(ns) => self.clock.set_date(ns.div_euclid(super::time::NS_PER_DAY)),
                    Err(bits) => faults |= bits,
                },
                Target::TickType(codes) => {
                    let code = codes.get(text);
                    match (&mut columns.tick_type, code) {
                        (Some(column), Some(&code)) => column.push(code),
                        (Some(column), None) => {
                            column.push_absent();
                            faults |= fault::TICK_TYPE_UNKNOWN;
                        }
                        (None, _) => {}
                    }
                }
                Target::Exchange => {
                    push_text(&mut columns.exchange, cell);
                }
                Target::Conditions => {
                    push_text(&mut columns.conditions, cell);
                }
                Target::Suspicious => {
                    if text == b"1" {
                        faults |= fault::SUSPICIOUS;
                    }
                }
                Target::Sequence => {
                    if let Some(column) = &mut columns.sequence {
                        match number::integer(text) {
                            Some(value) => column.push(value),
                            None => {
                                column.push_absent();
                                faults |= fault::NOT_A_NUMBER;
                            }
                        }
                    }
                }
                Target::Ignore => {}
            }
        }
        columns.end_row(offset, faults);
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
fn push_number(field: &NumberField, text: &[u8], columns: &mut Columns<'_>) -> u32 {
    let Some(column) = &mut columns.numbers[field.column] else { return 0 };
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
