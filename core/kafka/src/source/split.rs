//! What the enumerator hands to readers, and readers to checkpoints.

use weir::Record;

use crate::client::TopicPartition;

/// A partition with the part of it that is still to be read.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub struct PartitionSplit {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Offset of the next record.
    pub position: i64,
    /// The first offset that is not read any more; none for a source without end.
    pub stop: Option<i64>,
}

impl PartitionSplit {
    /// Which partition it is.
    pub fn id(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// Whether there is nothing left of it.
    pub(crate) fn is_finished(&self) -> bool {
        self.stop.is_some_and(|stop| self.position >= stop)
    }
}

/// The enumerator's answer to a reader that asked for a split.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub enum KafkaSplit {
    /// A partition to read.
    Partition(PartitionSplit),
    /// The reader has all there is for it now. A reader reads its partitions all at once, so it must not be kept waiting for more.
    NothingNew,
}
