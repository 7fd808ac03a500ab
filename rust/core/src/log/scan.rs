//! Reading frames in order, and judging what stands behind the last whole record.

use std::path::Path;

use super::frame::{Frame, HEADER, MAGIC};
use crate::error::{Error, Result};

/// Bytes that a disk writes all or none of.
const SECTOR: usize = 512;

/// A committed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the record, from 1.
    pub lsn: u64,
    /// Commit time, ns since 1970-01-01 UTC.
    pub time_ns: i64,
    /// What was committed.
    pub payload: Vec<u8>,
}

/// Where the next record goes, and what it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Bytes of the segment up to the end of the last whole record.
    pub(super) offset: usize,
    /// LSN of the last whole record.
    pub(super) lsn: u64,
    /// Its commit time.
    pub(super) time_ns: i64,
    /// Its last frame's header CRC; `None` where the log before was dropped.
    pub(super) crc: Option<u32>,
    /// The log that the frames are of; `None` before the first frame.
    pub(super) log_id: Option<u64>,
}

/// Whole records of a segment from the tail on; `start` is where `bytes` begin in it.
///
/// # Errors
/// [`Error::LogCorrupt`] for what is neither a record nor, in the last segment, a torn tail.
pub(super) fn scan(
    path: &Path,
    bytes: &[u8],
    start: usize,
    mut tail: Tail,
    is_last_segment: bool,
) -> Result<(Vec<Record>, Tail)> {
    let mut records = Vec::new();
    let (mut at, mut open) = (tail.offset - start, Open { payload: Vec::new(), next: tail, parts: 0 });
    let corrupt = |what: &str, at: usize, tail: &Tail| Error::LogCorrupt {
        path: path.display().to_string(),
        what: what.into(),
        offset: (start + at) as u64,
        last_good_lsn: tail.lsn,
    };
    loop {
        let rest = &bytes[at..];
        let read = Frame::read(rest).map_err(|error| corrupt(&error.to_string(), at, &tail))?;
        let Some((frame, crc, payload)) =
            read.and_then(|(frame, crc)| Some((frame, crc, frame.payload(rest)?)))
        else {
            let is_clean = rest.is_empty() && open.parts == 0;
            if !(is_clean || is_last_segment && is_torn(rest, start + at, tail)) {
                return Err(corrupt("a damaged frame", at, &tail));
            }
            return Ok((records, tail));
        };
        if !open.is_followed_by(&frame) {
            return Err(corrupt("a frame that does not follow the one before", at, &tail));
        }
        at += frame.size();
        open.take(&frame, crc, payload);
        if frame.is_last {
            tail = Tail { offset: start + at, ..open.next };
            let payload = std::mem::take(&mut open.payload);
            records.push(Record { lsn: frame.lsn, time_ns: frame.time_ns, payload });
            open.parts = 0;
        }
    }
}

/// A record some of whose frames were read.
struct Open {
    payload: Vec<u8>,
    next: Tail,
    parts: u32,
}

impl Open {
    fn is_followed_by(&self, frame: &Frame) -> bool {
        let lsn = if self.parts == 0 { self.next.lsn + 1 } else { self.next.lsn };
        frame.lsn == lsn
            && frame.part == self.parts
            && frame.time_ns >= self.next.time_ns
            && self.next.crc.is_none_or(|crc| crc == frame.previous)
            && self.next.log_id.is_none_or(|id| id == frame.log_id)
    }

    fn take(&mut self, frame: &Frame, crc: u32, payload: &[u8]) {
        self.payload.extend_from_slice(payload);
        self.parts += 1;
        self.next.lsn = frame.lsn;
        self.next.time_ns = frame.time_ns;
        self.next.crc = Some(crc);
        self.next.log_id = Some(frame.log_id);
    }
}

/// Whether what follows the last whole record can be a write that never finished and was never acknowledged.
fn is_torn(rest: &[u8], offset: usize, tail: Tail) -> bool {
    !acknowledges_more(rest, tail) && is_unfinished(rest, offset)
}

/// Whether a later frame says that the record after the tail was durable.
fn acknowledges_more(rest: &[u8], tail: Tail) -> bool {
    memchr::memmem::find_iter(rest, &MAGIC).any(|at| {
        let found = Frame::read(&rest[at..]).ok().flatten();
        found.is_some_and(|(frame, _)| {
            tail.log_id.is_none_or(|id| id == frame.log_id)
                && frame.durable_lsn > tail.lsn
                && frame.payload(&rest[at..]).is_some()
        })
    })
}

/// Whether some part of the frame that `rest` begins with was never written: cut off, or still zero.
fn is_unfinished(rest: &[u8], offset: usize) -> bool {
    let written = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let header = Frame::read(rest).ok().flatten();
    let is_prefix = match &header {
        Some((frame, _)) => written < frame.size(),
        None => written <= HEADER,
    };
    let size = header.map_or(HEADER, |(frame, _)| frame.size());
    is_prefix || has_blank_sector(&rest[..size.min(rest.len())], offset)
}

/// Whether a sector's share of a frame is zero. Payloads are compressed, and so have no such runs of zeros.
fn has_blank_sector(frame: &[u8], offset: usize) -> bool {
    let (first, others) = frame.split_at((SECTOR - offset % SECTOR).min(frame.len()));
    std::iter::once(first).chain(others.chunks(SECTOR)).any(|share| share.iter().all(|byte| *byte == 0))
}
