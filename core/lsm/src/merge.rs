//! Several sorted sources as one, where the newest entry of a key counts.

use crate::LsmError;

/// A place in a sorted source.
pub(crate) trait Cursor {
    /// The key here; `None` behind the last one.
    fn key(&self) -> Option<&[u8]>;

    /// The value here; `None` when the key was deleted, and behind the last one.
    fn value(&self) -> Option<&[u8]>;

    /// Goes to the next key.
    fn advance(&mut self) -> Result<(), LsmError>;
}

/// The entries of all cursors in order, each key once.
pub(crate) struct Merge<C> {
    /// The newest source first.
    cursors: Vec<C>,
    /// Those whose key is the current one; the first of them, the newest, has the entry that counts.
    current: Vec<usize>,
}

impl<C: Cursor> Merge<C> {
    /// Stands before the first entry.
    pub(crate) fn new(cursors: Vec<C>) -> Self {
        Self { current: Vec::with_capacity(cursors.len()), cursors }
    }

    /// Goes to the next key; whether there is one.
    pub(crate) fn advance(&mut self) -> Result<bool, LsmError> {
        while let Some(&number) = self.current.last() {
            self.cursors[number].advance()?;
            self.current.pop();
        }
        let mut smallest: Option<&[u8]> = None;
        for (number, cursor) in self.cursors.iter().enumerate() {
            let Some(key) = cursor.key() else { continue };
            match smallest.map_or(std::cmp::Ordering::Less, |smallest| key.cmp(smallest)) {
                std::cmp::Ordering::Greater => continue,
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Less => {
                    smallest = Some(key);
                    self.current.clear();
                }
            }
            self.current.push(number);
        }
        Ok(!self.current.is_empty())
    }

    /// The current key and its value, `None` for a tombstone.
    pub(crate) fn entry(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let cursor = &self.cursors[*self.current.first()?];
        Some((cursor.key()?, cursor.value()))
    }
}
