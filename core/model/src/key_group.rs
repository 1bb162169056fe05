//! Key groups: the unit in which keyed state and keyed records are spread over subtasks.

use std::fmt;
use std::ops::Range;

/// The largest max-parallelism (number of key groups) a vertex may have.
pub const MAX_KEY_GROUPS: u32 = 1 << 15;

/// The least default max-parallelism.
const MIN_DEFAULT_KEY_GROUPS: u32 = 1 << 7;

/// Number of a key group, below the vertex's max-parallelism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the key groups of one vertex lie on its subtasks: contiguous ranges, as even as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyGroups {
    /// Number of key groups, from 1 to [`MAX_KEY_GROUPS`]. Never changes while the state lives.
    pub max_parallelism: u32,
    /// Number of subtasks, from 1 to `max_parallelism`.
    pub parallelism: u32,
}

impl KeyGroups {
    /// Key groups of a vertex whose numbers have been validated ([`crate::JobGraph::validate`]).
    pub fn new(max_parallelism: u32, parallelism: u32) -> Self {
        debug_assert!((1..=MAX_KEY_GROUPS).contains(&max_parallelism), "max-parallelism {max_parallelism}");
        debug_assert!((1..=max_parallelism).contains(&parallelism), "parallelism {parallelism} of {max_parallelism}");
        Self { max_parallelism, parallelism }
    }

    /// The group of a key with this hash, by multiply-shift of the upper 32 bits.
    ///
    /// The upper bits, because hash tables index by the lower ones: groups and table positions stay independent.
    #[inline]
    pub fn group_of(&self, hash: u64) -> KeyGroup {
        KeyGroup((((hash >> 32) * u64::from(self.max_parallelism)) >> 32) as u16)
    }

    /// The subtask that owns `group`: `group * parallelism / max_parallelism`, as in Flink.
    #[inline]
    pub fn subtask_of(&self, group: KeyGroup) -> u32 {
        // Below 2^30: both factors are below 2^15.
        u32::from(group.0) * self.parallelism / self.max_parallelism
    }

    /// The groups that `subtask` owns: the inverse of [`Self::subtask_of`]. Never empty for a subtask below the parallelism.
    pub fn range_of(&self, subtask: u32) -> Range<u32> {
        let first = (subtask * self.max_parallelism).div_ceil(self.parallelism);
        let last = ((subtask + 1) * self.max_parallelism).div_ceil(self.parallelism);
        first..last
    }

    /// Subtask by group, so that the hot path needs no division.
    pub fn channel_table(&self) -> Vec<u32> {
        (0..self.parallelism).flat_map(|subtask| std::iter::repeat_n(subtask, self.range_of(subtask).len())).collect()
    }
}

/// The max-parallelism of a vertex whose author set none, as in Flink: one and a half times the parallelism, rounded up to a
/// power of two, at least 128 and at most [`MAX_KEY_GROUPS`].
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    let wanted = u64::from(parallelism) + u64::from(parallelism / 2);
    let rounded = wanted.next_power_of_two();
    rounded.clamp(u64::from(MIN_DEFAULT_KEY_GROUPS), u64::from(MAX_KEY_GROUPS)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_of_hashes_are_fixed() {
        let check = |hash, max_parallelism, expect| {
            assert_eq!(KeyGroups::new(max_parallelism, 1).group_of(hash), KeyGroup(expect), "{hash:#x}");
        };
        check(0, 128, 0);
        check(u64::MAX, 128, 127);
        check(u64::MAX, MAX_KEY_GROUPS, 32767);
        check(u64::MAX, 1, 0);
        check(0x8000_0000_0000_0000, 128, 64);
        check(0x7fff_ffff_ffff_ffff, 128, 63);
        check(0x0123_4567_89ab_cdef, 128, 0);
        check(0xfedc_ba98_7654_3210, 128, 127);
        check(0x9e37_79b9_7f4a_7c15, 720, 444);
        // The lower half plays no part.
        check(0x0000_0000_ffff_ffff, MAX_KEY_GROUPS, 0);
    }

    #[test]
    fn subtasks_own_the_ranges_flink_gives_them() {
        let check = |max_parallelism, parallelism, expect: &[(u32, u32)]| {
            let groups = KeyGroups::new(max_parallelism, parallelism);
            let ranges = (0..parallelism).map(|subtask| groups.range_of(subtask));
            let ranges: Vec<_> = ranges.map(|range| (range.start, range.end)).collect();
            assert_eq!(ranges, expect);
        };
        check(128, 1, &[(0, 128)]);
        check(128, 2, &[(0, 64), (64, 128)]);
        check(128, 3, &[(0, 43), (43, 86), (86, 128)]);
        check(10, 4, &[(0, 3), (3, 5), (5, 8), (8, 10)]);
        check(3, 3, &[(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn default_max_parallelism_is_flinks() {
        for (parallelism, expect) in [
            (0, 128),
            (1, 128),
            (85, 128),
            (86, 256),
            (171, 256),
            (172, 512),
            (21_845, 32_768),
            (32_768, 32_768),
            (u32::MAX, 32_768),
        ] {
            assert_eq!(default_max_parallelism(parallelism), expect, "parallelism {parallelism}");
        }
    }

    fn any_groups() -> impl Strategy<Value = KeyGroups> {
        (1..=MAX_KEY_GROUPS)
            .prop_flat_map(|max| (Just(max), 1..=max))
            .prop_map(|(max, parallelism)| KeyGroups::new(max, parallelism))
    }

    proptest! {
        #[test]
        fn ranges_cover_every_group_once_and_agree_with_subtask_of(groups in any_groups()) {
            let table = groups.channel_table();
            prop_assert_eq!(table.len(), groups.max_parallelism as usize);
            for (group, &subtask) in table.iter().enumerate() {
                prop_assert_eq!(groups.subtask_of(KeyGroup(group as u16)), subtask);
            }
            for subtask in 0..groups.parallelism {
                prop_assert!(!groups.range_of(subtask).is_empty());
            }
        }

        #[test]
        fn every_hash_has_a_group(groups in any_groups(), hash: u64) {
            prop_assert!(u32::from(groups.group_of(hash).0) < groups.max_parallelism);
        }
    }
}
