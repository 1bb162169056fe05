//! The writer of one subtask.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir::metrics::Counter;
use weir::sink::{SinkError, SinkWriter, WriterContext};

use super::committable::{KafkaCommittable, Prepared};
use super::producer::Producer;
use super::transactional_id::{TransactionName, run_part};
use super::{Delivery, KafkaMessage, Settings};
use crate::batch::OutgoingRecord;
use crate::client::Client;
use crate::error::KafkaError;

/// Writes records to Kafka in one subtask.
pub struct KafkaWriter<T, F> {
    encode: F,
    topic: Arc<str>,
    producer: Producer,
    transactions: Option<Transactions>,
    /// Bytes of keys and values written.
    bytes: Counter,
    item: PhantomData<fn(T)>,
}

impl<T, F> KafkaWriter<T, F> {
    pub(super) fn new(
        settings: &Settings,
        encode: F,
        context: &WriterContext,
    ) -> Result<KafkaWriter<T, F>, KafkaError> {
        let mut client = Client::new(&settings.cluster);
        client.retrying("connecting", Client::find_brokers)?;
        let mut producer = Producer::new(client, settings.producer());
        let transactions = match &settings.delivery {
            Delivery::None => None,
            Delivery::AtLeastOnce => {
                // Not for transactions: it lets brokers recognise a batch that is sent again.
                let identity = producer.client().init_producer(None, Duration::from_secs(60))?;
                producer.write_as(identity, None);
                None
            }
            Delivery::ExactlyOnce { prefix } => Some(Transactions {
                next: TransactionName {
                    prefix: prefix.clone(),
                    run: run_part(&context.run_id),
                    subtask: context.subtask,
                    attempt: context.attempt,
                    number: 0,
                },
                parallelism: context.parallelism,
                timeout: settings.transaction_timeout,
                open: None,
                used: VecDeque::new(),
            }),
        };
        let (topic, bytes) = (settings.topic.clone(), context.metrics.counter("numBytesSend"));
        Ok(KafkaWriter { encode, topic, producer, transactions, bytes, item: PhantomData })
    }
}

impl<T, F> SinkWriter<T> for KafkaWriter<T, F>
where
    T: 'static,
    F: Fn(T) -> KafkaMessage + Send + 'static,
{
    fn write(&mut self, record: T) -> Result<(), SinkError> {
        if let Some(transactions) = &mut self.transactions {
            transactions.begin(&mut self.producer).map_err(SinkError::new)?;
        }
        let message = (self.encode)(record);
        let outgoing = OutgoingRecord {
            timestamp: message.timestamp.unwrap_or_else(now),
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: &message.headers,
        };
        let size = |part: Option<&[u8]>| part.map_or(0, |part| part.len() as u64);
        self.bytes.add(size(outgoing.key) + size(outgoing.value));
        let topic = message.topic.as_ref().unwrap_or(&self.topic);
        self.producer.send(topic, message.partition, &outgoing).map_err(SinkError::new)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        match self.transactions {
            // Nobody sees it before its commit, so batches may go on filling.
            Some(_) => Ok(()),
            None => self.producer.flush().map_err(SinkError::new),
        }
    }

    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError> {
        self.producer.flush().map_err(SinkError::new)?;
        Ok(self.transactions.as_mut().map(|transactions| transactions.prepare().to_bytes()).into_iter().collect())
    }
}

impl<T, F> fmt::Debug for KafkaWriter<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaWriter").field("producer", &self.producer).finish_non_exhaustive()
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The transactions of a writer, one after the other: each ends at a checkpoint.
///
/// A transactional id is used again only once its last transaction is known to be committed. Its producer gets the next epoch then, so what is told
/// about the earlier transaction later (commit it!) never touches the new one.
#[derive(Debug)]
struct Transactions {
    /// The next name that nobody has used.
    next: TransactionName,
    parallelism: u32,
    timeout: Duration,
    open: Option<Prepared>,
    /// Prepared ones, oldest first.
    used: VecDeque<Prepared>,
}

impl Transactions {
    /// Begins a transaction if none is open.
    fn begin(&mut self, producer: &mut Producer) -> Result<(), KafkaError> {
        if self.open.is_some() {
            return Ok(());
        }
        let open = match self.begin_again(producer.client())? {
            Some(open) => open,
            None => {
                let id = self.next.to_string();
                self.next.number += 1;
                let identity = producer.client().init_producer(Some(&id), self.timeout)?;
                Prepared { id, producer: identity.id, epoch: identity.epoch }
            }
        };
        producer.write_as(open.identity(), Some(open.id.clone()));
        self.open = Some(open);
        Ok(())
    }

    /// Begins one with an id that was used before, if there is one.
    fn begin_again(&mut self, client: &mut Client) -> Result<Option<Prepared>, KafkaError> {
        while let Some(oldest) = self.used.front() {
            let found = client.describe_transaction(&oldest.id)?;
            let found = found.filter(|found| found.producer == oldest.identity());
            let committed = match found.as_ref().map(|found| found.state.as_str()) {
                Some("CompleteCommit") => true,
                // Its commit is still to come.
                Some("Ongoing" | "PrepareCommit") => return Ok(None),
                // It was aborted. The committer has to find it so.
                _ => false,
            };
            let Some(oldest) = self.used.pop_front() else { break };
            if !committed {
                continue;
            }
            let identity = client.init_producer(Some(&oldest.id), self.timeout)?;
            // Another producer id would make the earlier transaction unrecognisable.
            if identity.id == oldest.producer && identity.epoch == oldest.epoch + 1 {
                return Ok(Some(Prepared { epoch: identity.epoch, ..oldest }));
            }
        }
        Ok(None)
    }

    /// Ends the open transaction on the writer's side.
    fn prepare(&mut self) -> KafkaCommittable {
        let transaction = self.open.take();
        self.used.extend(transaction.clone());
        KafkaCommittable {
            run: self.next.run.clone(),
            subtask: self.next.subtask,
            parallelism: self.parallelism,
            attempt: self.next.attempt,
            transaction,
        }
    }
}
