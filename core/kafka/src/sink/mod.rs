//! [`KafkaSink`]: writes records to Kafka topics.

mod committable;
mod committer;
mod outcome;
mod partitioner;
mod producer;
mod transactional_id;
mod writer;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use weir::sink::{Committer, CommitterContext, Sink, SinkError, WriterContext};

pub use writer::KafkaWriter;

use self::committer::KafkaCommitter;
use self::producer::ProducerSettings;
use self::transactional_id::{check_prefix, run_part};
use crate::batch::Compression;
use crate::client::{Client, Cluster};
use crate::error::KafkaError;

/// A record as it is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaMessage {
    topic: Option<Arc<str>>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl KafkaMessage {
    /// A record with this value.
    pub fn new(value: impl Into<Vec<u8>>) -> KafkaMessage {
        KafkaMessage { value: Some(value.into()), ..KafkaMessage::default() }
    }

    /// A record without a value: in a compacted topic it deletes what has this key.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> KafkaMessage {
        KafkaMessage { key: Some(key.into()), ..KafkaMessage::default() }
    }

    /// Its key. Records with the same key go to the same partition, the one Kafka's own clients choose.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> KafkaMessage {
        self.key = Some(key.into());
        self
    }

    /// The topic, if it is not the sink's.
    pub fn topic(mut self, topic: impl Into<Arc<str>>) -> KafkaMessage {
        self.topic = Some(topic.into());
        self
    }

    /// The partition, if not the one of its key.
    pub fn partition(mut self, partition: i32) -> KafkaMessage {
        self.partition = Some(partition);
        self
    }

    /// Its time in milliseconds since 1970-01-01 UTC; the current one unless set.
    pub fn timestamp(mut self, timestamp: i64) -> KafkaMessage {
        self.timestamp = Some(timestamp);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> KafkaMessage {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What is promised about records when the job fails and is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Delivery {
    None,
    AtLeastOnce,
    ExactlyOnce { prefix: String },
}

/// What to do about records whose transaction was aborted by the brokers before its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LostTransaction {
    /// Fail.
    #[default]
    Fail,
    /// Say so on standard error, and go on without them.
    GoOn,
}

#[derive(Debug, Clone)]
struct Settings {
    cluster: Cluster,
    topic: Arc<str>,
    delivery: Delivery,
    transaction_timeout: Duration,
    lost_transaction: LostTransaction,
    compression: Compression,
    batch_bytes: usize,
    buffer_bytes: usize,
}

impl Settings {
    fn producer(&self) -> ProducerSettings {
        ProducerSettings {
            acks: if self.delivery == Delivery::None { 1 } else { -1 },
            compression: self.compression,
            batch_bytes: self.batch_bytes,
            buffer_bytes: self.buffer_bytes,
        }
    }

    /// Finds out whether the job could write, and makes the committer if there is something to commit.
    fn prepare(&self, run_id: &str) -> Result<Option<KafkaCommitter>, KafkaError> {
        let mut client = Client::connect(&self.cluster)?;
        client.topics(&[&self.topic])?;
        let Delivery::ExactlyOnce { prefix } = &self.delivery else { return Ok(None) };
        check_prefix(prefix).map_err(KafkaError::Setting)?;
        let run = run_part(run_id);
        // Whether transactions of this length are allowed at all is better found out now than at the first record.
        client.init_producer(Some(&format!("{prefix}:{run}:probe")), self.transaction_timeout)?;
        client.open_transactions()?;
        Ok(Some(KafkaCommitter::new(client, self.clone(), prefix.clone(), run)))
    }
}

/// Writes records to a Kafka topic, as a function makes [`KafkaMessage`]s of them.
///
/// Unless told otherwise every record is written at least once: after a failure records may come twice. With
/// [`exactly_once`](Self::exactly_once) they are written in transactions that are committed when a checkpoint is complete or the job has finished.
///
/// ```no_run
/// use weir::prelude::*;
/// use weir_kafka::{KafkaMessage, KafkaSink};
///
/// fn job(env: &Environment) -> weir::Result<()> {
///     let counts = KafkaSink::new("localhost:9092", "counts", |(word, count): (String, u64)| {
///         KafkaMessage::new(count.to_string()).key(word)
///     });
///     env.read_text("words.txt")
///         .map(|line| line.to_string())
///         .key_by(|word| word.clone())
///         .count()
///         .sink(counts.exactly_once("word-counts"));
///     Ok(())
/// }
/// ```
pub struct KafkaSink<T, F> {
    settings: Settings,
    encode: F,
    item: PhantomData<fn(T)>,
}

impl<T, F> KafkaSink<T, F>
where
    F: Fn(T) -> KafkaMessage + Clone + Send + 'static,
{
    /// Writes to this topic what `encode` makes of each record, or to the topic the message names.
    pub fn new(cluster: impl Into<Cluster>, topic: impl Into<Arc<str>>, encode: F) -> KafkaSink<T, F> {
        let settings = Settings {
            cluster: cluster.into(),
            topic: topic.into(),
            delivery: Delivery::AtLeastOnce,
            transaction_timeout: Duration::from_secs(15 * 60),
            lost_transaction: LostTransaction::Fail,
            compression: Compression::None,
            batch_bytes: 512 << 10,
            buffer_bytes: 32 << 20,
        };
        KafkaSink { settings, encode, item: PhantomData }
    }

    /// Promises nothing about failures: the leader of a partition alone has to have a record, and one may come twice after a broken
    /// connection or be lost with a broker.
    pub fn without_guarantee(mut self) -> Self {
        self.settings.delivery = Delivery::None;
        self
    }

    /// Writes in transactions, so that readers of committed records see each record once, whatever fails. Transactional ids begin with
    /// `prefix`. No other sink, of this job or another one, may use it in this Kafka cluster; a job that continues this one should, so that what
    /// this one left open is aborted.
    pub fn exactly_once(mut self, prefix: impl Into<String>) -> Self {
        self.settings.delivery = Delivery::ExactlyOnce { prefix: prefix.into() };
        self
    }

    /// How long a transaction may be open before brokers abort it: longer than the time between two checkpoints and that of a recovery together.
    /// 15 min unless set, which is also what brokers allow unless configured otherwise.
    pub fn transaction_timeout(mut self, time: Duration) -> Self {
        self.settings.transaction_timeout = time;
        self
    }

    /// What to do when a transaction cannot be committed any more; fails unless set.
    pub fn on_lost_transaction(mut self, policy: LostTransaction) -> Self {
        self.settings.lost_transaction = policy;
        self
    }

    /// How record batches are compressed; not at all unless set.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// How large a batch may be, before compression; 512 KiB unless set. Brokers take 1 MiB unless configured otherwise.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// How many bytes a subtask may hold back until batches are full; 32 MiB unless set.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes;
        self
    }
}

impl<T, F: Clone> Clone for KafkaSink<T, F> {
    fn clone(&self) -> Self {
        KafkaSink { settings: self.settings.clone(), encode: self.encode.clone(), item: PhantomData }
    }
}

impl<T, F> fmt::Debug for KafkaSink<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<T, F> Sink<T> for KafkaSink<T, F>
where
    T: 'static,
    F: Fn(T) -> KafkaMessage + Clone + Send + 'static,
{
    type Writer = KafkaWriter<T, F>;

    fn name(&self) -> String {
        format!("Sink: Kafka topic {}", self.settings.topic)
    }

    fn create_writer(&self, context: &WriterContext) -> Result<KafkaWriter<T, F>, SinkError> {
        KafkaWriter::new(&self.settings, self.encode.clone(), context).map_err(SinkError::new)
    }

    fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
        let committer = self.settings.prepare(&context.run_id).map_err(SinkError::new)?;
        Ok(committer.map(|committer| Box::new(committer) as Box<dyn Committer>))
    }
}
