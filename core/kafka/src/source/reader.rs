//! The reader of one subtask: fetches from several brokers at once and emits one partition after the other.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use weir::operator::Collector;
use weir::source::{ReaderContext, ReaderStatus, SourceError, SourceReader};

use super::metrics::ReaderMetrics;
use super::partition::{EmitError, Partition};
use super::split::KafkaSplit;
use super::workers::{Answer, FetchJob, Leaders, PartitionAnswer, PartitionFailure, Question, Workers};
use super::{KafkaRecord, LostPosition, Settings};
use crate::client::TopicPartition;
use crate::client::backoff::Backoff;
use crate::client::cluster::Address;
use crate::error::{KafkaError, is_retriable};

/// Records emitted by one poll, all of one partition.
const POLL: usize = 4096;

/// How long a broker waits for records when there are none.
const LONG_WAIT: Duration = Duration::from_millis(500);

/// The same while a partition of that broker is left out because there is enough of it: it may be wanted any moment.
const SHORT_WAIT: Duration = Duration::from_millis(10);

/// Something that failed and is tried again after a while.
#[derive(Debug)]
struct Retry {
    backoff: Backoff,
    /// Not before this.
    at: Option<Instant>,
}

impl Retry {
    fn new() -> Retry {
        Retry { backoff: Backoff::new(), at: None }
    }

    fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at <= Instant::now())
    }

    fn failed(&mut self, what: &str, limit: Duration, error: KafkaError) -> Result<(), SourceError> {
        let pause = self.backoff.failed(what, limit, error).map_err(SourceError::new)?;
        self.at = Some(Instant::now() + pause);
        Ok(())
    }

    fn worked(&mut self) {
        self.backoff.reset();
        self.at = None;
    }
}

#[derive(Debug)]
struct Broker {
    address: Address,
    /// Whether it has been asked and has not answered.
    busy: bool,
    retry: Retry,
}

/// Reads partitions in one subtask.
#[derive(Debug)]
pub struct KafkaReader<T, F> {
    settings: Settings,
    decode: F,
    item: PhantomData<fn() -> T>,
    partitions: Vec<Partition>,
    /// Which partition is emitted next.
    turn: usize,
    workers: Workers,
    brokers: BTreeMap<i32, Broker>,
    /// Whether who leads what must be looked up, and whether that is under way.
    leaders_wanted: bool,
    leaders_asked: bool,
    leaders_retry: Retry,
    /// When to ask for another split; never, if there will be none before all of these are finished.
    ask_at: Option<Instant>,
    /// How many partitions it has been given so far.
    given: u64,
    metrics: ReaderMetrics,
}

impl<T, F> KafkaReader<T, F> {
    pub(super) fn new(settings: Settings, decode: F, context: &ReaderContext) -> KafkaReader<T, F> {
        KafkaReader {
            workers: Workers::new(settings.cluster.clone(), settings.fetch_limits(), context.waker.clone()),
            settings,
            decode,
            item: PhantomData,
            partitions: Vec::new(),
            turn: 0,
            brokers: BTreeMap::new(),
            leaders_wanted: false,
            leaders_asked: false,
            leaders_retry: Retry::new(),
            ask_at: Some(Instant::now()),
            given: 0,
            metrics: ReaderMetrics::new(&context.metrics),
        }
    }

    fn partition(&mut self, id: &TopicPartition) -> Option<&mut Partition> {
        self.partitions.iter_mut().find(|one| one.id == *id)
    }

    /// Takes in what the threads have found.
    fn take_answers(&mut self) -> Result<(), SourceError> {
        while let Some(answer) = self.workers.answer() {
            match answer {
                Answer::Fetched(broker, result) => self.on_fetched(broker, result)?,
                Answer::Leaders(leaders) => self.on_leaders(leaders)?,
                Answer::Range(partition, range) => self.on_range(&partition, range)?,
            }
        }
        Ok(())
    }

    fn on_fetched(&mut self, from: i32, result: Result<Vec<PartitionAnswer>, KafkaError>) -> Result<(), SourceError> {
        for partition in self.partitions.iter_mut().filter(|one| one.leader == Some(from)) {
            partition.in_flight = false;
        }
        let mut failure = None;
        match result {
            Ok(answers) => {
                for answer in answers {
                    failure = self.on_partition(answer)?.or(failure);
                }
            }
            Err(error) => failure = Some(error),
        }
        let limit = self.settings.cluster.retry_timeout;
        let Some(broker) = self.brokers.get_mut(&from) else { return Ok(()) };
        broker.busy = false;
        match failure {
            None => broker.retry.worked(),
            Some(error) => {
                self.leaders_wanted = true;
                broker.retry.failed("reading", limit, error)?;
            }
        }
        Ok(())
    }

    /// Takes in what came of a partition; returns a failure that may pass.
    fn on_partition(&mut self, answer: PartitionAnswer) -> Result<Option<KafkaError>, SourceError> {
        let id = answer.partition;
        let Some(partition) = self.partition(&id) else { return Ok(None) };
        match answer.result {
            Ok(readable) => partition.fetched(answer.from, readable),
            Err(PartitionFailure::Damaged(error)) => return Err(SourceError::new(error)),
            Err(PartitionFailure::Refused(code)) => {
                let code = ResponseError::try_from_code(code).unwrap_or(ResponseError::UnknownServerError);
                if code == ResponseError::OffsetOutOfRange {
                    // Not fetched again before it is known where it can go on.
                    partition.in_flight = true;
                    partition.leader = None;
                    self.workers.ask(Question::Range(id))?;
                    return Ok(None);
                }
                let error = KafkaError::Refused { what: format!("reading {}-{}", id.topic, id.partition), code };
                return if is_retriable(code) { Ok(Some(error)) } else { Err(SourceError::new(error)) };
            }
        }
        Ok(None)
    }

    fn on_leaders(&mut self, leaders: Result<Leaders, KafkaError>) -> Result<(), SourceError> {
        self.leaders_asked = false;
        let limit = self.settings.cluster.retry_timeout;
        let leaders = match leaders {
            Ok(leaders) => leaders,
            Err(error) => return self.leaders_retry.failed("finding the leaders of partitions", limit, error),
        };
        for (id, address) in leaders.brokers {
            let known = self.brokers.entry(id).or_insert_with(|| Broker {
                address: address.clone(),
                busy: false,
                retry: Retry::new(),
            });
            known.address = address;
        }
        let mut missing = None;
        for partition in &mut self.partitions {
            match leaders.of.get(&partition.id) {
                // What is under way at the old one still has to be answered.
                _ if partition.in_flight => {}
                Some(leader) => partition.leader = Some(*leader),
                None => missing = Some(partition.id.clone()),
            }
        }
        match missing {
            None => {
                self.leaders_wanted = false;
                self.leaders_retry.worked();
                Ok(())
            }
            Some(id) => {
                let what = format!("reading {}-{}", id.topic, id.partition);
                let error = KafkaError::Refused { what, code: ResponseError::LeaderNotAvailable };
                self.leaders_retry.failed("finding the leaders of partitions", limit, error)
            }
        }
    }

    /// Goes on with a partition whose position is not in the log.
    fn on_range(&mut self, id: &TopicPartition, range: Result<(i64, i64), KafkaError>) -> Result<(), SourceError> {
        let (earliest, latest) = range.map_err(SourceError::new)?;
        let policy = self.settings.lost_position;
        self.leaders_wanted = true;
        let Some(partition) = self.partition(id) else { return Ok(()) };
        partition.in_flight = false;
        let position = partition.wants(usize::MAX).unwrap_or_default();
        if (earliest..=latest).contains(&position) {
            return Ok(());
        }
        match policy {
            LostPosition::Earliest => partition.jump(earliest),
            LostPosition::Latest => partition.jump(latest),
            LostPosition::Fail => {
                return Err(SourceError::new(KafkaError::PositionLost {
                    topic: id.topic.to_string(),
                    partition: id.partition,
                    position,
                    earliest,
                    latest,
                }));
            }
        }
        Ok(())
    }

    /// Has asked what can be asked now.
    fn ask(&mut self) -> Result<(), SourceError> {
        if self.leaders_wanted && !self.leaders_asked && self.leaders_retry.is_due() {
            let mut topics: Vec<String> = self.partitions.iter().map(|one| one.id.topic.to_string()).collect();
            topics.sort_unstable();
            topics.dedup();
            self.leaders_asked = true;
            self.workers.ask(Question::Leaders(topics))?;
        }
        let most = self.settings.partition_bytes;
        for (id, broker) in &mut self.brokers {
            if broker.busy || !broker.retry.is_due() {
                continue;
            }
            let mut enough = false;
            let mut positions = Vec::new();
            for partition in &mut self.partitions {
                if partition.leader != Some(*id) || partition.in_flight {
                    continue;
                }
                match partition.wants(most) {
                    Some(from) => {
                        partition.in_flight = true;
                        positions.push((partition.id.clone(), from));
                    }
                    // A paused one does not ask for others to hurry.
                    None => enough |= partition.may_emit(),
                }
            }
            if !positions.is_empty() {
                broker.busy = true;
                let wait = if enough { SHORT_WAIT } else { LONG_WAIT };
                self.workers.fetch(*id, FetchJob { address: broker.address.clone(), positions, wait })?;
            }
        }
        Ok(())
    }

    /// Emits records of the next partition that has some.
    fn emit<C: Collector<T>>(&mut self, out: &mut C) -> Result<(), SourceError>
    where
        F: Fn(&KafkaRecord<'_>) -> Result<Option<T>, SourceError>,
    {
        // All are named as soon as they are known: how far event time is also depends on those that have no records yet.
        for partition in self.partitions.iter_mut().filter(|one| !one.named) {
            partition.named = true;
            out.enter_split(partition.number);
        }
        let count = self.partitions.len();
        let next = (0..count).map(|step| (self.turn + step) % count).find(|at| self.partitions[*at].may_emit());
        let Some(at) = next else { return Ok(()) };
        self.turn = at + 1;
        out.enter_split(self.partitions[at].number);
        let decode = &self.decode;
        let emitted = self.partitions[at].emit(POLL, |id, record| {
            let record = KafkaRecord { id, record };
            match decode(&record) {
                Ok(Some(item)) => out.push(item),
                Ok(None) => {}
                Err(error) => {
                    let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
                    return Err(SourceError::new(format!(
                        "topic {topic:?}, partition {partition}, offset {offset}: the record cannot be decoded: {error}"
                    )));
                }
            }
            Ok(())
        });
        emitted.map_err(|error| match error {
            EmitError::Damaged(error) => SourceError::new(error),
            EmitError::Emit(error) => error,
        })?;
        if self.partitions[at].is_finished() {
            let partition = self.partitions.remove(at);
            partition.metrics.show(&partition);
            out.leave_split(partition.number);
        }
        Ok(())
    }

    /// When something is to be done without anybody waking the task.
    fn next_deadline(&self) -> Option<Instant> {
        let leaders = self.leaders_retry.at.filter(|_| self.leaders_wanted && !self.leaders_asked);
        let brokers = self.brokers.values().filter(|broker| !broker.busy).filter_map(|broker| broker.retry.at);
        brokers.chain(leaders).chain(self.ask_at).min()
    }
}

impl<T, F> SourceReader for KafkaReader<T, F>
where
    T: 'static,
    F: Fn(&KafkaRecord<'_>) -> Result<Option<T>, SourceError> + 'static,
{
    type Item = T;
    type Split = KafkaSplit;

    fn add_split(&mut self, split: KafkaSplit) -> Result<(), SourceError> {
        match split {
            KafkaSplit::Partition(split) => {
                self.given += 1;
                let metrics = self.metrics.of_partition(&split.topic, split.partition);
                let partition = Partition::new(split, self.given, metrics);
                if !partition.is_finished() {
                    self.partitions.push(partition);
                    self.leaders_wanted = true;
                }
            }
            KafkaSplit::NothingNew => {
                let interval = self.settings.discovery_interval.filter(|_| self.settings.until.is_none());
                self.ask_at = interval.map(|interval| Instant::now() + interval);
            }
        }
        Ok(())
    }

    fn poll<C: Collector<T>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        if self.ask_at.is_some_and(|at| at <= Instant::now()) {
            return Ok(ReaderStatus::NeedSplit);
        }
        self.take_answers()?;
        self.ask()?;
        self.emit(out)?;
        self.metrics.show(&self.partitions);
        if self.partitions.iter().any(Partition::may_emit) {
            return Ok(ReaderStatus::More);
        }
        if self.partitions.is_empty() && self.settings.until.is_some() {
            return Ok(ReaderStatus::NeedSplit);
        }
        // Emitting may have made room for more.
        self.ask()?;
        let wait = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        Ok(ReaderStatus::Wait(wait))
    }

    fn snapshot(&self) -> Vec<KafkaSplit> {
        self.partitions.iter().map(|one| KafkaSplit::Partition(one.rest())).collect()
    }

    fn pause_splits(&mut self, ahead: &[u64]) {
        self.partitions.iter_mut().for_each(|one| one.paused = ahead.contains(&one.number));
    }
}

#[cfg(test)]
mod tests;
