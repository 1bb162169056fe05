//! What travels through a channel: batches of records and, between them, control elements.

use weir_model::CheckpointKind;

/// Event time in milliseconds since the Unix epoch.
pub type EventTime = i64;

/// One entry of a channel's queue.
#[derive(Debug)]
pub enum Element<T> {
    /// Records handed over by ownership inside a process; never empty.
    Batch(Vec<T>),
    /// Records encoded by a producer in another process.
    Encoded(EncodedBatch),
    /// Something that is not a record; ordered with the records around it.
    Control(Control),
}

/// Records in their wire layout, one after another without separators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    /// The encoded records.
    pub bytes: Vec<u8>,
    /// How many records `bytes` holds.
    pub records: u32,
}

/// Elements that are not records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// No record with an event time at or below this one follows on the channel.
    Watermark(EventTime),
    /// The channel stops (`true`) or resumes (`false`) holding back the watermark of its gate.
    Idle(bool),
    /// Separates the records of one checkpoint from those of the next.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

/// A checkpoint barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Barrier {
    /// Checkpoint id; grows with every checkpoint of a job.
    pub checkpoint: u64,
    /// When the checkpoint was triggered, milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Whether the barrier must wait for all channels (aligned) or may overtake records.
    pub aligned: bool,
    /// What the checkpoint is taken for.
    pub kind: CheckpointKind,
}

impl Barrier {
    /// Whether it overtakes the data before it, which becomes part of the checkpoint. Savepoints never do.
    pub fn overtakes(&self) -> bool {
        !self.aligned && !self.kind.is_savepoint()
    }
}
