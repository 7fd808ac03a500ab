//! Segments on disk: their names, their order, and the mark of a log that was closed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{io, sync_folder};
use crate::error::{Error, Result};

/// Bytes that a segment begins with; its space doubles up to [`MAX_BYTES`].
pub(super) const FIRST_BYTES: usize = 1 << 20;
/// Bytes after which the next segment begins; a single record may be longer.
pub(super) const MAX_BYTES: usize = 64 << 20;

const MARK: &str = "CLOSED";
const MARK_BYTES: usize = 32;
const MARK_MAGIC: [u8; 8] = *b"BTLC\x01\0\0\0";

/// The file of the segment whose first record has an LSN.
pub(super) fn path(folder: &Path, first_lsn: u64) -> PathBuf {
    folder.join(format!("{first_lsn:020}.log"))
}

/// First LSNs of the segments in a folder, ascending.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn list(folder: &Path) -> Result<Vec<u64>> {
    let doing = || format!("listing log {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(doing()))? {
        let name = entry.map_err(io(doing()))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".log"));
        found
            .extend(digits.filter(|digits| digits.len() == 20).and_then(|digits| digits.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Make an empty segment, durable in its folder.
///
/// # Errors
/// [`Error::Io`], also if it exists.
pub(super) fn create(folder: &Path, first_lsn: u64) -> Result<File> {
    let path = path(folder, first_lsn);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(io(format!("creating {}", path.display())))?;
    file.sync_all().map_err(io(format!("syncing {}", path.display())))?;
    sync_folder(folder)?;
    Ok(file)
}

/// Reserve space for a segment's next bytes, so that a full disk is met before anything is written.
///
/// # Errors
/// The system's.
pub(super) fn reserve(file: &File, from: usize, to: usize) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::empty(), from as u64, (to - from) as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            done => return done.map_err(std::io::Error::from),
        }
    }
    let _ = from;
    file.set_len(to as u64)
}

/// Where a log ended when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its last segment.
    pub(super) first_lsn: u64,
    /// Its last record.
    pub(super) lsn: u64,
}

impl Mark {
    /// Write the mark; durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn write(self, folder: &Path) -> Result<()> {
        let mut bytes = MARK_MAGIC.to_vec();
        bytes.extend_from_slice(&self.first_lsn.to_le_bytes());
        bytes.extend_from_slice(&self.lsn.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let (draft, path) = (folder.join("CLOSED.new"), folder.join(MARK));
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)
        });
        written.map_err(io(format!("writing {}", path.display())))?;
        sync_folder(folder)
    }

    /// The mark of a log that was closed and not written to since.
    ///
    /// # Errors
    /// [`Error::LogCorrupt`] for a damaged mark, [`Error::Io`].
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MARK);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(io(format!("reading {}", path.display())))?,
        };
        let whole = <[u8; MARK_BYTES]>::try_from(bytes.as_slice()).ok().filter(|bytes| {
            bytes[..8] == MARK_MAGIC && crc32c::crc32c(&bytes[..28]).to_le_bytes() == bytes[28..]
        });
        let bytes = whole.ok_or_else(|| Error::LogCorrupt {
            path: path.display().to_string(),
            what: "a damaged mark of the log's end; remove it if the log is known to be whole".into(),
            offset: 0,
            last_good_lsn: 0,
        })?;
        let long = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Ok(Some(Self { first_lsn: long(8), lsn: long(16) }))
    }

    /// Take the mark away before the log goes on; durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn remove(folder: &Path) -> Result<()> {
        let path = folder.join(MARK);
        match std::fs::remove_file(&path) {
            Ok(()) => sync_folder(folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Io { doing: format!("removing {}", path.display()), source }),
        }
    }
}
