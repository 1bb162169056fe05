//! Which block has a key, held in memory for each file.

use crate::encoding::{Reader, put_bytes, put_varint};
use crate::table::layout::Part;

/// The last key and the place of each block.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: Vec<u8>,
    /// Where each block's last key ends in `keys`.
    key_ends: Vec<u32>,
    /// Where each block ends in the file.
    block_ends: Vec<u64>,
}

impl Index {
    pub(crate) fn push(&mut self, last_key: &[u8], length: usize) {
        self.keys.extend_from_slice(last_key);
        self.key_ends.push(self.keys.len() as u32);
        self.block_ends.push(self.end() + length as u64);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.keys.len() + 8 * self.len());
        for block in 0..self.len() {
            put_bytes(&mut out, self.last_key(block));
            put_varint(&mut out, self.block(block).length as u64);
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut index = Self::default();
        let mut reader = Reader::new(bytes, 0);
        while !reader.is_at_end() {
            let last_key = reader.bytes()?;
            let length = reader.length()?;
            index.end().checked_add(length as u64)?;
            index.push(last_key, length);
        }
        (index.len() > 0).then_some(index)
    }

    /// Number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// Where the last block ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.block_ends.last().copied().unwrap_or(0)
    }

    pub(crate) fn block(&self, number: usize) -> Part {
        let at = number.checked_sub(1).map_or(0, |before| self.block_ends[before]);
        Part { at, length: (self.block_ends[number] - at) as usize }
    }

    /// The first block whose last key is not below `key`: the only one that can have it.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.last_key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < self.len()).then_some(low)
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.keys.capacity() + 4 * self.key_ends.capacity() + 8 * self.block_ends.capacity()
    }

    fn last_key(&self, block: usize) -> &[u8] {
        let start = block.checked_sub(1).map_or(0, |before| self.key_ends[before] as usize);
        &self.keys[start..self.key_ends[block] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_block_that_can_have_a_key() {
        let mut index = Index::default();
        index.push(b"c", 10);
        index.push(b"f", 20);
        let index = Index::parse(&index.encode()).unwrap();
        assert_eq!(
            [&b"a"[..], b"c", b"cc", b"f", b"g"].map(|key| index.find(key)),
            [Some(0), Some(0), Some(1), Some(1), None]
        );
        assert_eq!(index.block(1), Part { at: 10, length: 20 });
        assert_eq!(index.end(), 30);
        assert!(Index::parse(&[]).is_none(), "a file has at least one block");
    }
}
