//! Reading batches.

use bytes::Bytes;
use thiserror::Error;

use super::{Compression, HEADER, MAGIC, at, attribute, varint};

/// Why a batch cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BatchError {
    /// The format before Kafka 0.11.
    #[error(
        "the records are in message format {0}; only format 2 (Kafka 0.11 and newer) is read. Have the topic's old segments expire or be rewritten"
    )]
    Format(u8),
    /// The checksum is wrong.
    #[error(
        "the checksum of a record batch is {found:#010x}, expected is {expected:#010x}: the batch was damaged on its way or on the broker's disk"
    )]
    Checksum {
        /// Of the bytes that are there.
        found: u32,
        /// As the batch says.
        expected: u32,
    },
    /// The compression cannot be undone.
    #[error("a record batch cannot be unpacked: {0}")]
    Compression(String),
    /// It is not what a batch is.
    #[error("a record batch is damaged: {0}")]
    Layout(&'static str),
}

/// The batches in the bytes of an answer.
#[derive(Debug)]
pub(crate) struct Batches(pub(crate) Bytes);

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = &self.0;
        if bytes.len() <= at::MAGIC {
            // Brokers cut off what does not fit.
            return None;
        }
        let (magic, length) = (bytes[at::MAGIC], i32_at(bytes, at::LENGTH));
        let batch = if magic != MAGIC {
            Err(BatchError::Format(magic))
        } else if length < (HEADER - at::LEADER_EPOCH) as i32 {
            Err(BatchError::Layout("its length is too small"))
        } else {
            let end = at::LEADER_EPOCH + length as usize;
            if end > bytes.len() {
                return None;
            }
            let batch = Batch::decode(&bytes.slice(..end));
            self.0 = bytes.slice(end..);
            batch
        };
        if batch.is_err() {
            self.0 = Bytes::new();
        }
        Some(batch)
    }
}

/// A batch, unpacked, and how far it has been read.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) first_offset: i64,
    /// Of its last record, whether that is still there or was compacted away.
    pub(crate) last_offset: i64,
    pub(crate) producer_id: i64,
    pub(crate) transactional: bool,
    /// It holds no records but marks the end of a transaction.
    pub(crate) control: bool,
    first_timestamp: i64,
    /// The time of all its records, when the log's time counts instead of the producers'.
    append_time: Option<i64>,
    records: Bytes,
    read: usize,
    left: i32,
}

/// A record in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordView<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

impl Batch {
    fn decode(bytes: &Bytes) -> Result<Batch, BatchError> {
        let (found, expected) = (crc32c::crc32c(&bytes[at::ATTRIBUTES..]), i32_at(bytes, at::CRC) as u32);
        if found != expected {
            return Err(BatchError::Checksum { found, expected });
        }
        let attributes = u16::from_be_bytes([bytes[at::ATTRIBUTES], bytes[at::ATTRIBUTES + 1]]);
        let code = attributes & attribute::COMPRESSION;
        let compression = Compression::from_code(code)
            .ok_or_else(|| BatchError::Compression(format!("its compression has the unknown number {code}")))?;
        let packed = bytes.slice(HEADER..);
        let records = match compression {
            Compression::None => packed,
            _ => compression.decompress(&packed).map_err(|error| BatchError::Compression(error.to_string()))?.into(),
        };
        let (first_offset, delta) = (i64_at(bytes, 0), i32_at(bytes, at::LAST_OFFSET_DELTA));
        let append = attributes & attribute::LOG_APPEND_TIME != 0;
        let left = i32_at(bytes, at::COUNT);
        if delta < 0 || left < 0 || first_offset < 0 {
            return Err(BatchError::Layout("a number that cannot be negative is"));
        }
        Ok(Batch {
            first_offset,
            last_offset: first_offset.saturating_add(i64::from(delta)),
            producer_id: i64_at(bytes, at::PRODUCER_ID),
            transactional: attributes & attribute::TRANSACTIONAL != 0,
            control: attributes & attribute::CONTROL != 0,
            first_timestamp: i64_at(bytes, at::FIRST_TIMESTAMP),
            append_time: append.then(|| i64_at(bytes, at::MAX_TIMESTAMP)),
            records,
            read: 0,
            left,
        })
    }

    /// Bytes it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        HEADER + self.records.len()
    }

    /// Whether all its records have been read.
    pub(crate) fn is_read(&self) -> bool {
        self.left == 0
    }

    /// The next record.
    pub(crate) fn next_record(&mut self) -> Result<Option<RecordView<'_>>, BatchError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut input = &self.records[self.read..];
        let mut record = take_bytes(&mut input)?.ok_or(BatchError::Layout("a record has no length"))?;
        self.read = self.records.len() - input.len();
        let record = &mut record;
        let (_attributes, rest) = record.split_first().ok_or(BatchError::Layout("a record is empty"))?;
        *record = rest;
        let timestamp = take_number(record)?;
        let offset = take_number(record)?;
        let (key, value) = (take_bytes(record)?, take_bytes(record)?);
        let headers = Headers { left: take_number(record)?, bytes: record };
        headers.clone().check()?;
        Ok(Some(RecordView {
            offset: self.first_offset.saturating_add(offset),
            timestamp: self.append_time.unwrap_or(self.first_timestamp.wrapping_add(timestamp)),
            key,
            value,
            headers,
        }))
    }

    /// Whether it, a control batch, says that its producer's transaction was aborted.
    pub(crate) fn marks_abort(mut self) -> bool {
        // Key of a marker: version and kind, 16 bits each; kind 0 is an abort.
        let Ok(Some(record)) = self.next_record() else { return false };
        record.key.is_some_and(|key| matches!(key, [_, _, 0, 0, ..]))
    }
}

/// Name and value.
type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// The headers of a record: names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers<'a> {
    left: i64,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    fn next_pair(&mut self) -> Result<Option<Header<'a>>, BatchError> {
        if self.left <= 0 {
            return Ok(None);
        }
        self.left -= 1;
        let name = take_bytes(&mut self.bytes)?.ok_or(BatchError::Layout("a header has no name"))?;
        Ok(Some((name, take_bytes(&mut self.bytes)?)))
    }

    fn check(mut self) -> Result<(), BatchError> {
        while let Some((name, _)) = self.next_pair()? {
            std::str::from_utf8(name).map_err(|_| BatchError::Layout("the name of a header is not UTF-8"))?;
        }
        if self.bytes.is_empty() { Ok(()) } else { Err(BatchError::Layout("a record is longer than its parts")) }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        // Checked before anybody got to see them.
        let (name, value) = self.next_pair().ok().flatten()?;
        Some((std::str::from_utf8(name).ok()?, value))
    }
}

fn take_number(input: &mut &[u8]) -> Result<i64, BatchError> {
    varint::get(input).ok_or(BatchError::Layout("a number is cut off"))
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    let length = take_number(input)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Layout("a length is negative"))?;
    let (bytes, rest) = input.split_at_checked(length).ok_or(BatchError::Layout("a record is cut off"))?;
    *input = rest;
    Ok(Some(bytes))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    bytes[at..].first_chunk().map_or(0, |chunk| i32::from_be_bytes(*chunk))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    bytes[at..].first_chunk().map_or(0, |chunk| i64::from_be_bytes(*chunk))
}
