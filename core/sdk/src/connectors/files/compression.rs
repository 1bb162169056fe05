//! Compression, recognised by the first bytes of a file whatever its name says.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use weir_derive::Record;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::FileError;

/// Compressed bytes read at once.
const COMPRESSED_BLOCK: usize = 128 << 10;

/// Number of bytes [`Compression::of`] wants to see.
pub(super) const MAGIC: usize = 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Record)]
#[record(crate = "weir_dataflow::record")]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip, in one or several members.
    Gzip,
    /// With Zstandard, in one or several frames.
    Zstd,
}

impl Compression {
    /// Looks at the first bytes of the file at `path`.
    pub(super) fn of(path: &Path, start: &[u8]) -> Result<Compression, FileError> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            // A frame, or a skippable frame before the first one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => unsupported(path, "bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported(path, "xz"),
            [b'P', b'K', 3, 4, ..] => unsupported(path, "zip"),
            [4, 0x22, 0x4d, 0x18, ..] => unsupported(path, "lz4"),
            _ => Ok(Compression::None),
        }
    }
}

fn unsupported(path: &Path, format: &'static str) -> Result<Compression, FileError> {
    Err(FileError::UnsupportedCompression { path: path.to_owned(), format })
}

/// The decompressed bytes of a file.
pub(super) enum Decompressing {
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(ZstdDecoder<'static, BufReader<File>>),
}

impl Decompressing {
    /// `None` for a file that is not compressed, which is given back.
    pub(super) fn new(compression: Compression, file: File) -> io::Result<Result<Decompressing, File>> {
        let buffered = |file| BufReader::with_capacity(COMPRESSED_BLOCK, file);
        Ok(match compression {
            Compression::None => Err(file),
            Compression::Gzip => Ok(Decompressing::Gzip(Box::new(MultiGzDecoder::new(buffered(file))))),
            Compression::Zstd => Ok(Decompressing::Zstd(ZstdDecoder::with_buffer(buffered(file))?)),
        })
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Decompressing::Gzip(decoder) => decoder.get_ref().get_ref(),
            Decompressing::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    pub(super) fn format(&self) -> &'static str {
        match self {
            Decompressing::Gzip(_) => "gzip",
            Decompressing::Zstd(_) => "zstd",
        }
    }
}

impl Read for Decompressing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressing::Gzip(decoder) => decoder.read(out),
            Decompressing::Zstd(decoder) => decoder.read(out),
        }
    }
}
