//! The columns that a parser fills, row by row.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use arrow_schema::{DataType, Field, Schema};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::schema;

/// A column of values with the rows that have none.
pub(super) struct Values<T> {
    values: Vec<T>,
    absent: Vec<u32>,
}

impl<T: Default> Values<T> {
    pub(super) fn new(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), absent: Vec::new() }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
    }

    #[inline]
    pub(super) fn push_absent(&mut self) {
        self.absent.push(self.values.len() as u32);
        self.values.push(T::default());
    }

    fn finish(self) -> (Vec<T>, Option<NullBuffer>) {
        let nulls = (!self.absent.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(self.values.len());
            valid.append_n(self.values.len(), true);
            for row in self.absent {
                valid.set_bit(row as usize, false);
            }
            NullBuffer::new(valid.finish())
        });
        (self.values, nulls)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// A column of text that repeats; a row is first compared with the one before it.
pub(super) struct Texts<'a> {
    keys: Values<i32>,
    codes: HashMap<Cow<'a, [u8]>, i32, RandomState>,
    names: Vec<String>,
    last: &'a [u8],
    last_code: i32,
}

impl<'a> Texts<'a> {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            keys: Values::new(rows),
            codes: HashMap::default(),
            names: Vec::new(),
            last: &[],
            last_code: 0,
        }
    }

    /// Append a text; an empty one is absent, and said to be so.
    #[inline]
    pub(super) fn push(&mut self, text: &'a [u8]) -> bool {
        if text.is_empty() {
            self.keys.push_absent();
            return false;
        }
        if text != self.last {
            self.last_code = self.code(Cow::Borrowed(text));
            self.last = text;
        }
        self.keys.push(self.last_code);
        true
    }

    pub(super) fn push_owned(&mut self, text: Vec<u8>) -> bool {
        if text.is_empty() {
            self.keys.push_absent();
            return false;
        }
        let code = self.code(Cow::Owned(text));
        self.keys.push(code);
        true
    }

    fn code(&mut self, text: Cow<'a, [u8]>) -> i32 {
        if let Some(&code) = self.codes.get(&*text) {
            return code;
        }
        let code = self.names.len() as i32;
        self.names.push(String::from_utf8_lossy(&text).into_owned());
        self.codes.insert(text, code);
        code
    }

    fn finish(self) -> Result<ArrayRef> {
        let (keys, nulls) = self.keys.finish();
        dictionary(Int32Array::new(keys.into(), nulls), self.names)
    }
}

fn dictionary(keys: Int32Array, names: Vec<String>) -> Result<ArrayRef> {
    let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(StringArray::from(names)))
        .map_err(|error| Error::Schema(error.to_string()))?;
    Ok(Arc::new(array))
}

/// Names of the number columns, by index.
pub(super) const NUMBERS: [&str; 6] = ["price", "volume", "bid", "ask", "bid_size", "ask_size"];

/// All columns a format may have; those it has not stay none.
pub(super) struct Columns<'a> {
    pub(super) symbol: Option<Texts<'a>>,
    pub(super) constant_symbol: Option<String>,
    pub(super) timestamp: Values<i64>,
    pub(super) sequence: Option<Values<i64>>,
    pub(super) tick_type: Option<Values<i8>>,
    pub(super) numbers: [Option<Values<i128>>; 6],
    pub(super) exchange: Option<Texts<'a>>,
    pub(super) conditions: Option<Texts<'a>>,
    pub(super) offsets: Vec<u32>,
    /// Of the rows up to the last that has one; empty where none has.
    pub(super) faults: Vec<u32>,
}

impl Columns<'_> {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            symbol: None,
            constant_symbol: None,
            timestamp: Values::new(rows),
            sequence: None,
            tick_type: None,
            numbers: [const { None }; 6],
            exchange: None,
            conditions: None,
            offsets: Vec::with_capacity(rows),
            faults: Vec::new(),
        }
    }

    #[inline(always)]
    pub(super) fn end_row(&mut self, offset: u32, faults: u32) {
        if faults != 0 {
            self.faults.resize(self.offsets.len(), 0);
            self.faults.push(faults);
        }
        self.offsets.push(offset);
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch> {
        let rows = self.timestamp.len();
        let mut out: Vec<(Field, ArrayRef)> = Vec::new();
        let mut add = |name: &str, kind: DataType, array: ArrayRef| {
            out.push((Field::new(name, kind, true), array));
        };
        if let Some(name) = self.constant_symbol {
            let keys = Int32Array::from(vec![0; rows]);
            add("symbol", schema::text(), dictionary(keys, vec![name])?);
        } else if let Some(column) = self.symbol {
            add("symbol", schema::text(), column.finish()?);
        }
        let (values, nulls) = self.timestamp.finish();
        let times = TimestampNanosecondArray::new(values.into(), nulls).with_timezone("UTC");
        add("timestamp_utc", schema::instant(), Arc::new(times));
        if let Some(column) = self.sequence {
            let (values, nulls) = column.finish();
            add("sequence", DataType::Int64, Arc::new(Int64Array::new(values.into(), nulls)));
        }
        if let Some(column) = self.tick_type {
            let (values, nulls) = column.finish();
            add("tick_type", DataType::Int8, Arc::new(Int8Array::new(values.into(), nulls)));
        }
        for (name, column) in NUMBERS.into_iter().zip(self.numbers) {
            if let Some(column) = column {
                let (values, nulls) = column.finish();
                let array = Decimal128Array::new(values.into(), nulls).with_data_type(schema::fixed());
                add(name, schema::fixed(), Arc::new(array));
            }
        }
        if let Some(column) = self.exchange {
            add("exchange", schema::text(), column.finish()?);
        }
        if let Some(column) = self.conditions {
            add("conditions", schema::text(), column.finish()?);
        }
        if !self.faults.is_empty() {
            self.faults.resize(rows, 0);
            add("faults", DataType::UInt32, Arc::new(UInt32Array::from(self.faults)));
        }
        add("offset", DataType::UInt32, Arc::new(UInt32Array::from(self.offsets)));
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = out.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| Error::Schema(error.to_string()))
    }
}
