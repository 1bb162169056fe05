//! The input every system reads: bids as a pure function of their number, and what a right run must have seen of them.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Auctions (the keys) are uniform in `0..AUCTIONS`.
pub const AUCTIONS: u64 = 10_000;

/// Keys of the workloads with an [`Account`] each.
pub const ACCOUNTS: u64 = 1_000_000;

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
    /// Microseconds of event time, so 10^6 events a second of it; in the latency workload, when the bid was due (nanoseconds of the monotonic clock).
    pub event_time: u64,
}

impl Bid {
    /// Returns bid number `n`. Its content and event time depend on `n` only, so a source splits and replays exactly.
    #[inline(always)]
    pub fn nth(n: u64) -> Bid {
        Bid::among(AUCTIONS, n)
    }

    /// Returns bid number `n` on auctions uniform in `0..auctions`, at most 2^32.
    #[inline(always)]
    pub fn among(auctions: u64, n: u64) -> Bid {
        let bits = split_mix(n);
        Bid {
            auction: ((bits >> 32) * auctions) >> 32,
            bidder: bits & 0xfff,
            price: 1 + ((bits >> 12) & 0xf_ffff),
            event_time: n,
        }
    }

    /// Milliseconds of event time.
    #[inline(always)]
    pub fn event_millis(&self) -> i64 {
        (self.event_time / 1000) as i64
    }
}

/// State of an auction: 100 bytes when written, and the same whatever the order of the bids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, weir::Record)]
pub struct Account {
    /// Number of bids.
    pub bids: u64,
    /// Sum of their prices.
    pub total: u64,
    /// The highest price.
    pub highest: u64,
    /// Event time of the latest bid.
    pub latest: u64,
    /// Sum of the bidders' numbers.
    pub bidders: u64,
    /// Number of bids by the size of the price.
    pub prices: [u32; 15],
}

impl Account {
    /// Takes one bid in.
    #[inline(always)]
    pub fn update(&mut self, bid: &Bid) {
        self.bids += 1;
        self.total = self.total.wrapping_add(bid.price);
        self.highest = self.highest.max(bid.price);
        self.latest = self.latest.max(bid.event_time);
        self.bidders = self.bidders.wrapping_add(bid.bidder);
        // Prices are in 1..=2^20.
        self.prices[((bid.price >> 16) & 0xf).min(14) as usize] += 1;
    }

    fn digest(&self) -> u64 {
        let words = [self.total, self.highest, self.latest, self.bidders];
        let words = words.into_iter().chain(self.prices.map(u64::from));
        words.fold(self.bids, |digest, word| split_mix(digest ^ word))
    }
}

/// Event-time windows of a workload, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Number of keys.
    pub auctions: u64,
    /// Length of a window.
    pub size: u64,
    /// Distance between the starts of two windows; divides the length.
    pub slide: u64,
}

impl Windows {
    /// One second, 10 000 keys.
    pub const WINDOW: Windows = Windows { auctions: AUCTIONS, size: 1000, slide: 1000 };
    /// One second, 100 keys.
    pub const TUMBLING_1S: Windows = Windows { auctions: 100, size: 1000, slide: 1000 };
    /// As many results as [`SLIDING`](Self::SLIDING).
    pub const TUMBLING_1MS: Windows = Windows { auctions: 100, size: 1, slide: 1 };
    /// One second that begins each millisecond, 100 keys.
    pub const SLIDING: Windows = Windows { auctions: 100, size: 1000, slide: 1 };
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

    /// Takes the final state of one account in.
    #[inline]
    pub fn account(&mut self, key: u64, account: &Account) {
        self.digest(split_mix(key) ^ account.digest(), account.bids);
    }

    /// Takes the count of one key in the window that starts at a millisecond in.
    #[inline]
    pub fn window_count(&mut self, key: u64, start: i64, count: u64) {
        // Different multipliers, so that starts cannot take the place of keys.
        let window = (start as u64).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ key.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.digest(window, count);
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
    use super::{ACCOUNTS, AUCTIONS, Account, Bid, Observed, Windows, convert, is_selected, part};
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

    /// The account of every auction (keyed state).
    pub fn accounts(records: u64) -> Observed {
        // Each thread has half of the keys.
        let half = |range: std::ops::Range<u64>| {
            let mut accounts = vec![Account::default(); (range.end - range.start) as usize];
            for bid in (0..records).map(|n| Bid::among(ACCOUNTS, n)).filter(|bid| range.contains(&bid.auction)) {
                accounts[(bid.auction - range.start) as usize].update(&bid);
            }
            let mut seen = Observed::default();
            for (key, account) in range.zip(&accounts).filter(|(_, account)| account.bids > 0) {
                seen.account(key, account);
            }
            seen
        };
        thread::scope(|scope| {
            let second = scope.spawn(|| half(part(ACCOUNTS, 1, 2)));
            half(part(ACCOUNTS, 0, 2)).merge(second.join().expect("the reference computation does not panic"))
        })
    }

    /// The count of every auction in every window that has one of its bids.
    pub fn windowed(records: u64, windows: Windows) -> Observed {
        let Windows { auctions, size, slide } = windows;
        let panes = (records / 1000 / slide + 1) as usize;
        let mut counts = vec![0u32; panes * auctions as usize];
        for bid in (0..records).map(|n| Bid::among(auctions, n)) {
            counts[bid.auction as usize * panes + (bid.event_time / 1000 / slide) as usize] += 1;
        }
        let in_window = (size / slide) as usize;
        let mut seen = Observed::default();
        for (key, counts) in counts.chunks_exact(panes).enumerate() {
            let mut sum = 0;
            // The window that ends with pane `last`; the first ones begin before there are bids.
            for last in 0..panes + in_window - 1 {
                sum += u64::from(counts.get(last).copied().unwrap_or(0));
                if sum > 0 {
                    let start = (last as i64 + 1 - in_window as i64) * slide as i64;
                    seen.window_count(key as u64, start, sum);
                }
                sum -= (last + 1).checked_sub(in_window).map_or(0, |first| u64::from(counts[first]));
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
        assert_eq!(expected::accounts(records).count, records);
        assert_eq!(expected::windowed(records, Windows::WINDOW).count, records);
        assert_eq!(expected::windowed(records, Windows::TUMBLING_1MS).count, records);
        assert_eq!(expected::windowed(records, Windows::SLIDING).count, 1000 * records, "a bid is in 1 000 windows");
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
