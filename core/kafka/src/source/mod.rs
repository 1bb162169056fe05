//! [`KafkaSource`]: records of Kafka topics.

mod assignment;
mod discovery;
mod enumerator;
mod metrics;
mod partition;
mod reader;
mod split;
mod workers;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use weir::source::{Boundedness, EnumeratorContext, ReaderContext, Source, SourceError};

pub use enumerator::KafkaEnumerator;
pub use reader::KafkaReader;
pub use split::{KafkaSplit, PartitionSplit};

use self::discovery::Subscription;
use crate::batch::RecordView;
use crate::client::fetch::FetchLimits;
use crate::client::{Cluster, OffsetAt, TopicPartition};
use crate::error::KafkaError;

/// A record as it is in Kafka.
#[derive(Debug, Clone, Copy)]
pub struct KafkaRecord<'a> {
    id: &'a TopicPartition,
    record: &'a RecordView<'a>,
}

impl<'a> KafkaRecord<'a> {
    /// The topic it is in.
    pub fn topic(&self) -> &'a str {
        &self.id.topic
    }

    /// The partition it is in.
    pub fn partition(&self) -> i32 {
        self.id.partition
    }

    /// Where in the partition it is.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// When it was made, or appended to the log, as the topic has it; milliseconds since 1970-01-01 UTC, below 0 if unknown.
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp
    }

    /// Its key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key
    }

    /// Its value; none marks the deletion of what has its key.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value
    }

    /// Its headers: names and values. A name may come more than once.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        self.record.headers.clone()
    }
}

/// What to do when the position of a partition is not in the log any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LostPosition {
    /// Fail: records were missed.
    #[default]
    Fail,
    /// Go on with the first record there is.
    Earliest,
    /// Go on with the next record that is written.
    Latest,
}

#[derive(Debug, Clone)]
struct Settings {
    cluster: Cluster,
    subscription: Subscription,
    start: OffsetAt,
    start_at: BTreeMap<TopicPartition, i64>,
    until: Option<OffsetAt>,
    committed: bool,
    discovery_interval: Option<Duration>,
    lost_position: LostPosition,
    partition_bytes: usize,
}

impl Settings {
    fn describe(&self) -> String {
        match &self.subscription {
            Subscription::Topics(topics) => format!("Kafka topics {}", topics.join(", ")),
            Subscription::Pattern(pattern) => format!("Kafka topics {pattern}"),
        }
    }

    fn fetch_limits(&self) -> FetchLimits {
        let partition_bytes = i32::try_from(self.partition_bytes).unwrap_or(i32::MAX);
        FetchLimits {
            committed: self.committed,
            wait: Duration::ZERO,
            partition_bytes,
            bytes: partition_bytes.saturating_mul(16),
        }
    }
}

/// The records of Kafka topics, decoded by a function.
///
/// Each partition is a split with a position. A subtask reads several at once and emits their records in runs, each run in the
/// order of its partition. Positions are part of the job's state and of nothing else: there is no consumer group, and nothing is committed
/// to Kafka.
///
/// ```no_run
/// use weir::prelude::*;
/// use weir_kafka::{KafkaSource, OffsetAt};
///
/// fn job(env: &Environment) -> weir::Result<()> {
///     let words = KafkaSource::new("localhost:9092", ["words"], |record| {
///         Ok(record.value().map(|value| String::from_utf8_lossy(value).into_owned()))
///     });
///     env.source(words.start(OffsetAt::Earliest)).print();
///     Ok(())
/// }
/// ```
pub struct KafkaSource<T, F> {
    settings: Settings,
    decode: F,
    item: PhantomData<fn() -> T>,
}

impl<T, F> KafkaSource<T, F>
where
    T: Send + 'static,
    F: Fn(&KafkaRecord<'_>) -> Result<Option<T>, SourceError> + Clone + Send + 'static,
{
    /// The records of these topics. `decode` makes an item of each, leaves it out with `None`, or fails the job.
    pub fn new<S: Into<String>>(
        cluster: impl Into<Cluster>,
        topics: impl IntoIterator<Item = S>,
        decode: F,
    ) -> KafkaSource<T, F> {
        let topics = topics.into_iter().map(Into::into).collect();
        KafkaSource::of(cluster.into(), Subscription::Topics(topics), decode)
    }

    /// The records of all topics whose names match a pattern, also of topics that are made later. `*` stands for any characters, `?` for
    /// one, `[ab]` for one of several. Kafka's own topics are left out.
    pub fn matching(cluster: impl Into<Cluster>, pattern: &str, decode: F) -> Result<KafkaSource<T, F>, KafkaError> {
        let pattern = glob::Pattern::new(pattern).map_err(|error| {
            KafkaError::Setting(format!("the pattern {pattern:?} of Kafka topics cannot be used: {error}"))
        })?;
        Ok(KafkaSource::of(cluster.into(), Subscription::Pattern(pattern), decode))
    }

    fn of(cluster: Cluster, subscription: Subscription, decode: F) -> KafkaSource<T, F> {
        let settings = Settings {
            cluster,
            subscription,
            start: OffsetAt::Earliest,
            start_at: BTreeMap::new(),
            until: None,
            committed: true,
            discovery_interval: Some(Duration::from_secs(60)),
            lost_position: LostPosition::Fail,
            partition_bytes: 1 << 20,
        };
        KafkaSource { settings, decode, item: PhantomData }
    }

    /// Where a job that is not restored starts to read; at the first record unless set. Partitions that appear later are read from
    /// their first record.
    pub fn start(mut self, at: OffsetAt) -> Self {
        self.settings.start = at;
        self
    }

    /// Where it starts in one partition, an offset.
    pub fn start_at(mut self, topic: &str, partition: i32, offset: i64) -> Self {
        self.settings.start_at.insert(TopicPartition::new(topic, partition), offset);
        self
    }

    /// Makes the source end: it reads up to this place, looked up when the job starts, e.g. [`OffsetAt::Latest`]. It then looks for no
    /// new partitions.
    pub fn until(mut self, at: OffsetAt) -> Self {
        self.settings.until = Some(at);
        self
    }

    /// Also reads records of transactions that are open or were aborted. Unless set, a partition is read up to the first open
    /// transaction.
    pub fn uncommitted(mut self) -> Self {
        self.settings.committed = false;
        self
    }

    /// How often to look for new partitions and topics, or never; every 60 s unless set.
    pub fn discovery_interval(mut self, interval: Option<Duration>) -> Self {
        self.settings.discovery_interval = interval;
        self
    }

    /// What to do when the broker has deleted the record that would be next; fails unless set.
    pub fn on_lost_position(mut self, policy: LostPosition) -> Self {
        self.settings.lost_position = policy;
        self
    }

    /// How many bytes of a partition are fetched at once and kept ready, at most (but for a record that is larger); 1 MiB unless
    /// set.
    pub fn partition_bytes(mut self, bytes: usize) -> Self {
        self.settings.partition_bytes = bytes.max(1);
        self
    }
}

impl<T, F: Clone> Clone for KafkaSource<T, F> {
    fn clone(&self) -> Self {
        KafkaSource { settings: self.settings.clone(), decode: self.decode.clone(), item: PhantomData }
    }
}

impl<T, F> fmt::Debug for KafkaSource<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<T, F> Source for KafkaSource<T, F>
where
    T: Send + 'static,
    F: Fn(&KafkaRecord<'_>) -> Result<Option<T>, SourceError> + Clone + Send + 'static,
{
    type Item = T;
    type Split = KafkaSplit;
    type Enumerator = KafkaEnumerator;
    type Reader = KafkaReader<T, F>;

    fn boundedness(&self) -> Boundedness {
        if self.settings.until.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn name(&self) -> String {
        format!("Source: {}", self.settings.describe())
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<KafkaEnumerator, SourceError> {
        KafkaEnumerator::new(&self.settings, context)
    }

    fn create_reader(&self, context: &ReaderContext) -> Result<KafkaReader<T, F>, SourceError> {
        Ok(KafkaReader::new(self.settings.clone(), self.decode.clone(), context))
    }
}
