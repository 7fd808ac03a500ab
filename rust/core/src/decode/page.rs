//! Pages in the one form that we write: each behind a header of fixed fields, with the checksum of what is stored.

use std::borrow::Cow;

use zstd::bulk::Decompressor;

use super::bits::Cursor;
use super::{Chunk, corrupt};
use crate::encode::page::{DELTA_BINARY_PACKED, I32, PLAIN, RLE, RLE_DICTIONARY, STRUCT};
use crate::error::Result;

/// Reads pages, and checks them if it is to.
pub(super) struct Reader {
    pub(super) verify: bool,
    zstd: Decompressor<'static>,
}

impl Reader {
    pub(super) fn new(verify: bool) -> Result<Self> {
        Ok(Self { verify, zstd: Decompressor::new().map_err(corrupt)? })
    }

    /// A dictionary page: how many values it has, and its bytes.
    pub(super) fn dictionary<'a>(
        &mut self,
        pages: &mut Cursor<'a>,
        chunk: &Chunk,
    ) -> Result<(usize, Cow<'a, [u8]>)> {
        let (header, values) = Header::of_dictionary(pages)?;
        Ok((values, self.body(&header, pages, chunk)?))
    }

    /// The data page of so many rows: indices into a dictionary, or deltas.
    pub(super) fn data<'a>(
        &mut self,
        pages: &mut Cursor<'a>,
        rows: usize,
        chunk: &Chunk,
    ) -> Result<Cow<'a, [u8]>> {
        let (header, said) = Header::of_data(pages, chunk.has_dictionary)?;
        if said != rows {
            return Err(corrupt("a data page of other rows than its footer says"));
        }
        let body = self.body(&header, pages, chunk)?;
        if pages.is_empty() { Ok(body) } else { Err(corrupt("bytes behind the last page")) }
    }

    /// What a page holds, decompressed.
    fn body<'a>(&mut self, header: &Header, pages: &mut Cursor<'a>, chunk: &Chunk) -> Result<Cow<'a, [u8]>> {
        let stored = pages.take(header.stored)?;
        if header.raw > chunk.raw {
            return Err(corrupt("a page of more bytes than its column chunk"));
        }
        if self.verify && crc32fast::hash(stored) != header.crc {
            return Err(corrupt("a page that does not match its checksum"));
        }
        let raw = match chunk.is_zstd {
            true => Cow::Owned(self.zstd.decompress(stored, header.raw).map_err(corrupt)?),
            false => Cow::Borrowed(stored),
        };
        if raw.len() == header.raw {
            Ok(raw)
        } else {
            Err(corrupt("a page of another size than its header says"))
        }
    }
}

/// Whether the dictionary page that bytes begin with has a header as we write it.
pub(super) fn is_our_dictionary(bytes: &[u8]) -> bool {
    Header::of_dictionary(&mut Cursor(bytes)).is_ok()
}

struct Header {
    raw: usize,
    stored: usize,
    crc: u32,
}

impl Header {
    /// The header of a dictionary page, and how many values that has.
    fn of_dictionary(pages: &mut Cursor<'_>) -> Result<(Self, usize)> {
        let header = Self::read(pages, 2, 3)?;
        let (values, encoding) = (pages.field(1)?, pages.field(1)?);
        pages.require(&[0, 0])?;
        if encoding != PLAIN {
            return Err(corrupt("a dictionary page of another encoding"));
        }
        Ok((header, size(values)?))
    }

    /// The header of a data page, and how many rows that has.
    fn of_data(pages: &mut Cursor<'_>, has_dictionary: bool) -> Result<(Self, usize)> {
        let header = Self::read(pages, 0, 1)?;
        let rows = size(pages.field(1)?)?;
        let said = [pages.field(1)?, pages.field(1)?, pages.field(1)?];
        pages.require(&[0, 0])?;
        let encoding = if has_dictionary { RLE_DICTIONARY } else { DELTA_BINARY_PACKED };
        if said != [encoding, RLE, RLE] {
            return Err(corrupt("a data page of other encodings than its footer says"));
        }
        Ok((header, rows))
    }

    /// The fields before those of the page's own kind, whose struct begins `step` fields on.
    fn read(chunk: &mut Cursor<'_>, page_type: i32, step: u8) -> Result<Self> {
        let (found, raw, stored, crc) = (chunk.field(1)?, chunk.field(1)?, chunk.field(1)?, chunk.field(1)?);
        chunk.require(&[step << 4 | STRUCT])?;
        if found != page_type {
            return Err(corrupt("a page of another kind"));
        }
        Ok(Self { raw: size(raw)?, stored: size(stored)?, crc: crc as u32 })
    }
}

fn size(number: i32) -> Result<usize> {
    usize::try_from(number).map_err(corrupt)
}

impl Cursor<'_> {
    /// A 32-bit field of Thrift's compact protocol, so many ids behind the one before.
    fn field(&mut self, step: u8) -> Result<i32> {
        self.require(&[step << 4 | I32])?;
        let number = u32::try_from(self.unsigned()?).map_err(corrupt)?;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    fn require(&mut self, bytes: &[u8]) -> Result<()> {
        if self.take(bytes.len())? == bytes { Ok(()) } else { Err(corrupt("a page header of another form")) }
    }
}
