//! Files with checksums of their blocks, kept in memory: what is read from them is what was written, or an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes that have one checksum.
const BLOCK: usize = 64 * 1024;
/// Blocks read at a time.
const BLOCKS_READ: u64 = 16;

/// A file being written. Not flushed to the device: it is of use only to this process.
pub(super) struct CheckedWriter {
    file: File,
    place: Place,
    sums: Vec<u64>,
    /// Of the block that is not full yet.
    block: Xxh3,
    length: u64,
}

/// A file that goes with whoever knows of it.
#[derive(Debug)]
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl CheckedWriter {
    /// Begins a file where none is yet; its folder is made.
    pub(super) fn create(path: PathBuf) -> io::Result<CheckedWriter> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(CheckedWriter { file, place: Place(path), sums: Vec::new(), block: Xxh3::new(), length: 0 })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        while !bytes.is_empty() {
            let room = BLOCK - (self.length % BLOCK as u64) as usize;
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.update(part);
            self.length += part.len() as u64;
            if part.len() == room {
                self.end_block();
            }
            bytes = rest;
        }
        Ok(())
    }

    fn end_block(&mut self) {
        self.sums.push(self.block.digest());
        self.block.reset();
    }

    pub(super) fn finish(mut self) -> CheckedFile {
        if !self.length.is_multiple_of(BLOCK as u64) {
            self.end_block();
        }
        CheckedFile(Arc::new(Finished { place: self.place, sums: self.sums, length: self.length }))
    }
}

/// A file that was written. It is removed with the last of its clones.
#[derive(Debug, Clone)]
pub(super) struct CheckedFile(Arc<Finished>);

#[derive(Debug)]
struct Finished {
    place: Place,
    sums: Vec<u64>,
    length: u64,
}

impl CheckedFile {
    /// Its length in bytes, as it was written.
    pub(super) fn length(&self) -> u64 {
        self.0.length
    }

    /// Some of the bytes from `start` to `end`, which lie within it: from `start` on, and at least one.
    pub(super) fn read_some(&self, start: u64, end: u64) -> io::Result<(Vec<u8>, usize)> {
        let block = BLOCK as u64;
        let first = start / block;
        let last = end.div_ceil(block).min(first + BLOCKS_READ);
        let mut bytes = vec![0; (self.0.length.min(last * block) - first * block) as usize];
        File::open(&self.0.place.0)?.read_exact_at(&mut bytes, first * block)?;
        let sums = &self.0.sums[first as usize..last as usize];
        if bytes.chunks(BLOCK).zip(sums).any(|(block, sum)| xxh3_64(block) != *sum) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its content is not what was written"));
        }
        bytes.truncate((end - first * block).min(bytes.len() as u64) as usize);
        Ok((bytes, (start - first * block) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &tempfile::TempDir, bytes: &[u8], pieces: usize) -> CheckedFile {
        let mut writer = CheckedWriter::create(folder.path().join("some/copy")).unwrap();
        bytes.chunks(pieces).for_each(|piece| writer.write(piece).unwrap());
        writer.finish()
    }

    fn read(file: &CheckedFile, mut start: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while start < end {
            let (bytes, skipped) = file.read_some(start, end)?;
            all.extend_from_slice(&bytes[skipped..]);
            start += (bytes.len() - skipped) as u64;
        }
        Ok(all)
    }

    #[test]
    fn every_range_comes_back_whatever_the_pieces_were() {
        let bytes: Vec<u8> = (0..BLOCK * 20 + 17).map(|i| (i % 249) as u8).collect();
        for pieces in [BLOCK, BLOCK - 1, 3 * BLOCK + 5, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let file = written(&folder, &bytes, pieces);
            for (start, end) in
                [(0, bytes.len()), (BLOCK - 1, BLOCK + 1), (BLOCK, 19 * BLOCK), (5, 5), (bytes.len() - 1, bytes.len())]
            {
                assert!(
                    read(&file, start as u64, end as u64).unwrap() == bytes[start..end],
                    "{start}..{end} by {pieces}"
                );
            }
            drop(file);
            assert!(!folder.path().join("some/copy").exists());
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some/copy");
        let bytes: Vec<u8> = (0..200).collect();
        let file = written(&folder, &bytes, 64);
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(read(&file, 0, 1).is_err(), "flipped at {position}");
            fs::write(&path, &bytes[..position]).unwrap();
            assert!(read(&file, 0, 1).is_err(), "cut at {position}");
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&file, 10, 12).unwrap(), [10, 11]);
    }
}
