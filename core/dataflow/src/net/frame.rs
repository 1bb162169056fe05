//! The wire format as pure code: bytes to frames and back, no sockets.
//!
//! A frame is a header of 16 bytes (little endian) and a payload:
//!
//! ```text
//! 0      1        4          8          12         16
//! ┌──────┬────────┬──────────┬──────────┬──────────┬─────────┄
//! │ kind │ zero   │ slot     │ length   │ count    │ payload
//! └──────┴────────┴──────────┴──────────┴──────────┴─────────┄
//! ```
//!
//! `slot` is the number the receiving worker gave the channel when it granted the first credits, so neither side looks a
//! channel up by its id. `count` is the number of records or credits. A batch longer than a fragment travels as several
//! `Fragment` frames and a final `Batch`, with frames of other channels between them.

use std::io;

use hashbrown::HashMap;

use weir_model::CheckpointKind;

use super::ChannelId;
use crate::element::{Barrier, Control};

/// Batches are cut into pieces of this size, so that a long one does not hold up the other channels.
pub(super) const FRAGMENT_BYTES: usize = 256 * 1024;
/// A payload said to be longer than this is damage, not data. Leaves room to raise [`FRAGMENT_BYTES`] one day.
const MAX_PAYLOAD: u32 = 1024 * 1024;
const HEADER_BYTES: usize = 16;
const BARRIER_BYTES: usize = 17;
const GRANT_BYTES: usize = 12;

const BATCH: u8 = 1;
const FRAGMENT: u8 = 2;
const WATERMARK: u8 = 3;
const IDLE: u8 = 4;
const BARRIER: u8 = 5;
const END: u8 = 6;
const GRANT: u8 = 7;
const CREDIT: u8 = 8;

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole batch, put together from its fragments.
    Batch { slot: u32, bytes: Vec<u8>, records: u32 },
    /// A control element.
    Control { slot: u32, control: Control },
    /// The consumer of `id` opened it under the number `slot` and allows `credits` batches.
    Grant { slot: u32, id: ChannelId, credits: u32 },
    /// The consumer allows `credits` more batches.
    Credit { slot: u32, credits: u32 },
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("no frame begins with {0:02x?}")]
    Header([u8; HEADER_BYTES]),
    #[error("a frame of kind {kind} cannot have {length} bytes")]
    Length { kind: u8, length: u32 },
    #[error("data for channel number {0}, which is not open")]
    Closed(u32),
    #[error("channel number {0} got a batch for which no credit was given")]
    NoCredit(u32),
    #[error("channel number {slot} was announced out of order, {expected} should come next")]
    GrantOrder { slot: u32, expected: u32 },
}

/// An encoded frame without the payload of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    bytes: [u8; HEADER_BYTES + BARRIER_BYTES],
    len: u8,
}

impl Head {
    fn new(kind: u8, slot: u32, length: u32, count: u32) -> Head {
        let mut bytes = [0; HEADER_BYTES + BARRIER_BYTES];
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&slot.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..16].copy_from_slice(&count.to_le_bytes());
        Head { bytes, len: HEADER_BYTES as u8 }
    }

    fn with_payload(kind: u8, slot: u32, count: u32, payload: &[u8]) -> Head {
        let mut head = Head::new(kind, slot, payload.len() as u32, count);
        head.bytes[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
        head.len += payload.len() as u8;
        head
    }

    /// Goes before `length` payload bytes that end a batch of `records` records.
    pub(super) fn batch(slot: u32, length: usize, records: u32) -> Head {
        debug_assert!(length <= FRAGMENT_BYTES);
        Head::new(BATCH, slot, length as u32, records)
    }

    /// Goes before `length` payload bytes of a batch that continues.
    pub(super) fn fragment(slot: u32, length: usize) -> Head {
        debug_assert!(length <= FRAGMENT_BYTES);
        Head::new(FRAGMENT, slot, length as u32, 0)
    }

    pub(super) fn control(slot: u32, control: Control) -> Head {
        match control {
            Control::Watermark(time) => Head::with_payload(WATERMARK, slot, 0, &time.to_le_bytes()),
            Control::Idle(idle) => Head::new(IDLE, slot, 0, u32::from(idle)),
            Control::Barrier(barrier) => {
                let mut payload = [0; BARRIER_BYTES];
                payload[..8].copy_from_slice(&barrier.checkpoint.to_le_bytes());
                payload[8..16].copy_from_slice(&barrier.timestamp.to_le_bytes());
                payload[16] = u8::from(barrier.aligned) | barrier.kind.tag() << 1;
                Head::with_payload(BARRIER, slot, 0, &payload)
            }
            Control::End => Head::new(END, slot, 0, 0),
        }
    }

    pub(super) fn grant(slot: u32, id: ChannelId, credits: u32) -> Head {
        let mut payload = [0; GRANT_BYTES];
        payload[..4].copy_from_slice(&id.edge.to_le_bytes());
        payload[4..8].copy_from_slice(&id.producer.to_le_bytes());
        payload[8..].copy_from_slice(&id.consumer.to_le_bytes());
        Head::with_payload(GRANT, slot, credits, &payload)
    }

    pub(super) fn credit(slot: u32, credits: u32) -> Head {
        Head::new(CREDIT, slot, 0, credits)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// A header as read from the wire; its length is checked against its kind.
#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u8,
    slot: u32,
    length: u32,
    count: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let header =
            Header { kind: bytes[0], slot: u32_at(bytes, 4), length: u32_at(bytes, 8), count: u32_at(bytes, 12) };
        let fits = match header.kind {
            BATCH | FRAGMENT => header.length <= MAX_PAYLOAD,
            WATERMARK => header.length == 8,
            BARRIER => header.length == BARRIER_BYTES as u32,
            GRANT => header.length == GRANT_BYTES as u32,
            IDLE | END | CREDIT => header.length == 0,
            _ => return Err(FrameError::Header(*bytes)),
        };
        if bytes[1..4] != [0; 3] {
            return Err(FrameError::Header(*bytes));
        }
        if !fits {
            return Err(FrameError::Length { kind: header.kind, length: header.length });
        }
        Ok(header)
    }

    fn is_records(&self) -> bool {
        matches!(self.kind, BATCH | FRAGMENT)
    }

    /// The frame of a header and its short payload; batches are not made here.
    fn frame(&self, payload: &[u8]) -> Frame {
        let slot = self.slot;
        match self.kind {
            WATERMARK => Frame::Control { slot, control: Control::Watermark(u64_at(payload, 0) as i64) },
            IDLE => Frame::Control { slot, control: Control::Idle(self.count != 0) },
            BARRIER => {
                let (checkpoint, timestamp) = (u64_at(payload, 0), u64_at(payload, 8) as i64);
                // Peers run the same executable, so the kind is one this side knows.
                let kind = CheckpointKind::from_tag(payload[16] >> 1).unwrap_or(CheckpointKind::Checkpoint);
                let barrier = Barrier { checkpoint, timestamp, aligned: payload[16] & 1 != 0, kind };
                Frame::Control { slot, control: Control::Barrier(barrier) }
            }
            END => Frame::Control { slot, control: Control::End },
            GRANT => {
                let (edge, producer) = (u32_at(payload, 0), u32_at(payload, 4));
                let id = ChannelId { edge, producer, consumer: u32_at(payload, 8) };
                Frame::Grant { slot, id, credits: self.count }
            }
            CREDIT => Frame::Credit { slot, credits: self.count },
            kind => unreachable!("parse accepts no header of kind {kind}"),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// How many bytes are read ahead while the frame's end is unknown: many short frames then cost one read.
const STAGING_BYTES: usize = 16 * 1024;
/// How many bytes are read past the end of a payload: enough to learn the next header, little enough to copy.
const READ_PAST_BYTES: usize = 2 * 1024;

/// Where the next bytes go: first what `payload` lacks, then `staging`.
pub(super) struct Target<'a> {
    /// A batch that lacks this many bytes, to be appended.
    pub(super) payload: Option<(&'a mut Vec<u8>, usize)>,
    /// Takes what follows.
    pub(super) staging: &'a mut [u8],
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filled {
    /// Bytes appended to the payload; all it lacked if `staging` is not 0.
    pub(super) payload: usize,
    /// Bytes put at the start of the staging area.
    pub(super) staging: usize,
}

/// Puts frames together from however the bytes arrive. Memory grows with what arrived, not with what a header claims.
pub(super) struct FrameReader {
    staging: Box<[u8]>,
    /// The part of `staging` not looked at yet.
    start: usize,
    end: usize,
    /// The batch or fragment being read; while it lacks bytes, nothing is staged.
    current: Option<(Header, usize, Vec<u8>)>,
    /// Batches of which some fragments have arrived.
    fragments: HashMap<u32, Vec<u8>>,
}

impl FrameReader {
    pub(super) fn new() -> FrameReader {
        FrameReader {
            staging: vec![0; STAGING_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            current: None,
            fragments: HashMap::new(),
        }
    }

    /// Lets `read` bring more bytes. Call it only after [`next`](Self::next) returned `None`.
    pub(super) fn fill(&mut self, read: impl FnOnce(Target<'_>) -> io::Result<Filled>) -> io::Result<Filled> {
        self.staging.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let target = match &mut self.current {
            Some((_, lacking, bytes)) => {
                Target { payload: Some((bytes, *lacking)), staging: &mut self.staging[..READ_PAST_BYTES] }
            }
            None => Target { payload: None, staging: &mut self.staging[self.end..] },
        };
        let filled = read(target)?;
        if let Some((_, lacking, _)) = &mut self.current {
            *lacking -= filled.payload;
        }
        self.end += filled.staging;
        Ok(filled)
    }

    /// The next frame, if it is complete. `is_open` says whether records may arrive under a number.
    pub(super) fn next(&mut self, is_open: impl Fn(u32) -> bool) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(current) = self.current.take() {
                match self.end_payload(current) {
                    Some(frame) => return Ok(Some(frame)),
                    None if self.current.is_some() => return Ok(None),
                    None => {}
                }
            }
            let staged = &self.staging[self.start..self.end];
            let Some((header, rest)) = staged.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let header = Header::parse(header)?;
            let length = header.length as usize;
            if header.is_records() {
                if !is_open(header.slot) {
                    return Err(FrameError::Closed(header.slot));
                }
                self.start += HEADER_BYTES;
                // Only a batch of several fragments is looked up; usually the map is empty.
                let begun = if self.fragments.is_empty() { None } else { self.fragments.remove(&header.slot) };
                let mut bytes = begun.unwrap_or_default();
                reserve(&mut bytes, length);
                self.current = Some((header, length, bytes));
            } else {
                let Some(payload) = rest.get(..length) else { return Ok(None) };
                let frame = header.frame(payload);
                self.start += HEADER_BYTES + length;
                return Ok(Some(frame));
            }
        }
    }

    /// Moves staged bytes into the payload. Returns the batch if that ends it; puts the payload back if it still lacks bytes.
    fn end_payload(&mut self, (header, lacking, mut bytes): (Header, usize, Vec<u8>)) -> Option<Frame> {
        let staged = &self.staging[self.start..self.end];
        let taken = lacking.min(staged.len());
        bytes.extend_from_slice(&staged[..taken]);
        self.start += taken;
        if taken < lacking {
            self.current = Some((header, lacking - taken, bytes));
            return None;
        }
        if header.kind == FRAGMENT {
            self.fragments.insert(header.slot, bytes);
            return None;
        }
        Some(Frame::Batch { slot: header.slot, bytes, records: header.count })
    }
}

/// Room for `length` more bytes: exactly that for a new batch, with growth for one of many fragments.
fn reserve(bytes: &mut Vec<u8>, length: usize) {
    if bytes.is_empty() { bytes.reserve_exact(length) } else { bytes.reserve(length) }
}

#[cfg(test)]
mod tests;
