//! A partition that is being read: what was fetched of it, and how far it has been emitted.

use std::collections::{BTreeSet, VecDeque};

use super::metrics::PartitionMetrics;
use super::split::PartitionSplit;
use crate::batch::{Batch, Batches, RecordView};
use crate::client::TopicPartition;
use crate::client::fetch::Fetched;
use crate::error::KafkaError;

/// What an answer holds for a reader.
#[derive(Debug)]
pub(super) struct Readable {
    /// Batches without those of aborted transactions and the markers of their ends.
    pub(super) batches: VecDeque<Batch>,
    /// Where to go on.
    pub(super) next: i64,
    /// The offset behind the last record that can be read.
    pub(super) end: i64,
}

/// Unpacks what was fetched.
pub(super) fn readable(fetched: &Fetched) -> Result<Readable, KafkaError> {
    let mut aborted = fetched.aborted.clone();
    aborted.sort_unstable_by_key(|(_, first_offset)| *first_offset);
    let mut aborted = aborted.into_iter().peekable();
    // Producers whose transaction, at this point of the log, is one that was aborted.
    let mut aborting: BTreeSet<i64> = BTreeSet::new();
    let mut readable = Readable { batches: VecDeque::new(), next: fetched.from, end: fetched.end };
    for batch in Batches(fetched.records.clone()) {
        let batch = batch.map_err(|error| KafkaError::Damaged {
            topic: fetched.partition.topic.to_string(),
            partition: fetched.partition.partition,
            offset: readable.next,
            reason: error.to_string(),
        })?;
        readable.next = readable.next.max(batch.last_offset + 1);
        while let Some((producer, _)) = aborted.next_if(|(_, first_offset)| *first_offset <= batch.last_offset) {
            aborting.insert(producer);
        }
        if batch.control {
            let producer = batch.producer_id;
            if batch.marks_abort() {
                aborting.remove(&producer);
            }
        } else if !(batch.transactional && aborting.contains(&batch.producer_id)) && batch.last_offset >= fetched.from {
            readable.batches.push_back(batch);
        }
    }
    Ok(readable)
}

/// A partition that is being read.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: TopicPartition,
    split: PartitionSplit,
    /// Where the next fetch begins.
    fetch_from: i64,
    ready: VecDeque<Readable>,
    /// Bytes in `ready`, about.
    bytes: usize,
    /// Whether it is part of a fetch that has not been answered.
    pub(super) in_flight: bool,
    /// Which broker leads it, as far as is known.
    pub(super) leader: Option<i32>,
    /// Its number among the splits of the reader.
    pub(super) number: u64,
    /// Whether it has been named to whom its records go.
    pub(super) named: bool,
    /// Whether it is too far ahead of others in event time.
    pub(super) paused: bool,
    pub(super) metrics: PartitionMetrics,
    /// The offset behind the last record there is, as far as is known.
    end: i64,
}

impl Partition {
    pub(super) fn new(split: PartitionSplit, number: u64, metrics: PartitionMetrics) -> Partition {
        Partition {
            number,
            named: false,
            paused: false,
            metrics,
            end: split.position,
            id: split.id(),
            fetch_from: split.position,
            split,
            ready: VecDeque::new(),
            bytes: 0,
            in_flight: false,
            leader: None,
        }
    }

    /// The rest of it, behind the last record emitted.
    pub(super) fn rest(&self) -> PartitionSplit {
        self.split.clone()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.split.is_finished()
    }

    /// The offset of the last record that has been emitted or is known not to be wanted; -1 before the first.
    pub(super) fn current_offset(&self) -> i64 {
        self.split.position - 1
    }

    /// How many offsets lie before the end of the partition, or before the place where reading is to stop.
    pub(super) fn lag(&self) -> i64 {
        let end = self.split.stop.map_or(self.end, |stop| stop.min(self.end));
        (end - self.split.position).max(0)
    }

    /// Whether there are records to emit now.
    pub(super) fn may_emit(&self) -> bool {
        self.is_ready() && !self.paused
    }

    /// Whether there are records to emit.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// From where more is to be fetched; `None` if there is enough, or nothing more is wanted.
    pub(super) fn wants(&self, most_bytes: usize) -> Option<i64> {
        let wanted = self.bytes < most_bytes && self.split.stop.is_none_or(|stop| self.fetch_from < stop);
        wanted.then_some(self.fetch_from)
    }

    /// Goes on at another offset.
    pub(super) fn jump(&mut self, position: i64) {
        self.split.position = position;
        self.fetch_from = position;
        self.ready.clear();
        self.bytes = 0;
    }

    /// Takes in what was fetched from `from`.
    pub(super) fn fetched(&mut self, from: i64, readable: Readable) {
        // The answer to a question that was asked before a jump.
        if from != self.fetch_from {
            return;
        }
        self.fetch_from = readable.next;
        self.end = readable.end.max(readable.next);
        self.bytes += readable.batches.iter().map(Batch::bytes).sum::<usize>();
        if readable.next > from {
            self.ready.push_back(readable);
        }
    }

    /// Hands at most `most` records to `emit` and returns how many.
    pub(super) fn emit<E>(
        &mut self,
        most: usize,
        mut emit: impl FnMut(&TopicPartition, &RecordView<'_>) -> Result<(), E>,
    ) -> Result<usize, EmitError<E>> {
        let mut emitted = 0;
        while let Some(readable) = self.ready.front_mut() {
            let Some(batch) = readable.batches.front_mut() else {
                self.split.position = self.split.position.max(readable.next);
                self.ready.pop_front();
                continue;
            };
            let (last_offset, bytes) = (batch.last_offset, batch.bytes());
            while emitted < most {
                let position = self.split.position;
                let damaged = |error: crate::batch::BatchError| {
                    EmitError::Damaged(KafkaError::Damaged {
                        topic: self.id.topic.to_string(),
                        partition: self.id.partition,
                        offset: position,
                        reason: error.to_string(),
                    })
                };
                let Some(record) = batch.next_record().map_err(damaged)? else { break };
                if record.offset < position {
                    continue;
                }
                if let Some(stop) = self.split.stop
                    && record.offset >= stop
                {
                    self.jump(stop);
                    return Ok(emitted);
                }
                emit(&self.id, &record).map_err(EmitError::Emit)?;
                self.split.position = record.offset + 1;
                emitted += 1;
            }
            if !batch.is_read() {
                return Ok(emitted);
            }
            self.split.position = self.split.position.max(last_offset + 1);
            self.bytes -= bytes;
            readable.batches.pop_front();
        }
        Ok(emitted)
    }
}

/// Why records could not be emitted.
#[derive(Debug)]
pub(super) enum EmitError<E> {
    Damaged(KafkaError),
    Emit(E),
}

#[cfg(test)]
mod tests;
