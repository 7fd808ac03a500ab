//! The one appender: records get their LSN when submitted, and are durable when waited for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::frame::{Frame, MAX_PAYLOAD, framed};
use super::reader::Reader;
use super::segment::{self, FIRST_BYTES, MAX_BYTES, Mark};
use super::{io, sync_folder};
use crate::error::{Error, Result};

/// Appends to a log. Threads that wait at the same time share one fdatasync.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    state: Mutex<State>,
    flushed: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None` while a thread writes.
    segment: Option<Segment>,
    /// Frames that are not written yet, and the offset of the first.
    pending: Vec<u8>,
    offset: usize,
    lsn: u64,
    durable_lsn: u64,
    time_ns: i64,
    crc: u32,
    log_id: u64,
    failure: Option<(ErrorKind, String)>,
}

#[derive(Debug)]
struct Segment {
    first_lsn: u64,
    file: File,
    reserved: usize,
}

impl Writer {
    /// Start an empty log in a folder; `log_id` is a number that no other log has.
    ///
    /// # Errors
    /// [`Error::Io`], also if the log exists.
    pub fn create(folder: &Path, log_id: u64) -> Result<Self> {
        let file = segment::create(folder, 1)?;
        let segment = Segment { first_lsn: 1, file, reserved: 0 };
        Ok(Self::new(folder, segment, 0, (0, i64::MIN, 0, log_id)))
    }

    /// Go on after the last whole record; a torn tail is cut off durably first.
    ///
    /// # Errors
    /// [`Error::LogCorrupt`], [`Error::Io`].
    pub fn open(folder: &Path, log_id: u64) -> Result<Self> {
        let last = segment::list(folder)?.last().copied().unwrap_or(1);
        let mut reader = Reader::new(folder, last - 1);
        reader.read()?;
        let Some((first_lsn, tail)) = reader.end() else {
            return Err(Error::Argument(format!("log {} has no end", folder.display())));
        };
        let path = segment::path(folder, first_lsn);
        let doing = || format!("cutting the torn tail of {}", path.display());
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io(doing()))?;
        file.set_len(tail.offset as u64).and_then(|()| file.sync_all()).map_err(io(doing()))?;
        Mark::remove(folder)?;
        let segment = Segment { first_lsn, file, reserved: tail.offset };
        let crc = tail.crc.unwrap_or(0);
        Ok(Self::new(
            folder,
            segment,
            tail.offset,
            (tail.lsn, tail.time_ns, crc, tail.log_id.unwrap_or(log_id)),
        ))
    }

    fn new(
        folder: &Path,
        segment: Segment,
        offset: usize,
        (lsn, time_ns, crc, log_id): (u64, i64, u32, u64),
    ) -> Self {
        let state = State {
            segment: Some(segment),
            pending: Vec::new(),
            offset,
            lsn,
            durable_lsn: lsn,
            time_ns,
            crc,
            log_id,
            failure: None,
        };
        Self { folder: folder.into(), state: Mutex::new(state), flushed: Condvar::new() }
    }

    /// LSN of the last record that is durable, 0 in an empty log.
    pub fn durable_lsn(&self) -> u64 {
        self.lock().durable_lsn
    }

    /// Give a record its LSN and its commit time, which never goes back; [`Self::wait`] makes it durable.
    ///
    /// # Errors
    /// [`Error::Io`] after a failed write, until the log is opened again.
    pub fn submit(&self, payload: &[u8], time_ns: i64) -> Result<(u64, i64)> {
        let mut state = self.lock();
        state.check(&self.folder)?;
        state.lsn += 1;
        state.time_ns = state.time_ns.max(time_ns);
        let (lsn, time_ns) = (state.lsn, state.time_ns);
        let mut frame = Frame::new(lsn, time_ns, state.durable_lsn, state.log_id);
        let frames = payload.len().div_ceil(MAX_PAYLOAD).max(1);
        state.pending.reserve(payload.len() + frames * framed(0));
        for part in 0..frames {
            let from = part * MAX_PAYLOAD;
            frame.part = part as u32;
            frame.is_last = part + 1 == frames;
            frame.previous = state.crc;
            let cut = &payload[from..(from + MAX_PAYLOAD).min(payload.len())];
            state.crc = frame.write(cut, &mut state.pending);
        }
        Ok((lsn, time_ns))
    }

    /// Return when the record of an LSN, and so every one before it, is durable.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made durable; every later call then fails too, until the log is opened again.
    pub fn wait(&self, lsn: u64) -> Result<()> {
        let mut state = self.lock();
        while state.durable_lsn < lsn {
            state.check(&self.folder)?;
            state = match state.segment.take() {
                Some(segment) => self.flush(state, segment),
                None => self.flushed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        Ok(())
    }

    /// Make everything durable, cut the unused space off, and mark the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn close(&self) -> Result<()> {
        loop {
            let lsn = self.lock().lsn;
            self.wait(lsn)?;
            let mut state = self.lock();
            state.check(&self.folder)?;
            let is_idle = state.pending.is_empty();
            if let Some(segment) = state.segment.take_if(|_| is_idle) {
                state.failure = Some((ErrorKind::Other, "the log is closed".into()));
                segment.trim(state.offset, &self.folder)?;
                return Mark { first_lsn: segment.first_lsn, lsn: state.lsn }.write(&self.folder);
            }
        }
    }

    /// Write what is pending while other threads submit more.
    fn flush<'a>(&'a self, mut state: MutexGuard<'a, State>, segment: Segment) -> MutexGuard<'a, State> {
        let pending = std::mem::take(&mut state.pending);
        let (from, lsn, first) = (state.offset, state.lsn, state.durable_lsn + 1);
        drop(state);
        let written = self.write(segment, &pending, from, first);
        let mut state = self.lock();
        match written {
            Ok((segment, offset)) => {
                state.segment = Some(segment);
                state.offset = offset;
                state.durable_lsn = lsn;
            }
            Err((kind, message)) => state.failure = Some((kind, message)),
        }
        self.flushed.notify_all();
        state
    }

    /// Write frames at an offset and sync them, in the next segment where they do not fit; gives where they end.
    fn write(
        &self,
        mut segment: Segment,
        pending: &[u8],
        mut from: usize,
        first_lsn: u64,
    ) -> std::result::Result<(Segment, usize), (ErrorKind, String)> {
        let turned = if from > 0 && from + pending.len() > MAX_BYTES {
            segment.trim(from, &self.folder).and_then(|()| segment::create(&self.folder, first_lsn)).map(
                |file| {
                    segment = Segment { first_lsn, file, reserved: 0 };
                    from = 0;
                },
            )
        } else {
            Ok(())
        };
        let written = turned.and_then(|()| {
            let doing = format!("appending to {}", segment::path(&self.folder, segment.first_lsn).display());
            segment.append(pending, from).map_err(io(doing))
        });
        match written {
            Ok(()) => Ok((segment, from + pending.len())),
            Err(Error::Io { doing, source }) => Err((source.kind(), format!("{doing}: {source}"))),
            Err(other) => Err((ErrorKind::Other, other.to_string())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, folder: &Path) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some((kind, message)) => Err(Error::Io {
                doing: format!("writing log {}", folder.display()),
                source: std::io::Error::new(*kind, message.clone()),
            }),
        }
    }
}

impl Segment {
    fn append(&mut self, frames: &[u8], at: usize) -> std::io::Result<()> {
        let end = at + frames.len();
        if end > self.reserved {
            let wanted = (FIRST_BYTES.max(self.reserved) * 2).min(MAX_BYTES).max(end);
            let wanted = if self.reserved == 0 { FIRST_BYTES.max(end) } else { wanted };
            // a disk that is nearly full may still take the frames themselves
            self.reserved = segment::reserve(&self.file, self.reserved, wanted)
                .map(|()| wanted)
                .or_else(|_| segment::reserve(&self.file, self.reserved, end).map(|()| end))?;
        }
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.write_all(frames)?;
        self.file.sync_data()
    }

    /// Cut the unused space off.
    fn trim(&self, end: usize, folder: &Path) -> Result<()> {
        let doing = || format!("trimming {}", segment::path(folder, self.first_lsn).display());
        self.file.set_len(end as u64).and_then(|()| self.file.sync_all()).map_err(io(doing()))?;
        sync_folder(folder)
    }
}
