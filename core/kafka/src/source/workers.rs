//! The threads that talk to brokers, so that a task never waits for the network: one for each broker that records are fetched from, and
//! one for questions about the cluster.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use weir::source::{ReaderWaker, SourceError};

use super::partition::{Readable, readable};
use crate::client::cluster::{Address, Cluster};
use crate::client::connection::Connection;
use crate::client::fetch::{FetchLimits, fetch};
use crate::client::{Client, OffsetAt, TopicPartition};
use crate::error::KafkaError;

/// What the threads tell the reader.
#[derive(Debug)]
pub(super) enum Answer {
    /// Of the broker with this id.
    Fetched(i32, Result<Vec<PartitionAnswer>, KafkaError>),
    /// Who leads the partitions of the topics, and where these brokers are.
    Leaders(Result<Leaders, KafkaError>),
    /// The first offset of a partition, and the one behind its last record.
    Range(TopicPartition, Result<(i64, i64), KafkaError>),
}

/// What came of one partition.
#[derive(Debug)]
pub(super) struct PartitionAnswer {
    pub(super) partition: TopicPartition,
    pub(super) from: i64,
    pub(super) result: Result<Readable, PartitionFailure>,
}

#[derive(Debug)]
pub(super) enum PartitionFailure {
    /// The broker's error code.
    Refused(i16),
    Damaged(KafkaError),
}

/// Leaders of partitions.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    pub(super) of: BTreeMap<TopicPartition, i32>,
    pub(super) brokers: BTreeMap<i32, Address>,
}

/// What is to be fetched from a broker.
#[derive(Debug)]
pub(super) struct FetchJob {
    pub(super) address: Address,
    pub(super) positions: Vec<(TopicPartition, i64)>,
    /// How long the broker waits for the first byte.
    pub(super) wait: Duration,
}

/// A question about the cluster.
#[derive(Debug)]
pub(super) enum Question {
    /// Who leads the partitions of these topics?
    Leaders(Vec<String>),
    /// Where does a partition begin and end?
    Range(TopicPartition),
}

/// The reader's end of the threads; they end soon after it is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    cluster: Cluster,
    limits: FetchLimits,
    waker: ReaderWaker,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    fetchers: BTreeMap<i32, Sender<FetchJob>>,
    questions: Option<Sender<Question>>,
}

impl Workers {
    pub(super) fn new(cluster: Cluster, limits: FetchLimits, waker: ReaderWaker) -> Workers {
        let (answer, answers) = channel();
        Workers { cluster, limits, waker, answers, answer, fetchers: BTreeMap::new(), questions: None }
    }

    /// An answer, if there is one.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Has a broker asked for records. It must have answered the last time it was.
    pub(super) fn fetch(&mut self, broker: i32, job: FetchJob) -> Result<(), SourceError> {
        let fetcher = match self.fetchers.get(&broker) {
            Some(fetcher) => fetcher,
            None => {
                let (jobs, received) = channel();
                let (cluster, limits) = (self.cluster.clone(), self.limits.clone());
                self.spawn(move |tell| fetch_jobs(broker, &cluster, &limits, &received, &tell))?;
                self.fetchers.entry(broker).or_insert(jobs)
            }
        };
        fetcher.send(job).map_err(|_| died())
    }

    /// Has a question answered.
    pub(super) fn ask(&mut self, question: Question) -> Result<(), SourceError> {
        let questions = match self.questions.take() {
            Some(questions) => questions,
            None => {
                let (questions, received) = channel();
                let (client, committed) = (Client::new(&self.cluster), self.limits.committed);
                self.spawn(move |tell| answer_questions(client, committed, &received, &tell))?;
                questions
            }
        };
        let asked = questions.send(question).map_err(|_| died());
        self.questions = Some(questions);
        asked
    }

    fn spawn(&self, run: impl FnOnce(Box<dyn Fn(Answer) -> bool + Send>) + Send + 'static) -> Result<(), SourceError> {
        let (answer, waker) = (self.answer.clone(), self.waker.clone());
        let tell = Box::new(move |told| {
            let wanted = answer.send(told).is_ok() && !waker.is_canceled();
            waker.wake();
            wanted
        });
        let spawned = thread::Builder::new().name("weir-kafka".to_owned()).spawn(move || run(tell));
        spawned
            .map(drop)
            .map_err(|error| SourceError::new(format!("a thread for reading from Kafka cannot be started: {error}")))
    }
}

fn died() -> SourceError {
    SourceError::new("a thread that reads from Kafka died")
}

fn fetch_jobs(
    broker: i32,
    cluster: &Cluster,
    limits: &FetchLimits,
    jobs: &Receiver<FetchJob>,
    tell: &dyn Fn(Answer) -> bool,
) {
    let mut connected: Option<(Address, Connection)> = None;
    while let Ok(job) = jobs.recv() {
        connected = connected.filter(|(address, _)| *address == job.address);
        let limits = FetchLimits { wait: job.wait, ..limits.clone() };
        let result = match connected.take() {
            Some((_, connection)) => Ok(connection),
            None => Connection::open(&job.address, cluster),
        };
        let result = result.and_then(|mut connection| {
            let fetched = fetch(&mut connection, &limits, &job.positions)?;
            connected = Some((job.address, connection));
            Ok(fetched)
        });
        let answers = result.map(|fetched| {
            let answer = |one: crate::client::fetch::Fetched| PartitionAnswer {
                result: match one.error_code {
                    0 => readable(&one).map_err(PartitionFailure::Damaged),
                    code => Err(PartitionFailure::Refused(code)),
                },
                from: one.from,
                partition: one.partition,
            };
            fetched.into_iter().map(answer).collect()
        });
        if !tell(Answer::Fetched(broker, answers)) {
            return;
        }
    }
}

fn answer_questions(
    mut client: Client,
    committed: bool,
    questions: &Receiver<Question>,
    tell: &dyn Fn(Answer) -> bool,
) {
    while let Ok(question) = questions.recv() {
        let answer = match question {
            Question::Leaders(topics) => Answer::Leaders(leaders(&mut client, &topics)),
            Question::Range(partition) => {
                let range = range(&mut client, &partition, committed);
                Answer::Range(partition, range)
            }
        };
        if !tell(answer) {
            return;
        }
    }
}

fn leaders(client: &mut Client, topics: &[String]) -> Result<Leaders, KafkaError> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut leaders = Leaders::default();
    for (topic, partitions) in client.topics(&names).map_err(KafkaError::of_known_topic)? {
        for (partition, leader) in partitions {
            if let Some((leader, address)) = leader.and_then(|leader| Some((leader, client.address(leader)?))) {
                leaders.of.insert(TopicPartition::new(topic.as_str(), partition), leader);
                leaders.brokers.insert(leader, address.clone());
            }
        }
    }
    Ok(leaders)
}

fn range(client: &mut Client, partition: &TopicPartition, committed: bool) -> Result<(i64, i64), KafkaError> {
    let mut offset = |at| {
        let found = client.offsets(std::slice::from_ref(partition), at, committed)?;
        Ok::<_, KafkaError>(found.get(partition).copied().unwrap_or(0))
    };
    Ok((offset(OffsetAt::Earliest)?, offset(OffsetAt::Latest)?))
}
