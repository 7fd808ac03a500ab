//! The log: records in commit order, each durable before it is acknowledged. FORMAT.md describes its bytes.
//!
//! The only module that touches files. Times and ids come from the caller; the log only keeps times from going back.

mod frame;
mod reader;
mod scan;
mod segment;
mod writer;

use std::fs::File;
use std::path::Path;

pub use reader::Reader;
pub use scan::Record;
pub use writer::Writer;

use crate::error::{Error, Result};

fn io(doing: String) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { doing, source }
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

/// Remove the segments whose records all have an LSN up to this one, oldest first; the last segment stays.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_segments(folder: &Path, up_to: u64) -> Result<Vec<u64>> {
    let segments = segment::list(folder)?;
    let mut removed = Vec::new();
    for pair in segments.windows(2).filter(|pair| pair[1] <= up_to.saturating_add(1)) {
        let path = segment::path(folder, pair[0]);
        std::fs::remove_file(&path).map_err(io(format!("removing {}", path.display())))?;
        // a power cut must not take a later segment and leave this one
        sync_folder(folder)?;
        removed.push(pair[0]);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
