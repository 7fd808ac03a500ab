//! One frame: header, payload, trailer; see FORMAT.md.

use crate::error::{Error, Result};

/// Bytes of a header.
pub(super) const HEADER: usize = 64;
/// Most bytes of payload in one frame; longer records span frames.
pub(super) const MAX_PAYLOAD: usize = 4 << 20;
/// Format version of the frames written.
pub(super) const VERSION: u16 = 1;
/// What begins every frame.
pub(super) const MAGIC: [u8; 4] = *b"BTLF";
/// What ends every frame: never zero, so that a frame whose end was not written is known.
pub(super) const TRAILER: [u8; 4] = *b"BTLE";
/// Payloads that this release reads; those it writes are of the last: a commit's sections, zstd over Arrow IPC.
const CODECS: std::ops::RangeInclusive<u8> = 1..=2;
const LAST: u8 = 1;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Number of the record, from 1.
    pub(super) lsn: u64,
    /// Commit time, ns since 1970-01-01 UTC.
    pub(super) time_ns: i64,
    /// Last record that was durable when this frame was written.
    pub(super) durable_lsn: u64,
    /// The log this frame is of.
    pub(super) log_id: u64,
    /// Place among the record's frames, from 0.
    pub(super) part: u32,
    /// Whether the record ends with this frame.
    pub(super) is_last: bool,
    /// Header CRC of the frame before; 0 before the first.
    pub(super) previous: u32,
    length: u32,
    payload_crc: u32,
}

impl Frame {
    /// Append the frame of a payload; gives its header CRC, for the next frame to name.
    pub(super) fn write(mut self, payload: &[u8], out: &mut Vec<u8>) -> u32 {
        self.length = payload.len() as u32;
        self.payload_crc = crc32c::crc32c(payload);
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4..6].copy_from_slice(&VERSION.to_le_bytes());
        header[6] = *CODECS.end();
        header[7] = u8::from(self.is_last) * LAST;
        header[8..16].copy_from_slice(&self.lsn.to_le_bytes());
        header[16..24].copy_from_slice(&self.time_ns.to_le_bytes());
        header[24..32].copy_from_slice(&self.durable_lsn.to_le_bytes());
        header[32..40].copy_from_slice(&self.log_id.to_le_bytes());
        header[40..44].copy_from_slice(&self.part.to_le_bytes());
        header[44..48].copy_from_slice(&self.length.to_le_bytes());
        header[48..52].copy_from_slice(&self.payload_crc.to_le_bytes());
        header[52..56].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        out.extend_from_slice(&TRAILER);
        crc
    }

    /// A frame to be written, its length and checksum still open.
    pub(super) fn new(lsn: u64, time_ns: i64, durable_lsn: u64, log_id: u64) -> Self {
        Self {
            lsn,
            time_ns,
            durable_lsn,
            log_id,
            part: 0,
            is_last: false,
            previous: 0,
            length: 0,
            payload_crc: 0,
        }
    }

    /// Read the header that `bytes` begin with, and its CRC; `None` where there is none that is whole.
    ///
    /// # Errors
    /// [`Error::LogCorrupt`] (without place) for a header of another format version.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, u32)>> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let crc = u32::from_le_bytes(field(header, 60));
        if header[..4] != MAGIC || crc32c::crc32c(&header[..60]) != crc {
            return Ok(None);
        }
        let (version, codec) = (u16::from_le_bytes(field(header, 4)), header[6]);
        if version != VERSION || !CODECS.contains(&codec) {
            return Err(Error::State(format!(
                "a frame of format version {version}, codec {codec}; upgrade backtestr to read it"
            )));
        }
        let frame = Self {
            lsn: u64::from_le_bytes(field(header, 8)),
            time_ns: i64::from_le_bytes(field(header, 16)),
            durable_lsn: u64::from_le_bytes(field(header, 24)),
            log_id: u64::from_le_bytes(field(header, 32)),
            part: u32::from_le_bytes(field(header, 40)),
            is_last: header[7] & LAST != 0,
            previous: u32::from_le_bytes(field(header, 52)),
            length: u32::from_le_bytes(field(header, 44)),
            payload_crc: u32::from_le_bytes(field(header, 48)),
        };
        Ok(Some((frame, crc)))
    }

    /// Bytes of the whole frame.
    pub(super) fn size(&self) -> usize {
        framed(self.length as usize)
    }

    /// The payload of the frame that `bytes` begin with, if all of it is there as it was written.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (payload, trailer) = bytes.get(HEADER..self.size())?.split_at(self.length as usize);
        (trailer == TRAILER && crc32c::crc32c(payload) == self.payload_crc).then_some(payload)
    }
}

/// Bytes of a frame with that much payload.
pub(super) fn framed(payload: usize) -> usize {
    HEADER + payload + TRAILER.len()
}

fn field<const N: usize>(header: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
