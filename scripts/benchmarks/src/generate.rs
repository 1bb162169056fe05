//! The input every system reads: bids as a pure function of their number, and what a right run must have seen of them.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Auctions (the keys) are uniform in `0..AUCTIONS`.
pub const AUCTIONS: u64 = 10_000;

/// One bid: 32 bytes, four little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, Serialize, Deserialize, weir::Record)]
#[repr(C)]
pub struct Bid {
    /// The auction bid on, in `0..AUCTIONS`; the key of every keyed workload.
    pub auction: u64,
    /// Who bids.
    pub bidder: u64,
    /// The price in the seller's currency.
    pub price: u64,
    /// Microseconds of event time; in the latency workload, when the bid was due (nanoseconds of the monotonic clock).
    pub event_time: u64,
}

impl Bid {
    /// Returns bid number `n`. Its content and event time depend on `n` only, so a source splits and replays exactly.
    #[inline(always)]
    pub fn nth(n: u64) -> Bid {
        let bits = split_mix(n);
        Bid {
            auction: ((bits >> 32) * AUCTIONS) >> 32,
            bidder: bits & 0xfff,
            price: 1 + ((bits >> 12) & 0xf_ffff),
            event_time: n,
        }
    }
}

/// SplitMix64's output number `n` for seed 0 (Steele, Lea, Flood 2014).
#[inline(always)]
pub fn split_mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The map of q0: a price in another currency.
#[inline(always)]
pub fn convert(price: u64) -> u64 {
    price * 908 / 1000
}

/// The filter of q2.
#[inline(always)]
pub fn is_selected(auction: u64) -> bool {
    auction.is_multiple_of(123)
}

/// Mixes a key for distributing it over subtasks; the high bits are the good ones.
#[inline(always)]
pub fn route(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The numbers of part `index` of `parts` equal contiguous parts of `0..records`.
pub fn part(records: u64, index: usize, parts: usize) -> Range<u64> {
    let cut = |i: usize| (u128::from(records) * i as u128 / parts as u128) as u64;
    cut(index)..cut(index + 1)
}

/// What the sinks of a run saw, all subtasks together: enough to tell a right result from a wrong one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Records received by the sinks; for the counting workloads the sum of the final counts.
    pub count: u64,
    /// The wrapping sum of the prices received; for the counting workloads of [`count_digest`] over the final counts.
    pub sum: u64,
}

impl Observed {
    /// Takes one bid in.
    #[inline(always)]
    pub fn bid(&mut self, bid: &Bid) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(bid.price);
    }

    /// Takes a batch of bids in.
    #[inline]
    pub fn bids(&mut self, bids: &[Bid]) {
        self.count += bids.len() as u64;
        self.sum = bids.iter().fold(self.sum, |sum, bid| sum.wrapping_add(bid.price));
    }

    /// Takes the final count of one integer key in.
    #[inline]
    pub fn key_count(&mut self, key: u64, count: u64) {
        self.digest(split_mix(key), count);
    }

    /// Takes the final count of one word in.
    #[inline]
    pub fn word_count(&mut self, word: &[u8], count: u64) {
        self.digest(word_digest(word), count);
    }

    fn digest(&mut self, key: u64, count: u64) {
        self.count += count;
        self.sum = self.sum.wrapping_add(count_digest(key, count));
    }

    /// Adds what another sink saw.
    pub fn merge(mut self, other: Observed) -> Observed {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self
    }
}

/// A digest of one final count that depends on both parts, so that a sum over all keys notices a key counted twice,
/// a count reported twice, and counts swapped between keys.
fn count_digest(key: u64, count: u64) -> u64 {
    split_mix(key ^ count.wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// FNV-1a over the bytes of a word: fixed, so that generator and jobs agree.
pub fn word_digest(word: &[u8]) -> u64 {
    word.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Computes, by itself and on two threads, what the sinks must see of the first `records` bids.
pub mod expected {
    use super::{AUCTIONS, Bid, Observed, convert, is_selected, part};
    use std::thread;

    /// All bids with converted prices (q0).
    pub fn converted(records: u64) -> Observed {
        halves(records, |numbers| {
            let sum = numbers.clone().fold(0u64, |sum, n| sum.wrapping_add(convert(Bid::nth(n).price)));
            Observed { count: numbers.end - numbers.start, sum }
        })
    }

    /// The bids of every 123rd auction (q2).
    pub fn selected(records: u64) -> Observed {
        halves(records, |numbers| {
            let mut seen = Observed::default();
            for bid in numbers.map(Bid::nth) {
                let selected = u64::from(is_selected(bid.auction));
                seen.count += selected;
                seen.sum = seen.sum.wrapping_add(selected * bid.price);
            }
            seen
        })
    }

    /// All bids unchanged (the shuffles, latency).
    pub fn unchanged(records: u64) -> Observed {
        halves(records, |numbers| {
            let sum = numbers.clone().fold(0u64, |sum, n| sum.wrapping_add(Bid::nth(n).price));
            Observed { count: numbers.end - numbers.start, sum }
        })
    }

    /// The count of every auction (keyed count).
    pub fn counted(records: u64) -> Observed {
        let counts = thread::scope(|scope| {
            let parts = [0, 1].map(|index| {
                scope.spawn(move || {
                    let mut counts = vec![0u64; AUCTIONS as usize];
                    for n in part(records, index, 2) {
                        counts[Bid::nth(n).auction as usize] += 1;
                    }
                    counts
                })
            });
            parts.map(|part| part.join().expect("the reference computation does not panic"))
        });
        let mut seen = Observed::default();
        for (key, (a, b)) in counts[0].iter().zip(&counts[1]).enumerate() {
            if a + b > 0 {
                seen.key_count(key as u64, a + b);
            }
        }
        seen
    }

    fn halves(records: u64, compute: impl Fn(std::ops::Range<u64>) -> Observed + Sync) -> Observed {
        thread::scope(|scope| {
            let second = scope.spawn(|| compute(part(records, 1, 2)));
            let first = compute(part(records, 0, 2));
            first.merge(second.join().expect("the reference computation does not panic"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bids_are_a_fixed_function_of_their_number() {
        assert_eq!(split_mix(0), 0xe220_a839_7b1d_cdaf, "the published first output for seed 0");
        let bid = Bid::nth(41);
        assert_eq!(bid, Bid::nth(41));
        assert_eq!(bid.event_time, 41);
        assert!((0..100_000).map(Bid::nth).all(|bid| bid.auction < AUCTIONS && bid.price > 0));
        assert_eq!(size_of::<Bid>(), 32);
    }

    #[test]
    fn parts_cover_every_number_once() {
        let covered: Vec<u64> = (0..3).flat_map(|index| part(10, index, 3)).collect();
        assert_eq!(covered, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn references_agree_with_a_plain_loop() {
        let records = 20_001;
        let mut all = Observed::default();
        let mut selected = Observed::default();
        for bid in (0..records).map(Bid::nth) {
            all.bid(&bid);
            if is_selected(bid.auction) {
                selected.bid(&bid);
            }
        }
        assert_eq!(expected::unchanged(records), all);
        assert_eq!(expected::selected(records), selected);
        assert_eq!(expected::counted(records).count, records);
    }

    #[test]
    fn the_digest_notices_swapped_and_repeated_counts() {
        let digest = |counts: &[(u64, u64)]| {
            let mut seen = Observed::default();
            counts.iter().for_each(|(key, count)| seen.key_count(*key, *count));
            seen
        };
        assert_ne!(digest(&[(1, 5), (2, 6)]), digest(&[(1, 6), (2, 5)]));
        assert_ne!(digest(&[(1, 5)]), digest(&[(1, 2), (1, 3)]));
    }
}
