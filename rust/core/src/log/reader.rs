//! Following a log from a record on, in the writer's process or in another.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::io;
use super::scan::{Record, Tail, scan};
use super::segment::{self, Mark};
use crate::error::{Error, Result};

/// Reads a log's records in order, and goes on where it ended.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    after: u64,
    /// First LSN of the segment that is read, and where reading it ended.
    at: Option<(u64, Tail)>,
}

impl Reader {
    /// A reader of the records after an LSN.
    pub fn new(folder: &Path, after: u64) -> Self {
        Self { folder: folder.into(), after, at: None }
    }

    /// The whole records that were not read yet, oldest first.
    ///
    /// # Errors
    /// [`Error::LogCorrupt`] for anything that no writer wrote, and where the next record is gone; [`Error::Io`].
    pub fn read(&mut self) -> Result<Vec<Record>> {
        self.read_while(|_| true)
    }

    /// The whole records of the next segment that has some; none at the end of the log.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_segment(&mut self) -> Result<Vec<Record>> {
        self.read_while(<[Record]>::is_empty)
    }

    /// Read segments while there are more and `wants` says so. What fails is read again, whole, by the next call.
    fn read_while(&mut self, wants: impl Fn(&[Record]) -> bool) -> Result<Vec<Record>> {
        let before = (self.at, self.after);
        let mut found = Vec::new();
        while wants(&found) {
            match self.step(&mut found) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    (self.at, self.after) = before;
                    return Err(error);
                }
            }
        }
        Ok(found)
    }

    /// Read what one segment has; whether there is a next one.
    fn step(&mut self, found: &mut Vec<Record>) -> Result<bool> {
        let segments = segment::list(&self.folder)?;
        let mark = Mark::read(&self.folder)?;
        let (first_lsn, tail) = match self.at {
            Some(at) => at,
            None => self.begin(&segments)?,
        };
        let next = segments.iter().copied().find(|lsn| *lsn > first_lsn);
        let path = segment::path(&self.folder, first_lsn);
        let bytes = read_from(&path, tail.offset)?;
        let (records, end) = scan(&path, &bytes, tail.offset, tail, next.is_none())?;
        found.extend(records.into_iter().filter(|record| record.lsn > self.after));
        self.after = self.after.max(end.lsn);
        self.at = Some((first_lsn, end));
        if let Some(next) = next {
            if next != end.lsn + 1 {
                return Err(self.corrupt(format!("the segment after record {} is missing", end.lsn), end));
            }
            self.at = Some((next, Tail { offset: 0, ..end }));
            return Ok(true);
        }
        if let Some(mark) = mark.filter(|mark| mark.lsn > end.lsn) {
            return Err(
                self.corrupt(format!("the log was closed at record {} and ends before it", mark.lsn), end)
            );
        }
        if end.lsn < self.after {
            return Err(self.corrupt(format!("the log ends before record {}", self.after), end));
        }
        Ok(false)
    }

    /// The last segment, and where its whole records end; after [`Self::read`].
    pub(super) fn end(&self) -> Option<(u64, Tail)> {
        self.at
    }

    /// The segment that holds the record after `self.after`, unread.
    fn begin(&self, segments: &[u64]) -> Result<(u64, Tail)> {
        let fresh = Tail { offset: 0, lsn: 0, time_ns: i64::MIN, crc: None, log_id: None };
        let next = self.after.saturating_add(1);
        match segments.iter().copied().rfind(|first| *first <= next).or(segments.first().copied()) {
            Some(first) if first <= next => {
                let crc = (first == 1).then_some(0);
                Ok((first, Tail { lsn: first - 1, crc, ..fresh }))
            }
            Some(first) => Err(self.corrupt(format!("records {next} to {} are gone", first - 1), fresh)),
            None => Err(self.corrupt("no segment".into(), fresh)),
        }
    }

    fn corrupt(&self, what: String, tail: Tail) -> Error {
        Error::LogCorrupt {
            path: self.folder.display().to_string(),
            what,
            offset: tail.offset as u64,
            last_good_lsn: tail.lsn,
        }
    }
}

fn read_from(path: &Path, offset: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset as u64))?;
        file.read_to_end(&mut bytes)
    });
    read.map_err(io(format!("reading {}", path.display())))?;
    Ok(bytes)
}
