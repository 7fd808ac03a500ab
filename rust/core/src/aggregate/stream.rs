//! Bars of ticks that arrive batch by batch.

use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take_record_batch;

use super::BarOptions;
use super::bars::BarColumns;
use super::gather::{Gathered, Wanted, tie};
use super::input::{Input, take_columns};
use super::kernel::{Bar, Carry, Sink, Stop, fold};
use super::stop_error;
use crate::error::{Error, Result};
use crate::symbols::SymbolTable;

/// Order of a tick within its symbol: instant in ns, sequence, then the values that break ties.
pub(crate) type Key = (i64, i64, [i64; 6]);

/// A running bar; the keys of its open and close where ticks feed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) bar: Bar,
    pub(crate) open: Key,
    pub(crate) close: Key,
}

/// What is running for one symbol, by level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SymbolState {
    /// Ticks before this instant (ns) belong to completed bars.
    pub(crate) floor_ns: i64,
    pub(crate) levels: Vec<Option<Running>>,
}

/// Makes the bars of [`super::aggregate_bars`] from ticks that arrive batch by batch.
#[derive(Debug, Clone)]
pub struct BarAggregator {
    pub(crate) options: BarOptions,
    pub(crate) symbols: SymbolTable,
    pub(crate) states: Vec<SymbolState>,
    /// Stands in for a missing sequence.
    pub(crate) next_ordinal: i64,
    pub(crate) has_sequence: Option<bool>,
    pub(crate) late_rows: u64,
    late: Vec<RecordBatch>,
    late_schema: Option<SchemaRef>,
}

/// Completed bars by level, each with its symbol's code: symbols in byte order, their bars in order of time.
type Done = Vec<Vec<(u32, Bar)>>;

const NO_KEY: Key = (0, 0, [0; 6]);

impl BarAggregator {
    /// An aggregator that has seen no tick.
    pub fn new(options: BarOptions) -> Self {
        Self {
            options,
            symbols: SymbolTable::default(),
            states: Vec::new(),
            next_ordinal: 0,
            has_sequence: None,
            late_rows: 0,
            late: Vec::new(),
            late_schema: None,
        }
    }

    /// Number of late rows seen so far, taken or not.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// Whether late rows wait to be taken.
    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Hand over the rows that came after their bar was completed, as they were given.
    pub fn take_late(&mut self) -> (Option<SchemaRef>, Vec<RecordBatch>) {
        (self.late_schema.clone(), std::mem::take(&mut self.late))
    }

    /// Add ticks; gives the bars they complete. On an error nothing was added.
    ///
    /// # Errors
    /// As [`super::aggregate_bars`]; [`Error::Schema`] also where the columns differ from those of earlier batches.
    pub fn update(&mut self, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let known = self.symbols.names().len();
        self.add(schema, batches).inspect_err(|_| self.symbols.truncate(known))
    }

    fn add(&mut self, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
        if self.late_schema.as_ref().is_some_and(|known| known != schema) {
            return Err(Error::Schema(
                "the columns differ from those of earlier batches; cast them alike".into(),
            ));
        }
        let taken = take_columns(batches, 0)?;
        let spec = self.options.spec.clone();
        let input = Input::new(&taken, self.options.basis, &spec)?;
        let has_sequence = schema.column_with_name("sequence").is_some();
        if self.has_sequence.is_some_and(|known| known != has_sequence) {
            return Err(Error::Schema(
                "the column sequence is there in some batches only; give it in all or none".into(),
            ));
        }
        let mut gathered = Gathered::new(&input, input.is_plain(), Wanted { only: None, origin: true })?;
        let mut step = Step {
            done: self.nothing_done(),
            late: vec![Vec::new(); batches.len()],
            states: Vec::new(),
            made: Made::default(),
        };
        let own: Vec<u32> = input.symbols.names().iter().map(|name| self.symbols.intern(name)).collect();
        for code in input.symbols.codes_by_name() {
            self.symbol(&input, &mut gathered, (code, own[code as usize]), &mut step)?;
        }
        let late = step.take_late(batches)?;
        let bars = table(&self.options, &self.symbols, &step.done)?;
        self.states.resize(self.symbols.names().len(), self.unseen());
        for (code, state) in step.states {
            self.states[code as usize] = state;
        }
        self.late_rows += late.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        self.late.extend(late);
        self.late_schema = Some(schema.clone());
        self.has_sequence = Some(has_sequence);
        self.next_ordinal += input.rows as i64;
        Ok(bars)
    }

    /// The running bars as they stand, oldest levels of detail included.
    ///
    /// # Errors
    /// [`Error::Overflow`] naming the bar.
    pub fn peek(&self) -> Result<RecordBatch> {
        let mut done = self.nothing_done();
        for code in self.symbols.codes_by_name() {
            let Some(state) = self.states.get(code as usize) else {
                continue;
            };
            let mut running: Vec<Option<Bar>> =
                state.levels.iter().map(|level| level.map(|r| r.bar)).collect();
            for (at, level) in self.options.plan.levels().iter().enumerate() {
                if let Some(finer) = level.parent.and_then(|parent| running[parent]) {
                    let merged = merged(running[at], &finer, level.timeframe.ns());
                    let name = &self.symbols.names()[code as usize];
                    running[at] = Some(merged.map_err(|stop| stop_error(stop, level.timeframe, name, 0))?);
                }
                if let Some(bar) = running[at] {
                    done[at].push((code, bar));
                }
            }
        }
        table(&self.options, &self.symbols, &done)
    }

    /// Complete and give the running bars; later ticks of their buckets are late.
    ///
    /// # Errors
    /// [`Error::Overflow`] naming the bar.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let bars = self.peek()?;
        for state in &mut self.states {
            for level in self.options.plan.levels() {
                if let Some(fed) = &state.levels[level.root] {
                    let start = level.timeframe.floor(fed.bar.start);
                    state.floor_ns = state.floor_ns.max(start.saturating_add(level.timeframe.ns()));
                }
            }
            state.levels.fill(None);
        }
        Ok(bars)
    }

    fn nothing_done(&self) -> Done {
        vec![Vec::new(); self.options.plan.levels().len()]
    }

    fn unseen(&self) -> SymbolState {
        SymbolState { floor_ns: i64::MIN, levels: vec![None; self.options.plan.levels().len()] }
    }

    /// Take one symbol's ticks, known by its code in the input and our own.
    fn symbol(
        &self,
        input: &Input<'_>,
        gathered: &mut Gathered,
        (code, own): (u32, u32),
        step: &mut Step,
    ) -> Result<()> {
        let mut slots = gathered.range(code);
        if slots.is_empty() {
            return Ok(());
        }
        if !gathered.is_ordered(slots.clone()) {
            gathered.sort(input, slots.clone());
        }
        let levels = self.options.plan.levels();
        let mut state = self.states.get(own as usize).cloned().unwrap_or_else(|| self.unseen());
        let first_on_time = gathered.timestamp[slots.clone()]
            .partition_point(|t| i128::from(*t) * i128::from(input.unit_ns) < i128::from(state.floor_ns));
        for slot in slots.start..slots.start + first_on_time {
            step.late_row(gathered.origin[slot]);
        }
        slots.start += first_on_time;
        let fail = |stop, at: usize| {
            let row = match stop {
                Stop::Instant(index) | Stop::Bucket(index) => {
                    input.row_at(gathered.timestamp[slots.start + index])
                }
                _ => 0,
            };
            stop_error(stop, levels[at].timeframe, &input.symbols.names()[code as usize], row)
        };
        for at in (0..levels.len()).filter(|at| levels[*at].parent.is_none()) {
            let mut carry = Carry::default();
            let made = &mut step.made;
            made.clear();
            let ticks = gathered.ticks(slots.clone());
            fold(ticks, levels[at].timeframe.ns(), &mut carry, made).map_err(|stop| fail(stop, at))?;
            made.bars.extend(carry.bar);
            let fresh = |number: usize| {
                let (from, to) = made.rows[number];
                let key = |slot: usize| self.key(input, gathered, slots.start + slot);
                let of_price =
                    |slot: &usize| ticks.parts.is_none_or(|p| p[*slot] & super::eligibility::PRICE != 0);
                let open = (from..to).find(of_price).unwrap_or(from);
                let close = (from..to).rev().find(of_price).unwrap_or(from);
                Running { bar: made.bars[number], open: key(open), close: key(close) }
            };
            let mut advance = || {
                let Some(last) = made.bars.len().checked_sub(1) else {
                    return Ok(());
                };
                self.advance(&mut state, own, at, fresh(0), &mut step.done)?;
                if last > 0 {
                    self.complete(&mut state, own, at, &mut step.done)?;
                    // Nothing can be merged into the bars between the first and the last of a batch.
                    for bar in &made.bars[1..last] {
                        step.done[at].push((own, *bar));
                        self.cascade(&mut state, at, bar, &mut step.done, own)?;
                    }
                    state.levels[at] = Some(fresh(last));
                }
                self.close_ended(&mut state, own, at, &mut step.done)
            };
            advance().map_err(|stop| fail(stop, at))?;
        }
        let start = |(level, running): (&super::plan::Level, &Option<Running>)| {
            running.filter(|_| level.parent.is_none()).map(|running| running.bar.start)
        };
        state.floor_ns = levels.iter().zip(&state.levels).filter_map(start).fold(state.floor_ns, i64::max);
        step.states.push((own, state));
        Ok(())
    }

    fn key(&self, input: &Input<'_>, gathered: &Gathered, slot: usize) -> Key {
        let timestamp = gathered.timestamp[slot].saturating_mul(input.unit_ns);
        let (chunk, row) = gathered.origin[slot];
        match gathered.sequence.get(slot) {
            Some(sequence) => (timestamp, *sequence, tie(input, (chunk, row))),
            None => {
                let ordinal = input.chunks[chunk as usize].first_row as i64 + i64::from(row);
                (timestamp, self.next_ordinal + ordinal, [0; 6])
            }
        }
    }

    /// Take the part of a bar that one batch brings to a level fed by ticks.
    fn advance(
        &self,
        state: &mut SymbolState,
        code: u32,
        at: usize,
        fresh: Running,
        done: &mut Done,
    ) -> std::result::Result<(), Stop> {
        match &mut state.levels[at] {
            Some(running) if running.bar.start == fresh.bar.start => running.merge(&fresh),
            _ => {
                self.complete(state, code, at, done)?;
                state.levels[at] = Some(fresh);
                Ok(())
            }
        }
    }

    /// Hand over what runs at a level, and roll it up.
    fn complete(
        &self,
        state: &mut SymbolState,
        code: u32,
        at: usize,
        done: &mut Done,
    ) -> std::result::Result<(), Stop> {
        let Some(bar) = state.levels[at].as_ref().map(|running| running.bar) else {
            return Ok(());
        };
        state.levels[at] = None;
        done[at].push((code, bar));
        self.cascade(state, at, &bar, done, code)
    }

    /// Complete the coarser bars that end before the running one of a level fed by ticks.
    fn close_ended(
        &self,
        state: &mut SymbolState,
        code: u32,
        at: usize,
        done: &mut Done,
    ) -> std::result::Result<(), Stop> {
        let Some(now) = state.levels[at].as_ref().map(|running| running.bar.start) else {
            return Ok(());
        };
        let levels = self.options.plan.levels();
        for coarse in (at + 1..levels.len()).filter(|coarse| levels[*coarse].root == at) {
            let length = levels[coarse].timeframe.ns();
            let running = state.levels[coarse].as_ref();
            if running.is_some_and(|running| now.saturating_sub(running.bar.start) >= length) {
                self.complete(state, code, coarse, done)?;
            }
        }
        Ok(())
    }

    /// Roll a completed bar into the levels made of it.
    fn cascade(
        &self,
        state: &mut SymbolState,
        at: usize,
        bar: &Bar,
        done: &mut Done,
        code: u32,
    ) -> std::result::Result<(), Stop> {
        let levels = self.options.plan.levels();
        for coarse in (at + 1..levels.len()).filter(|coarse| levels[*coarse].parent == Some(at)) {
            let length = levels[coarse].timeframe.ns();
            match &mut state.levels[coarse] {
                Some(running) if bar.start.saturating_sub(running.bar.start) < length => {
                    running.bar.append(bar)?;
                }
                _ => {
                    self.complete(state, code, coarse, done)?;
                    let bar = merged(None, bar, length)?;
                    state.levels[coarse] = Some(Running { bar, open: NO_KEY, close: NO_KEY });
                }
            }
        }
        Ok(())
    }
}

impl Running {
    /// Join two parts of one bar whose ticks may interleave.
    fn merge(&mut self, other: &Self) -> std::result::Result<(), Stop> {
        let priced = |r: &Self| r.bar.parts & super::eligibility::PRICE != 0;
        if priced(other) {
            if !priced(self) || other.open < self.open {
                (self.bar.open, self.open) = (other.bar.open, other.open);
            }
            if !priced(self) || other.close >= self.close {
                (self.bar.close, self.close) = (other.bar.close, other.close);
            }
        }
        self.bar.add_unordered(&other.bar)
    }
}

fn merged(coarse: Option<Bar>, finer: &Bar, length_ns: i64) -> std::result::Result<Bar, Stop> {
    match coarse {
        Some(mut bar) => bar.append(finer).map(|()| bar),
        None => {
            let mut bar = *finer;
            bar.start = finer.start.checked_sub(finer.start.rem_euclid(length_ns)).ok_or(Stop::Bucket(0))?;
            Ok(bar)
        }
    }
}

/// One symbol's bars of a batch, each with its first row and the row after its last.
#[derive(Default)]
struct Made {
    bars: Vec<Bar>,
    rows: Vec<(usize, usize)>,
}

impl Made {
    fn clear(&mut self) {
        self.bars.clear();
        self.rows.clear();
    }
}

impl Sink for Made {
    fn push(&mut self, bar: &Bar) {
        self.bars.push(*bar);
    }
    fn rows(&mut self, from: usize, to: usize) {
        // The running bar is not among the finished ones yet; its rows may come in several parts.
        match self.rows.get_mut(self.bars.len()) {
            Some(running) => running.1 = to,
            None => self.rows.push((from, to)),
        }
    }
}

/// What one update brings, before it is taken over.
struct Step {
    done: Done,
    late: Vec<Vec<u64>>,
    states: Vec<(u32, SymbolState)>,
    made: Made,
}

impl Step {
    fn late_row(&mut self, (chunk, row): (u32, u32)) {
        self.late[chunk as usize].push(u64::from(row));
    }

    fn take_late(&mut self, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let mut taken = Vec::new();
        for (batch, rows) in batches.iter().zip(&mut self.late).filter(|(_, rows)| !rows.is_empty()) {
            rows.sort_unstable();
            let rows = UInt64Array::from(std::mem::take(rows));
            taken.push(take_record_batch(batch, &rows).map_err(|error| Error::Schema(error.to_string()))?);
        }
        Ok(taken)
    }
}

/// Bars of symbol codes as the canonical table.
fn table(options: &BarOptions, symbols: &SymbolTable, done: &Done) -> Result<RecordBatch> {
    let codes = symbols.codes_by_name();
    let mut ranks = vec![0_usize; codes.len()];
    for (rank, code) in codes.iter().enumerate() {
        ranks[*code as usize] = rank;
    }
    let mut bars = BarColumns::new(true);
    bars.reserve(done.iter().map(Vec::len).sum());
    for (level, done) in done.iter().enumerate() {
        for of_symbol in done.chunk_by(|a, b| a.0 == b.0) {
            of_symbol.iter().for_each(|(_, bar)| bars.push(bar));
            bars.label(ranks[of_symbol[0].0 as usize], level);
        }
    }
    let names = codes.iter().map(|code| symbols.names()[*code as usize].as_ref()).collect();
    bars.into_batch(names, &options.plan, options.basis)
}
