//! An aggregator's state as bytes: `BTRA`, version, body, CRC32C, all little-endian.

use super::BarOptions;
use super::eligibility::{BarSpec, Basis};
use super::kernel::Bar;
use super::plan::Plan;
use super::stream::{BarAggregator, Key, Running, SymbolState};
use crate::error::{Error, Result};
use crate::timeframe::Timeframe;

const MAGIC: [u8; 4] = *b"BTRA";
const VERSION: u16 = 1;

impl BarAggregator {
    /// Everything the aggregator knows, to go on later.
    ///
    /// # Errors
    /// [`Error::State`] while late rows wait to be taken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if self.has_late() {
            return Err(Error::State(
                "late rows wait in the aggregator; take them before saving its state".into(),
            ));
        }
        let mut out = Writer(Vec::new());
        out.0.extend(MAGIC);
        out.0.extend(VERSION.to_le_bytes());
        out.text(self.options.basis.name());
        out.size(self.options.plan.levels().len());
        self.options.plan.levels().iter().for_each(|level| out.long(level.timeframe.ns()));
        let spec = &self.options.spec;
        out.size(spec.tick_types.len());
        spec.tick_types.iter().for_each(|kind| out.0.push(*kind as u8));
        for codes in [&spec.price_excludes, &spec.high_low_excludes, &spec.volume_excludes] {
            out.size(codes.len());
            codes.iter().for_each(|code| out.text(code));
        }
        out.long(self.next_ordinal);
        out.0.push(self.has_sequence.map_or(2, u8::from));
        out.long(self.late_rows as i64);
        out.size(self.states.len());
        for (name, state) in self.symbols.names().iter().zip(&self.states) {
            out.text(name);
            out.long(state.floor_ns);
            state.levels.iter().for_each(|level| out.running(level.as_ref()));
        }
        let sum = crc32c::crc32c(&out.0);
        out.0.extend(sum.to_le_bytes());
        Ok(out.0)
    }

    /// The aggregator that [`Self::to_bytes`] saved.
    ///
    /// # Errors
    /// [`Error::State`] for bytes that are cut, changed, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        let rest = body.strip_prefix(&MAGIC).ok_or_else(damaged)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(damaged());
        }
        let mut reader = Reader(rest);
        let version = u16::from_le_bytes(reader.bytes()?);
        if version != VERSION {
            return Err(Error::State(format!(
                "the aggregator state has version {version}, this build reads {VERSION}; aggregate the ticks again"
            )));
        }
        reader.aggregator()
    }
}

fn damaged() -> Error {
    Error::State("the aggregator state is damaged or cut; aggregate the ticks again".into())
}

struct Writer(Vec<u8>);

impl Writer {
    fn size(&mut self, value: usize) {
        self.0.extend((value as u64).to_le_bytes());
    }

    fn long(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.size(text.len());
        self.0.extend(text.as_bytes());
    }

    fn key(&mut self, key: &Key) {
        self.long(key.0);
        self.long(key.1);
        key.2.iter().for_each(|value| self.long(*value));
    }

    fn running(&mut self, running: Option<&Running>) {
        self.0.push(u8::from(running.is_some()));
        let Some(Running { bar, open, close }) = running else {
            return;
        };
        for value in [bar.start, bar.open, bar.high, bar.low, bar.close, bar.count] {
            self.long(value);
        }
        self.0.push(bar.parts);
        self.0.extend(bar.volume.to_le_bytes());
        self.0.extend(bar.turnover.to_le_bytes());
        self.key(open);
        self.key(close);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn long(&mut self) -> Result<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn wide(&mut self) -> Result<i128> {
        self.bytes().map(i128::from_le_bytes)
    }

    /// A count of things that take at least a byte each.
    fn size(&mut self) -> Result<usize> {
        let size = u64::from_le_bytes(self.bytes()?);
        usize::try_from(size).ok().filter(|size| *size <= self.0.len()).ok_or_else(damaged)
    }

    fn text(&mut self) -> Result<String> {
        let size = self.size()?;
        let (text, rest) = self.0.split_at_checked(size).ok_or_else(damaged)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| damaged())
    }

    fn many<T>(&mut self, one: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let size = self.size()?;
        (0..size).map(|_| one(self)).collect()
    }

    fn key(&mut self) -> Result<Key> {
        let (timestamp, sequence) = (self.long()?, self.long()?);
        let mut ties = [0; 6];
        for tie in &mut ties {
            *tie = self.long()?;
        }
        Ok((timestamp, sequence, ties))
    }

    fn running(&mut self) -> Result<Option<Running>> {
        if self.byte()? == 0 {
            return Ok(None);
        }
        let (start, open, high, low, close, count) =
            (self.long()?, self.long()?, self.long()?, self.long()?, self.long()?, self.long()?);
        let parts = self.byte()?;
        let (volume, turnover) = (self.wide()?, self.wide()?);
        let bar = Bar { start, open, high, low, close, parts, volume, turnover, count };
        Ok(Some(Running { bar, open: self.key()?, close: self.key()? }))
    }

    fn aggregator(&mut self) -> Result<BarAggregator> {
        let basis: Basis = self.text()?.parse()?;
        let frames = self.many(|r| r.long().and_then(Timeframe::from_ns))?;
        let plan = Plan::new(&frames)?;
        let spec = BarSpec {
            tick_types: self.many(|r| r.byte().map(|kind| kind as i8))?,
            price_excludes: self.many(Self::text)?,
            high_low_excludes: self.many(Self::text)?,
            volume_excludes: self.many(Self::text)?,
        };
        let mut aggregator = BarAggregator::new(BarOptions { plan, basis, spec });
        aggregator.next_ordinal = self.long()?;
        aggregator.has_sequence = match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        aggregator.late_rows = self.long()? as u64;
        let levels = aggregator.options.plan.levels().len();
        for _ in 0..self.size()? {
            let name = self.text()?;
            aggregator.symbols.intern(&name);
            let floor_ns = self.long()?;
            let levels = (0..levels).map(|_| self.running()).collect::<Result<_>>()?;
            aggregator.states.push(SymbolState { floor_ns, levels });
        }
        if self.0.is_empty() && aggregator.states.len() == aggregator.symbols.names().len() {
            Ok(aggregator)
        } else {
            Err(damaged())
        }
    }
}
