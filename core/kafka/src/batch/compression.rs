//! The compressions Kafka knows.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

/// No batch is larger when unpacked.
const LARGEST: u64 = 1 << 30;

/// What Kafka's own clients write before snappy blocks.
const SNAPPY_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// Versions 1 and 1, behind the magic bytes.
const SNAPPY_VERSIONS: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1];

/// Bytes in a snappy block, before it is compressed.
const SNAPPY_BLOCK: usize = 32 << 10;

/// How record batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard; Kafka 2.1 or newer.
    Zstd,
}

impl Compression {
    pub(super) fn code(self) -> u16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    pub(super) fn from_code(code: u16) -> Option<Compression> {
        let all = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        all.into_iter().find(|one| one.code() == code)
    }

    /// Appends `plain`, compressed, to `out`.
    pub(super) fn compress(self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Compression::None => out.extend_from_slice(plain),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(plain)?;
                encoder.finish()?;
            }
            Compression::Snappy => snappy(plain, out)?,
            Compression::Lz4 => {
                let mut encoder = FrameEncoder::new(out);
                encoder.write_all(plain)?;
                encoder.finish().map_err(io::Error::other)?;
            }
            Compression::Zstd => zstd::stream::copy_encode(plain, out, zstd::DEFAULT_COMPRESSION_LEVEL)?,
        }
        Ok(())
    }

    /// Unpacks `packed`.
    pub(super) fn decompress(self, packed: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(packed.to_vec()),
            Compression::Gzip => bounded(GzDecoder::new(packed)),
            Compression::Snappy => unsnappy(packed),
            Compression::Lz4 => bounded(FrameDecoder::new(packed)),
            Compression::Zstd => bounded(zstd::stream::Decoder::with_buffer(packed)?),
        }
    }
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let read = from.take(LARGEST + 1).read_to_end(&mut plain)?;
    if read as u64 > LARGEST {
        return Err(io::Error::other(format!("it unpacks to more than {LARGEST} bytes")));
    }
    Ok(plain)
}

fn snappy(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(SNAPPY_MAGIC);
    out.extend_from_slice(SNAPPY_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(SNAPPY_BLOCK) {
        let packed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

fn unsnappy(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = snap::raw::Decoder::new();
    let mut unpack = |block: &[u8]| {
        if snap::raw::decompress_len(block)? as u64 > LARGEST {
            return Err(io::Error::other(format!("it unpacks to more than {LARGEST} bytes")));
        }
        Ok(decoder.decompress_vec(block)?)
    };
    let Some(framed) = packed.strip_prefix(SNAPPY_MAGIC) else {
        // Other clients write one block without a frame.
        return unpack(packed);
    };
    let cut_off = || io::Error::other("a snappy block is cut off");
    let mut left = framed.get(SNAPPY_VERSIONS.len()..).ok_or_else(cut_off)?;
    let mut plain = Vec::new();
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        plain.extend_from_slice(&unpack(block)?);
        if plain.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("it unpacks to more than {LARGEST} bytes")));
        }
        left = rest;
    }
    if left.is_empty() { Ok(plain) } else { Err(cut_off()) }
}
