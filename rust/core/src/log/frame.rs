//! The log's frame: 48 bytes of header, then the payload. All integers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic `BTLF` |
//! | 4..6 | format version (1) |
//! | 6 | codec id (1 = Arrow IPC sections with zstd buffers) |
//! | 7 | flags (bit 0: last frame of its record) |
//! | 8..16 | LSN |
//! | 16..24 | commit time, ns since 1970-01-01 UTC |
//! | 24..32 | payload length |
//! | 32..36 | header CRC of the previous frame (0 before the first) |
//! | 36..40 | CRC32C of the payload |
//! | 40..44 | reserved (0) |
//! | 44..48 | CRC32C of bytes 0..44 |

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 48;
const MAGIC: [u8; 4] = *b"BTLF";
const VERSION: u16 = 1;
const CODEC_ARROW: u8 = 1;
const LAST: u8 = 1;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Position of the record in the log, from 1.
    pub lsn: u64,
    /// Commit time, ns since 1970-01-01 UTC.
    pub time_ns: i64,
    /// Bytes of payload that follow.
    pub length: u64,
    /// Header CRC of the frame before.
    pub previous: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Frame {
    /// The header as bytes, and its CRC for the next frame to name.
    pub fn encode(&self) -> ([u8; HEADER], u32) {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6] = CODEC_ARROW;
        out[7] = LAST;
        out[8..16].copy_from_slice(&self.lsn.to_le_bytes());
        out[16..24].copy_from_slice(&self.time_ns.to_le_bytes());
        out[24..32].copy_from_slice(&self.length.to_le_bytes());
        out[32..36].copy_from_slice(&self.previous.to_le_bytes());
        out[36..40].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..44]);
        out[44..].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// Read a header that starts `bytes`, with its CRC; `None` if it is not one.
    pub fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let header = bytes.get(..HEADER)?;
        let crc = u32::from_le_bytes(array(header, 44)?);
        let known = header[..4] == MAGIC
            && u16::from_le_bytes(array(header, 4)?) == VERSION
            && header[6] == CODEC_ARROW
            && header[7] == LAST;
        if !known || crc32c::crc32c(&header[..44]) != crc {
            return None;
        }
        let frame = Self {
            lsn: u64::from_le_bytes(array(header, 8)?),
            time_ns: i64::from_le_bytes(array(header, 16)?),
            length: u64::from_le_bytes(array(header, 24)?),
            previous: u32::from_le_bytes(array(header, 32)?),
            payload_crc: u32::from_le_bytes(array(header, 36)?),
        };
        Some((frame, crc))
    }
}
