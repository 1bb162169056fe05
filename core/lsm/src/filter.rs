//! A Bloom filter in lines of 64 bytes: one cache miss tells that a file does not have a key.

/// Ten bits a key with six probes in one line: about one key in seventy that is not there passes.
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 6;
const LINE: usize = 64;

/// Which keys a file may have, by the XXH3-64 of the key.
#[derive(Debug)]
pub(crate) struct Filter {
    bytes: Vec<u8>,
}

impl Filter {
    pub(crate) fn build(hashes: &[u64]) -> Self {
        let lines = (hashes.len() * BITS_PER_KEY).div_ceil(8 * LINE).max(1);
        let mut filter = Self { bytes: vec![0; lines * LINE] };
        for &hash in hashes {
            let line = filter.line(hash);
            for bit in probes(hash) {
                filter.bytes[line + bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(LINE) {
            return Err("the filter has no whole number of lines");
        }
        Ok(Self { bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let line = self.line(hash);
        probes(hash).all(|bit| self.bytes[line + bit / 8] & (1 << (bit % 8)) != 0)
    }

    /// The upper half of the hash picks the line, the lower half the bits in it.
    #[inline]
    fn line(&self, hash: u64) -> usize {
        let lines = (self.bytes.len() / LINE) as u64;
        (((hash >> 32) * lines) >> 32) as usize * LINE
    }
}

#[inline]
fn probes(hash: u64) -> impl Iterator<Item = usize> {
    let mut mixed = (hash as u32).wrapping_mul(0x9e37_79b1);
    (0..PROBES).map(move |_| {
        let bit = (mixed >> 23) as usize;
        mixed = mixed.wrapping_mul(0x9e37_79b1).rotate_left(11);
        bit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn knows_every_key_and_few_others() {
        let hash = |number: u32| xxh3_64(&number.to_le_bytes());
        let hashes: Vec<u64> = (0..20_000).map(hash).collect();
        let filter = Filter::build(&hashes);
        assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
        let wrong = (20_000..120_000).filter(|&number| filter.may_contain(hash(number))).count();
        assert!(wrong < 3_000, "{wrong} of 100000 keys that are not there pass");
    }
}
