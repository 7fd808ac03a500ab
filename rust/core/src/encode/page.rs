//! Pages: compressed where that pays, behind a header with the checksum of what is stored.

use parquet::basic::CompressionCodec;
use zstd::bulk::Compressor;

use super::failed;
use crate::error::Result;

/// Encodings by their number in the format.
pub(crate) const PLAIN: i32 = 0;
pub(crate) const RLE: i32 = 3;
pub(crate) const DELTA_BINARY_PACKED: i32 = 5;
pub(crate) const RLE_DICTIONARY: i32 = 8;

pub(crate) const I32: u8 = 5;
pub(crate) const STRUCT: u8 = 12;

/// What a page holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// So many values of a dictionary.
    Dictionary(usize),
    /// So many rows, in an encoding.
    Data(usize, i32),
}

/// Whether the pages of each column are compressed: judged by the first column chunk, as the others will be like it.
pub(super) struct Codec {
    zstd: Compressor<'static>,
    pays: Vec<Option<bool>>,
}

impl Codec {
    pub(super) fn new(level: i32, columns: usize) -> Result<Self> {
        Ok(Self { zstd: Compressor::new(level).map_err(failed)?, pays: vec![None; columns] })
    }

    /// The pages of a column chunk, compressed or not, and how.
    pub(super) fn store(
        &mut self,
        column: usize,
        pages: Vec<Vec<u8>>,
    ) -> Result<(Vec<Vec<u8>>, CompressionCodec)> {
        if self.pays[column] == Some(false) {
            return Ok((pages, CompressionCodec::UNCOMPRESSED));
        }
        let packed = pages.iter().map(|page| self.zstd.compress(page)).collect::<std::io::Result<Vec<_>>>();
        let packed = packed.map_err(failed)?;
        let size = |pages: &[Vec<u8>]| pages.iter().map(Vec::len).sum::<usize>();
        // Less than a part in 256 is not worth the time to read it.
        let pays = size(&packed) < size(&pages) / 256 * 255;
        self.pays[column].get_or_insert(pays);
        Ok(if pays { (packed, CompressionCodec::ZSTD) } else { (pages, CompressionCodec::UNCOMPRESSED) })
    }
}

/// Append a page of `raw` bytes that are stored as `stored`; returns the length of its header.
pub(super) fn append(kind: Kind, raw: usize, stored: &[u8], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let page_type = match kind {
        Kind::Data(..) => 0,
        Kind::Dictionary(_) => 2,
    };
    for number in [page_type, raw as i32, stored.len() as i32, crc32fast::hash(stored) as i32] {
        field(1, number, out);
    }
    match kind {
        Kind::Data(rows, encoding) => {
            out.push(1 << 4 | STRUCT);
            [rows as i32, encoding, RLE, RLE].into_iter().for_each(|number| field(1, number, out));
        }
        Kind::Dictionary(values) => {
            out.push(3 << 4 | STRUCT);
            [values as i32, PLAIN].into_iter().for_each(|number| field(1, number, out));
        }
    }
    out.extend([0, 0]);
    let header = out.len() - start;
    out.extend(stored);
    header
}

/// A field of Thrift's compact protocol, so many ids behind the one before.
fn field(step: u8, number: i32, out: &mut Vec<u8>) {
    out.push(step << 4 | I32);
    unsigned(u64::from(((number << 1) ^ (number >> 31)) as u32), out);
}

/// Append a number, seven bits a byte.
#[inline]
pub(super) fn unsigned(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
