//! Data in flight as part of a checkpoint: what barriers overtake.
//!
//! A task whose barrier overtakes takes its snapshot at once. What lies before the barriers of its channels then is of neither
//! its producers' snapshots nor its own; it is recorded where it arrives, in the queues of its inbox, until each channel has delivered
//! its barrier. Nothing is reordered: recorded data is processed in its turn, and barriers that come behind it mean nothing any more.

#[cfg(test)]
mod tests;

use std::time::Instant;

use weir_checkpoint::Schema;

use crate::element::{Barrier, Control, Element, EncodedBatch};
use crate::failure::{FailureKind, TaskError};
use crate::record::{Decoder, Record};
use crate::snapshot::schema_of;

/// What a checkpoint takes of the data in flight on the channels of one input.
#[derive(Debug)]
pub(crate) struct Recording {
    checkpoint: u64,
    /// By channel: whether its barrier is still to come.
    owing: Vec<bool>,
    batches: Vec<EncodedBatch>,
}

impl Recording {
    /// Begins, with the channels that have not delivered their barrier.
    pub(crate) fn new(checkpoint: u64, owing: Vec<bool>) -> Recording {
        Recording { checkpoint, owing, batches: Vec::new() }
    }

    /// Takes note of an element, in the order of its channel. Whether everything is recorded now that was not before.
    pub(crate) fn on_arrival<T: Record>(&mut self, channel: u32, element: &Element<T>) -> bool {
        let owing = &mut self.owing[channel as usize];
        if !*owing {
            return false;
        }
        match element {
            Element::Batch(records) => {
                let mut bytes = Vec::new();
                T::encode_batch(records, &mut bytes);
                self.batches.push(EncodedBatch { bytes, records: records.len() as u32 });
            }
            Element::Encoded(batch) => self.batches.push(batch.clone()),
            // A producer that is at a newer checkpoint has given this one up.
            Element::Control(Control::Barrier(barrier)) => *owing = barrier.checkpoint < self.checkpoint,
            Element::Control(Control::End) => *owing = false,
            Element::Control(Control::Watermark(_) | Control::Idle(_)) => {}
        }
        self.is_complete()
    }

    /// The checkpoint it belongs to.
    pub(crate) fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// Whether all channels have delivered their barrier.
    pub(crate) fn is_complete(&self) -> bool {
        !self.owing.contains(&true)
    }

    /// The records, one after the other, and where each ends.
    pub(crate) fn into_data<T: Record>(self, processed: u64) -> Result<InFlight, TaskError> {
        let schema = schema_of::<T>();
        let (checkpoint, bytes, lengths) = (self.checkpoint, Vec::new(), Vec::new());
        let mut data = InFlight { checkpoint, processed, schema, bytes, lengths };
        for batch in self.batches {
            match T::FIXED_LEN {
                Some(length) => data.lengths.extend(std::iter::repeat_n(length as u32, batch.records as usize)),
                None => {
                    let mut decoder = Decoder::new(&batch.bytes);
                    for _ in 0..batch.records {
                        let before = decoder.offset();
                        T::decode(&mut decoder).map_err(damaged)?;
                        data.lengths.push((decoder.offset() - before) as u32);
                    }
                }
            }
            data.bytes.extend_from_slice(&batch.bytes);
        }
        Ok(data)
    }
}

/// Recorded data of one input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// The checkpoint it belongs to.
    pub(crate) checkpoint: u64,
    /// Bytes that were processed from the first barrier to the last.
    pub(crate) processed: u64,
    /// The layout of the records.
    pub(crate) schema: Schema,
    /// The encoded records, in the order of their channels.
    pub(crate) bytes: Vec<u8>,
    /// The length of each.
    pub(crate) lengths: Vec<u32>,
}

/// An input of a task whose barriers may overtake data.
pub(crate) trait Overtaken {
    /// The newest barrier that has arrived and overtakes data, if the task has not passed it.
    fn announced(&self) -> Option<Barrier>;
    /// Whether a snapshot now is one of this checkpoint: nothing that belongs behind its barrier has been read.
    fn may_overtake(&self, checkpoint: u64) -> bool;
    /// The task takes its snapshot now: records what lies before the barriers, and reads all channels again.
    fn overtake(&mut self, checkpoint: u64) -> Overtaking;
    /// What was recorded, once, when all barriers have come.
    fn take_recorded(&mut self) -> Result<Option<InFlight>, TaskError>;
    /// Nothing will become of a checkpoint: neither wait for its barriers nor record for it.
    fn give_up(&mut self, checkpoint: u64);
}

/// How an input was when its barriers overtook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overtaking {
    /// When the first barrier had come, if one had.
    pub(crate) since: Option<Instant>,
    /// Whether [`Overtaken::take_recorded`] will have something.
    pub(crate) records: bool,
}

/// The error for a batch that is none.
#[cold]
pub(crate) fn damaged(error: crate::record::DecodeError) -> TaskError {
    TaskError::failed(FailureKind::Network, format!("a batch from another worker cannot be decoded: {error}"))
}
