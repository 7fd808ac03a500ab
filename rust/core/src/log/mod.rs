//! The log: records in commit order, each durable before it is acknowledged.
//!
//! The only module that touches files. Times come from the caller; the log only keeps them from going back.

mod frame;
mod segment;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use frame::Frame;
pub use segment::{Record, Tail};

use crate::error::{Error, Result};

fn io(doing: String) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { doing, source }
}

fn segment_path(folder: &Path) -> PathBuf {
    folder.join(format!("{:020}.log", 1))
}

/// CRC32C, the checksum of frames and of data files' footers.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Make a folder's entries durable.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(io(format!("syncing folder {}", folder.display())))
}

/// Make a file's bytes and length durable.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened or synced.
pub fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io(format!("syncing {}", path.display())))
}

/// All whole records after an LSN, oldest first, and what follows them.
///
/// # Errors
/// [`Error::LogCorrupt`] for anything that is neither a record nor a torn tail at the real end; [`Error::Io`].
pub fn read(folder: &Path, after: u64) -> Result<(Vec<Record>, Tail)> {
    let path = segment_path(folder);
    let bytes = std::fs::read(&path).map_err(io(format!("reading log {}", path.display())))?;
    segment::scan(&path, &bytes, after)
}

/// The one appender.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    tail: Tail,
    poisoned: bool,
}

impl Writer {
    /// Start an empty log in a folder.
    ///
    /// # Errors
    /// [`Error::Io`], also if the log exists.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = segment_path(folder);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(io(format!("creating log {}", path.display())))?;
        file.sync_all().map_err(io(format!("syncing log {}", path.display())))?;
        sync_folder(folder)?;
        Ok(Self { path, file, tail: Tail::default(), poisoned: false })
    }

    /// Go on after the last whole record; a torn tail is cut off durably first.
    ///
    /// # Errors
    /// [`Error::LogCorrupt`], [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        let path = segment_path(folder);
        let (_, tail) = read(folder, u64::MAX)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(io(format!("opening log {}", path.display())))?;
        file.set_len(tail.offset)
            .and_then(|()| file.sync_all())
            .map_err(io(format!("cutting the torn tail of log {}", path.display())))?;
        Ok(Self { path, file, tail, poisoned: false })
    }

    /// LSN of the last record, 0 in an empty log.
    pub fn last_lsn(&self) -> u64 {
        self.tail.lsn
    }

    /// Append one record and return when it is durable: its LSN and its commit time, which never goes back.
    ///
    /// # Errors
    /// [`Error::Io`]; every later append then fails too, until the log is opened again.
    pub fn append(&mut self, payload: &[u8], time_ns: i64) -> Result<(u64, i64)> {
        if self.poisoned {
            let source = std::io::Error::other("an earlier write failed; open the store again");
            return Err(Error::Io { doing: format!("appending to log {}", self.path.display()), source });
        }
        let frame = Frame {
            lsn: self.tail.lsn + 1,
            time_ns: time_ns.max(self.tail.time_ns),
            length: payload.len() as u64,
            previous: self.tail.crc,
            payload_crc: crc32c::crc32c(payload),
        };
        let (header, crc) = frame.encode();
        self.poisoned = true;
        let mut bytes = Vec::with_capacity(header.len() + payload.len());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(payload);
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(io(format!("appending to log {}", self.path.display())))?;
        self.poisoned = false;
        let offset = self.tail.offset + bytes.len() as u64;
        self.tail = Tail { offset, lsn: frame.lsn, time_ns: frame.time_ns, crc };
        Ok((frame.lsn, frame.time_ns))
    }
}
