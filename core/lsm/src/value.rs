//! A value that is read where it lies.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::block::Block;

/// The bytes of a value, borrowed from the store: no read copies them.
pub struct Value<'a>(Place<'a>);

enum Place<'a> {
    Buffer(&'a [u8]),
    Block(Arc<Block>, Range<usize>),
}

impl<'a> Value<'a> {
    pub(crate) fn in_buffer(bytes: &'a [u8]) -> Self {
        Self(Place::Buffer(bytes))
    }

    pub(crate) fn in_block(block: Arc<Block>, range: Range<usize>) -> Self {
        Self(Place::Block(block, range))
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Buffer(bytes) => bytes,
            Place::Block(block, range) => block.bytes(range),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
