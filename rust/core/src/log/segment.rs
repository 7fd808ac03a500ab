//! Reading a segment, and the torn-tail rule.

use std::path::Path;

use super::frame::{Frame, HEADER};
use crate::error::{Error, Result};

/// A durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in the log, from 1.
    pub lsn: u64,
    /// Commit time, ns since 1970-01-01 UTC.
    pub time_ns: i64,
    /// What was committed.
    pub payload: Vec<u8>,
}

/// Where the next record goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tail {
    /// Bytes up to here are whole records.
    pub offset: u64,
    /// LSN of the last record.
    pub lsn: u64,
    /// Commit time of the last record.
    pub time_ns: i64,
    /// Header CRC of the last record's frame.
    pub crc: u32,
}

/// Whole records after an LSN. What follows the last whole record is a torn tail only if no frame follows it.
pub(super) fn scan(path: &Path, bytes: &[u8], after: u64) -> Result<(Vec<Record>, Tail)> {
    let mut records = Vec::new();
    let mut tail = Tail { time_ns: i64::MIN, ..Tail::default() };
    while let Some((frame, crc, payload)) = whole_frame(&bytes[tail.offset as usize..]) {
        let corrupt = |what: &str| Error::LogCorrupt {
            path: path.display().to_string(),
            what: what.into(),
            offset: tail.offset,
            last_good_lsn: tail.lsn,
        };
        if frame.lsn != tail.lsn + 1 || frame.previous != tail.crc {
            return Err(corrupt("a frame that does not follow the one before"));
        }
        if frame.time_ns < tail.time_ns {
            return Err(corrupt("a commit time that goes back"));
        }
        if crc32c::crc32c(payload) != frame.payload_crc {
            if has_frame(&bytes[tail.offset as usize + HEADER..]) {
                return Err(corrupt("a payload that does not match its checksum"));
            }
            break;
        }
        if frame.lsn > after {
            records.push(Record { lsn: frame.lsn, time_ns: frame.time_ns, payload: payload.to_vec() });
        }
        let offset = tail.offset + (HEADER + payload.len()) as u64;
        tail = Tail { offset, lsn: frame.lsn, time_ns: frame.time_ns, crc };
    }
    if has_frame(&bytes[(tail.offset as usize + 1).min(bytes.len())..]) {
        return Err(Error::LogCorrupt {
            path: path.display().to_string(),
            what: "a damaged frame with whole frames after it".into(),
            offset: tail.offset,
            last_good_lsn: tail.lsn,
        });
    }
    Ok((records, tail))
}

fn whole_frame(bytes: &[u8]) -> Option<(Frame, u32, &[u8])> {
    let (frame, crc) = Frame::decode(bytes)?;
    let end = HEADER.checked_add(usize::try_from(frame.length).ok()?)?;
    Some((frame, crc, bytes.get(HEADER..end)?))
}

fn has_frame(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, b"BTLF").any(|at| whole_frame(&bytes[at..]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut previous = 0;
        for (i, payload) in payloads.iter().enumerate() {
            let frame = Frame {
                lsn: i as u64 + 1,
                time_ns: i as i64,
                length: payload.len() as u64,
                previous,
                payload_crc: crc32c::crc32c(payload),
            };
            let (header, crc) = frame.encode();
            previous = crc;
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    #[test]
    fn every_truncation_keeps_the_whole_records() {
        let bytes = log(&[b"one", b"", b"three"]);
        let ends = [HEADER + 3, 2 * HEADER + 3, 3 * HEADER + 8];
        for cut in 0..=bytes.len() {
            let (records, tail) = scan(Path::new("x"), &bytes[..cut], 0).unwrap();
            assert_eq!(records.len(), ends.iter().filter(|end| **end <= cut).count(), "cut at {cut}");
            assert_eq!(tail.lsn, records.len() as u64);
        }
    }

    #[test]
    fn every_flip_before_the_last_frame_is_an_error() {
        let bytes = log(&[b"one", b"two", b"three"]);
        for at in 0..2 * (HEADER + 3) {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(scan(Path::new("x"), &damaged, 0).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
