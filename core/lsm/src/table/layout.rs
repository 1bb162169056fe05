//! How a state file is laid out.
//!
//! ```text
//! block | checksum        one after the other, from byte 0, in ascending order of keys
//! …
//! filter | checksum
//! index | checksum        per block: its last key, its length with the checksum
//! properties | checksum
//! footer                  40 bytes: properties at (u64), their length (u32), format (u32), length of the file (u64),
//!                         checksum of the 24 bytes before (u64), magic (8 bytes)
//! ```
//!
//! Checksums are XXH3-64, seeded with the file's name and where the part begins, so that a part of another file or from another place is noticed
//! too. (Those of properties and footer are not seeded: they have to be read before the name is known.)

use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::LsmError;
use crate::encoding::{Reader, put_bytes, put_varint, u32_at, u64_at};

pub(crate) const FOOTER: usize = 40;
pub(crate) const CHECKSUM: usize = 8;
const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"weir-lsm";

/// Where a part of the file lies, its checksum included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub at: u64,
    pub length: usize,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Properties {
    /// The name the file was written under, unique for ever.
    pub name: String,
    /// The level it was written for. In a store, the entry of the lowest level is the newest.
    pub level: usize,
    /// Among the files of level 0, the highest number is the newest.
    pub sequence: u64,
    /// Number of entries, tombstones included.
    pub entries: u64,
    pub smallest: Vec<u8>,
    pub largest: Vec<u8>,
    pub filter: Part,
    pub index: Part,
}

impl Properties {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.name.as_bytes());
        for number in [self.level as u64, self.sequence, self.entries] {
            put_varint(&mut out, number);
        }
        put_bytes(&mut out, &self.smallest);
        put_bytes(&mut out, &self.largest);
        for part in [self.filter, self.index] {
            put_varint(&mut out, part.at);
            put_varint(&mut out, part.length as u64);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes, 0);
        let name = str::from_utf8(reader.bytes()?).ok()?.to_owned();
        let level = reader.length()?;
        let sequence = reader.varint()?;
        let entries = reader.varint()?;
        let smallest = reader.bytes()?.to_vec();
        let largest = reader.bytes()?.to_vec();
        let mut part = || Some(Part { at: reader.varint()?, length: reader.length()? });
        let (filter, index) = (part()?, part()?);
        let whole = Self { name, level, sequence, entries, smallest, largest, filter, index };
        reader.is_at_end().then_some(whole)
    }
}

/// The last bytes of a file.
pub(crate) struct Footer {
    pub properties: Part,
    /// Of the whole file, in bytes.
    pub length: u64,
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER] {
        let mut out = [0; FOOTER];
        out[..8].copy_from_slice(&self.properties.at.to_le_bytes());
        out[8..12].copy_from_slice(&(self.properties.length as u32).to_le_bytes());
        out[12..16].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.length.to_le_bytes());
        let checksum = xxh3_64(&out[..24]);
        out[24..32].copy_from_slice(&checksum.to_le_bytes());
        out[32..].copy_from_slice(&MAGIC);
        out
    }

    /// Reads the footer of the file at `path`, whose length the system says is `length`.
    pub(crate) fn decode(bytes: &[u8; FOOTER], path: &Path, length: u64) -> Result<Self, LsmError> {
        let at = length.saturating_sub(FOOTER as u64);
        let corrupt = |problem| LsmError::corrupt(path, at, problem);
        if bytes[32..] != MAGIC {
            return Err(corrupt("it does not end as a state file does; it was cut off or is another kind of file"));
        }
        if u64_at(bytes, 24) != Some(xxh3_64(&bytes[..24])) {
            return Err(corrupt("the checksum of the footer is wrong"));
        }
        let number = |at| u32_at(bytes, at).ok_or_else(|| corrupt("the footer is too short"));
        let long = |at| u64_at(bytes, at).ok_or_else(|| corrupt("the footer is too short"));
        let format = number(12)?;
        if format != FORMAT {
            return Err(LsmError::UnknownFormat { path: path.to_path_buf(), found: format, supported: FORMAT });
        }
        if long(16)? != length {
            return Err(corrupt("the file has another length than when it was written"));
        }
        Ok(Self { properties: Part { at: long(0)?, length: number(8)? as usize }, length })
    }
}

/// Checks and cuts off the checksum at the end of `bytes`.
pub(crate) fn unseal(bytes: &mut Vec<u8>, seed: u64) -> Result<(), &'static str> {
    let end = bytes.len().checked_sub(CHECKSUM).ok_or("the part is shorter than its checksum")?;
    if u64_at(bytes, end) != Some(xxh3_64_with_seed(&bytes[..end], seed)) {
        return Err("the checksum is wrong");
    }
    bytes.truncate(end);
    Ok(())
}

pub(crate) fn seal(bytes: &mut Vec<u8>, seed: u64) {
    let checksum = xxh3_64_with_seed(bytes, seed);
    bytes.extend_from_slice(&checksum.to_le_bytes());
}

/// The seed for properties.
pub(crate) const UNSEEDED: u64 = 0;

/// What the checksums in the file called `name` are seeded with, to be mixed with where the part begins.
pub(crate) fn seed_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}
