//! Reading files: finding them, cutting them into splits, and the bytes of a split.
//!
//! Knows nothing about what the bytes mean except that records end with a line feed; [`text`](super::text) and
//! [`csv`](super::csv) make records of them.

mod compression;
mod enumerator;
mod error;
mod find;
mod input;
mod skipped;
mod split;
mod turns;

pub use compression::Compression;
pub use enumerator::FileEnumerator;
pub use error::FileError;
pub use skipped::Skipped;
pub use split::FileSplit;

pub(super) use enumerator::{Cutting, enumerate};
pub(super) use input::{SplitInput, line_of};
pub(super) use skipped::SkipLog;
pub(super) use turns::Turns;
