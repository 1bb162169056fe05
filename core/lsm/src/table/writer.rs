//! Writes state files.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::LsmError;
use crate::block::BlockBuilder;
use crate::filter::Filter;
use crate::table::index::Index;
use crate::table::layout::{Footer, Part, Properties, UNSEEDED, seal, seed_of};
use crate::table::{OwnedFile, Table};

/// What a new file is.
#[derive(Debug, Clone)]
pub(crate) struct WriterOptions {
    pub name: String,
    pub level: usize,
    pub sequence: u64,
    /// A block is complete at this length, in bytes.
    pub block_size: usize,
}

/// A file being written, under a temporary name until it is complete. Dropped before that, it leaves nothing.
pub(crate) struct TableWriter {
    options: WriterOptions,
    out: Output,
    path: PathBuf,
    seed: u64,
    block: BlockBuilder,
    index: Index,
    hashes: Vec<u64>,
    smallest: Vec<u8>,
    largest: Vec<u8>,
}

impl TableWriter {
    pub(crate) fn create(folder: &Path, options: WriterOptions) -> Result<Self, LsmError> {
        let path = folder.join(&options.name);
        Ok(Self {
            out: Output::create(path.with_added_extension("tmp"))?,
            seed: seed_of(&options.name),
            path,
            options,
            block: BlockBuilder::default(),
            index: Index::default(),
            hashes: Vec::new(),
            smallest: Vec::new(),
            largest: Vec::new(),
        })
    }

    /// Adds the entry of `key`, whose XXH3-64 is `hash`. Keys must come in ascending order.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, value: Option<&[u8]>) -> Result<(), LsmError> {
        if self.hashes.is_empty() {
            self.smallest = key.to_vec();
        }
        debug_assert!(self.hashes.is_empty() || *self.largest < *key, "keys must ascend");
        // A large value stands alone, so that its small neighbours are not read with it.
        let length = key.len() + value.map_or(0, <[u8]>::len);
        if !self.block.is_empty() && self.block.length() + length > self.options.block_size {
            self.end_block()?;
        }
        self.block.add(key, value);
        self.hashes.push(hash);
        self.largest.clear();
        self.largest.extend_from_slice(key);
        Ok(())
    }

    /// About how long the file is by now, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.out.at + self.block.length() as u64
    }

    /// Completes the file, which has at least one entry.
    pub(crate) fn finish(mut self) -> Result<Table, LsmError> {
        self.end_block()?;
        let filter = Filter::build(&self.hashes);
        let filter_part = self.out.part(&mut filter.bytes().to_vec(), self.seed)?;
        let index_part = self.out.part(&mut self.index.encode(), self.seed)?;
        let properties = Properties {
            name: self.options.name,
            level: self.options.level,
            sequence: self.options.sequence,
            entries: self.hashes.len() as u64,
            smallest: self.smallest,
            largest: self.largest,
            filter: filter_part,
            index: index_part,
        };
        let mut encoded = properties.encode();
        seal(&mut encoded, UNSEEDED);
        let part = Part { at: self.out.at, length: encoded.len() };
        self.out.write(&encoded)?;
        let length = self.out.at + crate::table::FOOTER as u64;
        self.out.write(&Footer { properties: part, length }.encode())?;
        let checksum = self.out.digest.digest();
        let file = self.out.finish(&self.path)?;
        let owned = OwnedFile { path: self.path };
        Ok(Table { owned, file, properties, seed: self.seed, length, checksum, index: self.index, filter })
    }

    fn end_block(&mut self) -> Result<(), LsmError> {
        let bytes = self.block.finish();
        let part = self.out.part(bytes, self.seed)?;
        self.index.push(&self.largest, part.length);
        self.block.clear();
        Ok(())
    }
}

/// The bytes on their way to disk.
struct Output {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    at: u64,
    digest: Xxh3,
}

impl Output {
    fn create(temporary: PathBuf) -> Result<Self, LsmError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(|error| LsmError::io("creating", &temporary, error))?;
        Ok(Self { file: Some(BufWriter::with_capacity(256 << 10, file)), temporary, at: 0, digest: Xxh3::new() })
    }

    /// Writes `bytes` and their checksum.
    fn part(&mut self, bytes: &mut Vec<u8>, seed: u64) -> Result<Part, LsmError> {
        seal(bytes, seed ^ self.at);
        let part = Part { at: self.at, length: bytes.len() };
        self.write(bytes)?;
        Ok(part)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LsmError> {
        let file = self.file.as_mut().expect("an output is finished once, by value");
        file.write_all(bytes).map_err(|error| LsmError::io("writing", &self.temporary, error))?;
        self.digest.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its final name.
    fn finish(mut self, path: &Path) -> Result<File, LsmError> {
        let file = self.file.take().expect("an output is finished once, by value");
        let file = file.into_inner().map_err(|error| LsmError::io("writing", &self.temporary, error.into_error()))?;
        if let Err(error) = fs::rename(&self.temporary, path) {
            self.remove();
            return Err(LsmError::io("renaming", &self.temporary, error));
        }
        Ok(file)
    }

    fn remove(&self) {
        // The error that led here is the one to report.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // What is still in the buffer is of no use to anybody.
            drop(file.into_parts());
            self.remove();
        }
    }
}
