//! Record batches, the form records have in requests, answers and logs: Kafka's format 2, of version 0.11 and later.

mod compression;
mod decode;
mod encode;
mod varint;

pub use compression::Compression;
pub(crate) use decode::{Batch, BatchError, Batches, RecordView};
pub(crate) use encode::{BatchBuilder, Origin, OutgoingRecord};

/// Bytes before the first record.
pub(crate) const HEADER: usize = 61;

/// The number of this format.
const MAGIC: u8 = 2;

/// Where things are in the header.
mod at {
    pub(super) const LENGTH: usize = 8;
    pub(super) const LEADER_EPOCH: usize = 12;
    pub(super) const MAGIC: usize = 16;
    pub(super) const CRC: usize = 17;
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const LAST_OFFSET_DELTA: usize = 23;
    pub(super) const FIRST_TIMESTAMP: usize = 27;
    pub(super) const MAX_TIMESTAMP: usize = 35;
    pub(super) const PRODUCER_ID: usize = 43;
    pub(super) const PRODUCER_EPOCH: usize = 51;
    pub(super) const BASE_SEQUENCE: usize = 53;
    pub(super) const COUNT: usize = 57;
}

/// Bits of the attributes; the lowest three are the compression.
mod attribute {
    pub(super) const COMPRESSION: u16 = 7;
    pub(super) const LOG_APPEND_TIME: u16 = 1 << 3;
    pub(super) const TRANSACTIONAL: u16 = 1 << 4;
    pub(super) const CONTROL: u16 = 1 << 5;
}

#[cfg(test)]
mod tests;
