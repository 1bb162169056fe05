//! Ranges of key groups, the unit in which state moves between tasks.

/// A contiguous range of key groups, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGroups {
    /// The first group.
    pub first: u16,
    /// The last group. Below `first`, the range is empty.
    pub last: u16,
}

impl KeyGroups {
    /// Every group there can be.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The groups from `first` to `last`, both included.
    pub const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }

    /// Whether there is no group in the range.
    pub const fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// Whether `key` belongs to a group of the range; a key too short to have a group does not.
    pub fn contain(self, key: &[u8]) -> bool {
        match key {
            [high, low, ..] => {
                let group = u16::from_be_bytes([*high, *low]);
                self.first <= group && group <= self.last
            }
            _ => false,
        }
    }

    /// The groups that are in both ranges.
    pub fn intersection(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    /// The smallest key that lies behind the range, unless the range reaches to the very end.
    pub(crate) fn end(self) -> Option<[u8; 2]> {
        self.last.checked_add(1).map(u16::to_be_bytes)
    }
}
