//! How large a store's parts are.

use crate::{KeyGroups, LsmError};

const MIB: usize = 1 << 20;
/// A write buffer counts places in four bytes; this leaves room for the largest entry.
const LARGEST_BUFFER: usize = 8 << 30;

/// How a store is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the names of new files begin with. Must differ between all stores that ever write for a job (name the task and its
    /// attempt in it), so that a file's name says which file it is, for ever and everywhere.
    pub prefix: String,
    /// The key groups of the task. Keys of other groups are refused.
    pub key_groups: KeyGroups,
    /// What write buffers and cached blocks may take together, in bytes. Indexes and filters of the files, about 2 % of the state
    /// on disk with entries of 100 bytes, are taken off what the cache may use.
    pub memory: usize,
    /// About how large a block is, in bytes: what is read from disk for one entry.
    pub block_size: usize,
}

impl Options {
    /// 128 MiB of memory, blocks of 4 KiB: state is mostly read one key at a time, and what is not cached has to be read and checked
    /// by the block.
    pub fn new(prefix: impl Into<String>, key_groups: KeyGroups) -> Self {
        Self { prefix: prefix.into(), key_groups, memory: 128 * MIB, block_size: 4 << 10 }
    }

    pub(crate) fn check(&self) -> Result<(), LsmError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.prefix.is_empty() || self.prefix.starts_with('.') || !self.prefix.chars().all(allowed) {
            return Err(LsmError::InvalidPrefix { prefix: self.prefix.clone() });
        }
        Ok(())
    }

    pub(crate) fn sizes(&self) -> Sizes {
        // One buffer being filled and two on their way to disk take half of the memory.
        let buffer = (self.memory / 6).clamp(1 << 10, LARGEST_BUFFER);
        Sizes {
            buffer,
            cache: self.memory / 2,
            block: self.block_size.max(64),
            file: buffer.min(32 * MIB),
            level_one: 4 * buffer as u64,
        }
    }
}

/// What follows from the options, all in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// A write buffer is full at.
    pub buffer: usize,
    /// Cached blocks, indexes and filters together.
    pub cache: usize,
    /// A block is complete at.
    pub block: usize,
    /// A merged file is complete at.
    pub file: usize,
    /// What level 1 holds; each further one ten times as much.
    pub level_one: u64,
}
