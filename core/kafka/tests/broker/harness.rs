//! What the tests have in common: topics of their own, readers and writers without a job around them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weir::metrics::OperatorMetrics;
use weir::operator::Collector;
use weir::sink::{Committer, CommitterContext, Sink, SinkWriter, WriterContext};
use weir::source::{
    EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, ReaderWaker, Source, SourceError, SourceReader,
    SplitEnumerator,
};
use weir_dataflow::element::Control;
use weir_kafka::client::Client;
use weir_kafka::{Cluster, KafkaMessage, KafkaRecord, KafkaSink, KafkaSource, KafkaSplit, OffsetAt, TopicPartition};

/// How long to wait for what has to happen, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a topic nobody else uses and returns its name.
pub fn new_topic(servers: &str, partitions: i32) -> String {
    let topic = unique("topic");
    client(servers).create_topic(&topic, partitions, 1, &[]).unwrap();
    topic
}

/// A name nobody else uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn client(servers: &str) -> Client {
    Client::connect(&servers.into()).unwrap()
}

/// Partition, offset and value of a record.
pub type Read = (i32, i64, String);

pub type Decode = fn(&KafkaRecord<'_>) -> Result<Option<Read>, SourceError>;

pub fn decode(record: &KafkaRecord<'_>) -> Result<Option<Read>, SourceError> {
    let value = String::from_utf8(record.value().unwrap_or_default().to_vec()).map_err(SourceError::new)?;
    Ok(Some((record.partition(), record.offset(), value)))
}

/// A source of these topics.
pub fn source(servers: &str, topic: &str) -> KafkaSource<Read, Decode> {
    KafkaSource::new(servers, [topic], decode as Decode).discovery_interval(Some(Duration::from_millis(200)))
}

/// Numbers as messages with themselves as keys.
pub type Encode = fn(u64) -> KafkaMessage;

pub fn encode(number: u64) -> KafkaMessage {
    KafkaMessage::new(number.to_string()).key(number.to_string())
}

/// A sink of numbers.
pub fn sink(servers: &str, topic: &str) -> KafkaSink<u64, Encode> {
    KafkaSink::new(servers, topic, encode as Encode)
}

/// A cluster whose failures are reported soon.
pub fn impatient(servers: &str) -> Cluster {
    Cluster::new(servers).retry_timeout(Duration::from_secs(2))
}

/// Writes numbers and waits until the broker has them.
pub fn write(servers: &str, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut writer = sink(servers, topic).create_writer(&writer_context("r", 0)).unwrap();
    numbers.into_iter().for_each(|number| writer.write(number).unwrap());
    assert_eq!(writer.prepare_commit().unwrap(), Vec::<Vec<u8>>::new());
}

/// Of subtask 0 of 2.
pub fn writer_context(run: &str, attempt: u32) -> WriterContext {
    WriterContext { subtask: 0, parallelism: 2, run_id: run.to_owned(), attempt, metrics: OperatorMetrics::detached() }
}

pub fn committer<T: 'static, S: Sink<T>>(sink: &S, run: &str) -> Box<dyn Committer> {
    sink.create_committer(&CommitterContext { run_id: run.to_owned(), restored: false })
        .unwrap()
        .expect("a sink that commits")
}

struct Got<T>(Vec<T>);

impl<T> Collector<T> for Got<T> {
    fn push(&mut self, record: T) {
        self.0.push(record);
    }
}

/// A reader with the enumerator it asks for splits.
pub struct Reading<S: Source> {
    pub enumerator: S::Enumerator,
    pub reader: S::Reader,
    pub got: Vec<S::Item>,
    /// Watermarks and changes of idleness.
    pub times: Vec<Control>,
    pub finished: bool,
    metrics: OperatorMetrics,
}

impl<S: Source<Split = KafkaSplit>> Reading<S> {
    pub fn start(source: &S) -> Result<Self, SourceError> {
        Self::restore(source, None, Vec::new())
    }

    pub fn restore(source: &S, enumerator: Option<Vec<u8>>, splits: Vec<KafkaSplit>) -> Result<Self, SourceError> {
        let mut enumerator = source.create_enumerator(&EnumeratorContext { parallelism: 1, restored: enumerator })?;
        enumerator.add_back(splits);
        let metrics = OperatorMetrics::detached();
        let waker = ReaderWaker::detached();
        let context = ReaderContext { subtask: 0, parallelism: 1, waker, metrics: metrics.clone() };
        let reader = source.create_reader(&context)?;
        Ok(Reading { enumerator, reader, got: Vec::new(), times: Vec::new(), finished: false, metrics })
    }

    /// Polls once, as a task does.
    pub fn poll(&mut self) -> Result<(), SourceError> {
        let mut got = Got(Vec::new());
        let status = self.reader.poll(&mut got)?;
        self.got.append(&mut got.0);
        while let Some(control) = self.reader.time() {
            self.times.push(control);
        }
        match status {
            ReaderStatus::More => {}
            // Nobody wakes a reader without a task.
            ReaderStatus::Wait(_) => std::thread::sleep(Duration::from_millis(2)),
            ReaderStatus::NeedSplit => match self.enumerator.next_split(0)? {
                NextSplit::Split(split) => self.reader.add_split(split)?,
                NextSplit::NotYet(_) => {}
                NextSplit::Finished => self.finished = true,
            },
        }
        Ok(())
    }

    /// The value of a metric, by its name with its groups.
    pub fn metric(&self, name: &str) -> f64 {
        let all = self.metrics.values();
        let found = all.iter().find(|metric| metric.full_name() == name);
        found.unwrap_or_else(|| panic!("{name} is not among {all:?}")).value
    }

    /// Polls until it holds.
    pub fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "still waiting after {} records", self.got.len());
            self.poll().unwrap();
        }
    }

    /// Polls until it fails.
    pub fn failure(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline && !self.finished, "it does not fail");
            if let Err(error) = self.poll() {
                return error.to_string();
            }
        }
    }
}

/// All a bounded source reads.
pub fn read_all<S: Source<Split = KafkaSplit>>(source: &S) -> Vec<S::Item> {
    let mut reading = Reading::start(source).unwrap();
    reading.until(|reading| reading.finished);
    reading.got
}

/// The numbers in a topic, as readers of committed records see it now, in order of their size.
pub fn committed(servers: &str, topic: &str) -> Vec<u64> {
    numbers(&read_all(&source(servers, topic).until(OffsetAt::Latest)))
}

pub fn numbers(read: &[Read]) -> Vec<u64> {
    let mut numbers: Vec<u64> = read.iter().map(|(_, _, value)| value.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Waits until readers of committed records can get to the end of a topic: no transaction in it is open.
pub fn wait_until_settled(servers: &str, topic: &str) {
    let mut client = client(servers);
    let partitions = client.partitions(topic).unwrap();
    let partitions: Vec<_> = partitions.into_iter().map(|one| TopicPartition::new(topic, one)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut end = |committed| client.offsets(&partitions, OffsetAt::Latest, committed).unwrap();
        if end(true) == end(false) {
            return;
        }
        assert!(Instant::now() < deadline, "a transaction in {topic} stays open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The executable of an example.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: build it with `cargo build -p weir-kafka --examples`", path.display());
    path
}
