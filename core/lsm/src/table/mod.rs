//! An immutable file of sorted entries.

mod index;
mod layout;
mod view;
mod writer;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::LsmError;
use crate::block::Block;
use crate::filter::Filter;
use index::Index;
use layout::{FOOTER, Footer, Part, Properties, UNSEEDED, seed_of, unseal};

pub(crate) use view::TableView;
pub(crate) use writer::{TableWriter, WriterOptions};

/// A file in the store's folder that goes when nobody needs it any more.
#[derive(Debug)]
struct OwnedFile {
    path: PathBuf,
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        // What cannot be removed goes with the task's folder; there is nobody to tell.
        let _ = fs::remove_file(&self.path);
    }
}

/// An open state file with its index and filter. Dropping the last reference removes the file.
#[derive(Debug)]
pub(crate) struct Table {
    owned: OwnedFile,
    file: File,
    properties: Properties,
    seed: u64,
    length: u64,
    checksum: u64,
    index: Index,
    filter: Filter,
}

impl Table {
    /// Opens the file at `path` and takes it over. `checksum` is that of the whole file; it is passed on and not compared, each
    /// block has its own.
    pub(crate) fn open(path: &Path, checksum: u64) -> Result<Self, LsmError> {
        let owned = OwnedFile { path: path.to_path_buf() };
        let file = File::open(path).map_err(|error| LsmError::io("opening", path, error))?;
        let length = file.metadata().map_err(|error| LsmError::io("looking at", path, error))?.len();
        let Some(footer_at) = length.checked_sub(FOOTER as u64) else {
            return Err(LsmError::corrupt(path, 0, "it is too short to be a state file"));
        };
        let footer = read(&file, path, Part { at: footer_at, length: FOOTER }, length)?;
        let footer =
            footer.first_chunk().ok_or_else(|| LsmError::corrupt(path, footer_at, "the footer is too short"))?;
        let footer = Footer::decode(footer, path, length)?;
        let part = |part: Part, seed| {
            let mut bytes = read(&file, path, part, footer_at)?;
            unseal(&mut bytes, seed).map_err(|problem| LsmError::corrupt(path, part.at, problem))?;
            Ok(bytes)
        };
        let properties_at = footer.properties.at;
        let properties = Properties::decode(&part(footer.properties, UNSEEDED)?)
            .ok_or_else(|| LsmError::corrupt(path, properties_at, "the properties make no sense"))?;
        let seed = seed_of(&properties.name);
        let filter = Filter::parse(part(properties.filter, seed ^ properties.filter.at)?)
            .map_err(|problem| LsmError::corrupt(path, properties.filter.at, problem))?;
        let index = Index::parse(&part(properties.index, seed ^ properties.index.at)?)
            .filter(|index| index.end() == properties.filter.at)
            .ok_or_else(|| LsmError::corrupt(path, properties.index.at, "the index does not fit the blocks"))?;
        Ok(Self { owned, file, properties, seed, length, checksum, index, filter })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.owned.path
    }

    pub(crate) fn name(&self) -> &str {
        &self.properties.name
    }

    pub(crate) fn level(&self) -> usize {
        self.properties.level
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.properties.sequence
    }

    pub(crate) fn entries(&self) -> u64 {
        self.properties.entries
    }

    /// Of the file, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// XXH3-64 of the whole file.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// What index and filter take in memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.index.size() + self.filter.bytes().len()
    }

    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter.may_contain(hash)
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.index.len()
    }

    /// The only block that can have `key`.
    pub(crate) fn find_block(&self, key: &[u8]) -> Option<usize> {
        self.index.find(key)
    }

    /// Reads a block from disk and checks it.
    pub(crate) fn read_block(&self, number: usize) -> Result<Block, LsmError> {
        let part = self.index.block(number);
        let corrupt = |problem| LsmError::corrupt(self.path(), part.at, problem);
        let mut bytes = read(&self.file, self.path(), part, self.properties.filter.at)?;
        unseal(&mut bytes, self.seed ^ part.at).map_err(corrupt)?;
        Block::parse(bytes).map_err(corrupt)
    }
}

/// Reads a part that must end at `limit` or before, so that a wrong length cannot ask for all the memory there is.
fn read(file: &File, path: &Path, part: Part, limit: u64) -> Result<Vec<u8>, LsmError> {
    if part.at.checked_add(part.length as u64).is_none_or(|end| end > limit) {
        return Err(LsmError::corrupt(path, part.at, "a part reaches beyond the end of the file"));
    }
    let mut bytes = vec![0; part.length];
    file.read_exact_at(&mut bytes, part.at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => LsmError::corrupt(path, part.at, "the file ends too early"),
        _ => LsmError::io("reading", path, error),
    })?;
    Ok(bytes)
}
