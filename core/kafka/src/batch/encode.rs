//! Writing batches.

use std::io;

use bytes::Bytes;

use super::{Compression, HEADER, MAGIC, at, attribute, varint};
use crate::client::ProducerIdentity;

/// A record to be written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OutgoingRecord<'a> {
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(String, Vec<u8>)],
}

/// Who writes a batch, for the broker to recognise one that it has already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) producer: ProducerIdentity,
    /// Number of the first record among all this producer writes to the partition.
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
}

/// Records on their way into a batch.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    records: Vec<u8>,
    count: i32,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// Number of records.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    /// Size of the batch, not compressed.
    pub(crate) fn bytes(&self) -> usize {
        HEADER + self.records.len()
    }

    /// How many bytes [`push`](Self::push) would add.
    pub(crate) fn room_for(&self, record: &OutgoingRecord<'_>) -> usize {
        let body = self.body_len(record);
        varint::len(body as i64) + body
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, record: &OutgoingRecord<'_>) {
        if self.count == 0 {
            self.first_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        let body = self.body_len(record);
        let out = &mut self.records;
        varint::put(out, body as i64);
        out.push(0);
        varint::put(out, record.timestamp.wrapping_sub(self.first_timestamp));
        varint::put(out, i64::from(self.count));
        put_bytes(out, record.key);
        put_bytes(out, record.value);
        varint::put(out, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_bytes(out, Some(name.as_bytes()));
            put_bytes(out, Some(value));
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
    }

    fn body_len(&self, record: &OutgoingRecord<'_>) -> usize {
        let delta = if self.count == 0 { 0 } else { record.timestamp.wrapping_sub(self.first_timestamp) };
        let headers: usize =
            record.headers.iter().map(|(name, value)| bytes_len(Some(name.as_bytes())) + bytes_len(Some(value))).sum();
        1 + varint::len(delta)
            + varint::len(i64::from(self.count))
            + bytes_len(record.key)
            + bytes_len(record.value)
            + varint::len(record.headers.len() as i64)
            + headers
    }

    /// The finished batch.
    pub(crate) fn finish(self, compression: Compression, origin: Option<Origin>) -> io::Result<Bytes> {
        let mut batch = vec![0; HEADER];
        if compression == Compression::None {
            batch.reserve_exact(self.records.len());
        }
        compression.compress(&self.records, &mut batch)?;
        let mut attributes = compression.code();
        if origin.is_some_and(|origin| origin.transactional) {
            attributes |= attribute::TRANSACTIONAL;
        }
        let nobody = ProducerIdentity { id: -1, epoch: -1 };
        let (producer, sequence) = origin.map_or((nobody, -1), |origin| (origin.producer, origin.sequence));
        let length = (batch.len() - at::LEADER_EPOCH) as i32;
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::LENGTH, &length.to_be_bytes());
        put(at::LEADER_EPOCH, &(-1i32).to_be_bytes());
        put(at::MAGIC, &[MAGIC]);
        put(at::ATTRIBUTES, &attributes.to_be_bytes());
        put(at::LAST_OFFSET_DELTA, &(self.count - 1).to_be_bytes());
        put(at::FIRST_TIMESTAMP, &self.first_timestamp.to_be_bytes());
        put(at::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(at::PRODUCER_ID, &producer.id.to_be_bytes());
        put(at::PRODUCER_EPOCH, &producer.epoch.to_be_bytes());
        put(at::BASE_SEQUENCE, &sequence.to_be_bytes());
        put(at::COUNT, &self.count.to_be_bytes());
        let crc = crc32c::crc32c(&batch[at::ATTRIBUTES..]);
        batch[at::CRC..at::CRC + 4].copy_from_slice(&crc.to_be_bytes());
        Ok(Bytes::from(batch))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::len(bytes.len() as i64) + bytes.len())
}
