//! Bytes: snapshots of tasks as they travel, metadata as it is kept.

mod metadata;
mod reader;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

pub use metadata::{FORMAT_VERSION, MetadataError};
pub use reader::DecodeError;
pub(crate) use reader::Reader;
pub(crate) use schema::{read_schema, write_schema};
pub(crate) use snapshot::{read_kind, read_redistribution};
pub(crate) use writer::{Interned, Writer};
