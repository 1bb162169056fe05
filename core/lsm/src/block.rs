//! A block: sorted entries that are read, checked and cached together.
//!
//! Layout: entries (`key length`, `0` for a tombstone or `value length + 1`, key, value; lengths as varints), the offset of each entry
//! (u32), the number of entries (u32). Numbers are little-endian. The offsets make a search binary, with no state to decode.

use std::cmp::Ordering;
use std::ops::Range;

use crate::encoding::{Reader, put_varint, u32_at};

/// Where an entry's parts lie in its block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub key: Range<usize>,
    /// `None`: the key was deleted.
    pub value: Option<Range<usize>>,
}

impl Entry {
    #[inline]
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let mut reader = Reader::new(bytes, at);
        let key_length = reader.length()?;
        let tag = reader.length()?;
        let key_at = reader.at();
        let value_at = key_at.checked_add(key_length)?;
        let value = match tag.checked_sub(1) {
            None => None,
            Some(length) => Some(value_at..value_at.checked_add(length)?),
        };
        Some(Self { key: key_at..value_at, value })
    }

    fn end(&self) -> usize {
        self.value.as_ref().map_or(self.key.end, |value| value.end)
    }
}

/// A block in memory whose structure was checked, so that reading from it cannot fail.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    count: usize,
    offsets_at: usize,
}

impl Block {
    /// Takes the block's bytes, without their checksum.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        const DISORDER: &str = "the entries of the block are not where its table says";
        let count_at = bytes.len().checked_sub(4).ok_or("the block is too short")?;
        let count = u32_at(&bytes, count_at).ok_or(DISORDER)? as usize;
        let offsets_at = count.checked_mul(4).and_then(|length| count_at.checked_sub(length)).ok_or(DISORDER)?;
        let mut end = 0;
        for number in 0..count {
            let at = u32_at(&bytes, offsets_at + 4 * number).ok_or(DISORDER)? as usize;
            if at != end {
                return Err(DISORDER);
            }
            end = Entry::read(&bytes, at).ok_or(DISORDER)?.end();
            if end > offsets_at {
                return Err(DISORDER);
            }
        }
        if count == 0 || end != offsets_at {
            return Err(DISORDER);
        }
        Ok(Self { bytes, count, offsets_at })
    }

    /// Number of entries, at least one.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What the block takes in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + size_of::<Self>()
    }

    #[inline]
    pub(crate) fn entry(&self, number: usize) -> Entry {
        u32_at(&self.bytes, self.offsets_at + 4 * number)
            .and_then(|at| Entry::read(&self.bytes, at as usize))
            .expect("the block was checked when it was read")
    }

    #[inline]
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// The entry with `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Entry> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.entry(middle);
            match self.bytes(&entry.key).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(entry),
            }
        }
        None
    }

    /// The number of the first entry whose key is not below `key`; the count when there is none.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.bytes(&self.entry(middle).key) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Puts a block together. Keys must come in ascending order.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl BlockBuilder {
    pub(crate) fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.offsets.push(self.bytes.len() as u32);
        put_varint(&mut self.bytes, key.len() as u64);
        put_varint(&mut self.bytes, value.map_or(0, |value| value.len() as u64 + 1));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The length the block would have now, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len() + 4 * self.offsets.len() + 4
    }

    /// The finished block's bytes; the builder can be used again after [`BlockBuilder::clear`].
    pub(crate) fn finish(&mut self) -> &mut Vec<u8> {
        for offset in &self.offsets {
            self.bytes.extend_from_slice(&offset.to_le_bytes());
        }
        self.bytes.extend_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        &mut self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.offsets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entries: &[(&[u8], Option<&[u8]>)]) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        for (key, value) in entries {
            builder.add(key, *value);
        }
        let length = builder.length();
        let bytes = builder.finish().clone();
        assert_eq!(bytes.len(), length);
        bytes
    }

    #[test]
    fn finds_each_entry_and_nothing_else() {
        let block = Block::parse(block(&[(b"b", Some(b"1")), (b"d", None), (b"f", Some(b""))])).unwrap();
        let find = |key: &[u8]| block.find(key).map(|entry| entry.value.map(|value| block.bytes(&value).to_vec()));
        assert_eq!(find(b"b"), Some(Some(b"1".to_vec())));
        assert_eq!(find(b"d"), Some(None));
        assert_eq!(find(b"f"), Some(Some(Vec::new())));
        for absent in [&b""[..], b"a", b"bb", b"c", b"e", b"g"] {
            assert_eq!(find(absent), None);
        }
        assert_eq!(["a", "b", "c", "f", "g"].map(|key| block.lower_bound(key.as_bytes())), [0, 0, 1, 2, 3]);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_can_be_read_without_a_panic() {
        let good = block(&[(b"alpha", Some(b"one")), (b"beta", Some(b"two")), (b"gamma", None)]);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(block) = Block::parse(bytes) {
                    for number in 0..block.count() {
                        let entry = block.entry(number);
                        block.bytes(&entry.key);
                        entry.value.map(|value| block.bytes(&value).len());
                    }
                }
            }
            assert!(Block::parse(good[..at].to_vec()).is_err(), "cut at {at}");
        }
    }
}
