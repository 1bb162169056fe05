//! Collects records in batches and has brokers take them, each batch once and in order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::partitioner;
use crate::batch::{BatchBuilder, Compression, HEADER, Origin, OutgoingRecord};
use crate::client::backoff::Backoff;
use crate::client::connection::{Connection, Sent};
use crate::client::{Client, ProducerIdentity, TopicPartition, topic_name};
use crate::error::{KafkaError, is_retriable};

/// How a producer works.
#[derive(Debug, Clone)]
pub(super) struct ProducerSettings {
    /// 1: the leader has it; -1: all replicas in sync have it.
    pub(super) acks: i16,
    pub(super) compression: Compression,
    /// Bytes of a batch, before compression.
    pub(super) batch_bytes: usize,
    /// Bytes of all batches that wait.
    pub(super) buffer_bytes: usize,
}

/// A batch that is waiting or under way.
#[derive(Debug)]
struct Sealed {
    bytes: Bytes,
    /// Before compression.
    size: usize,
}

#[derive(Debug)]
struct Partition {
    id: TopicPartition,
    leader: Option<i32>,
    open: BatchBuilder,
    sealed: VecDeque<Sealed>,
    /// Whether a batch is under way. The next one has to wait, else they might change places.
    in_flight: bool,
    /// Number of the next record.
    sequence: i32,
}

#[derive(Debug, Default)]
struct Topic {
    partitions: Vec<Partition>,
    /// Where records without a key go, until that batch is full.
    sticky: usize,
}

#[derive(Debug)]
struct InFlight {
    sent: Sent<ProduceRequest>,
    batches: Vec<(TopicPartition, Sealed)>,
}

/// Who is writing.
#[derive(Debug, Clone)]
struct Writing {
    producer: ProducerIdentity,
    transaction: Option<String>,
}

/// A producer. After an error nothing more can be written with it.
#[derive(Debug)]
pub(super) struct Producer {
    client: Client,
    settings: ProducerSettings,
    writing: Option<Writing>,
    topics: HashMap<Arc<str>, Topic>,
    /// Connections for records alone: their answers are not waited for at once, and other questions would get in between.
    connections: BTreeMap<i32, Connection>,
    in_flight: BTreeMap<i32, InFlight>,
    in_transaction: HashSet<TopicPartition>,
    buffered: usize,
    backoff: Backoff,
}

impl Producer {
    pub(super) fn new(client: Client, settings: ProducerSettings) -> Producer {
        Producer {
            client,
            settings,
            writing: None,
            topics: HashMap::new(),
            connections: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            in_transaction: HashSet::new(),
            buffered: 0,
            backoff: Backoff::new(),
        }
    }

    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// From now on writes under this identity, in this transaction. Everything before must have been flushed.
    pub(super) fn write_as(&mut self, producer: ProducerIdentity, transaction: Option<String>) {
        self.writing = Some(Writing { producer, transaction });
        self.in_transaction.clear();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.sequence = 0;
        }
    }

    /// Takes a record in; sends what is full.
    pub(super) fn send(
        &mut self,
        topic: &Arc<str>,
        partition: Option<i32>,
        record: &OutgoingRecord<'_>,
    ) -> Result<(), KafkaError> {
        self.know(topic)?;
        let of_topic = self.topics.get_mut(topic).expect("it was looked up");
        let count = of_topic.partitions.len();
        let at = match (partition, record.key) {
            (Some(partition), _) => usize::try_from(partition)
                .ok()
                .filter(|at| *at < count)
                .ok_or_else(|| KafkaError::NoPartition { topic: topic.to_string(), partition, partitions: count })?,
            (None, Some(key)) => partitioner::of_key(key, count),
            (None, None) => of_topic.sticky,
        };
        let partition = &mut of_topic.partitions[at];
        let room = partition.open.room_for(record);
        if HEADER + room > self.settings.batch_bytes {
            let limit = self.settings.batch_bytes;
            return Err(KafkaError::TooLarge { topic: topic.to_string(), bytes: room, limit });
        }
        let full = partition.open.bytes() + room > self.settings.batch_bytes;
        if full {
            seal(partition, self.settings.compression, self.writing.as_ref())?;
            of_topic.sticky = (of_topic.sticky + 1) % count;
        }
        partition.open.push(record);
        self.buffered += room;
        if full {
            self.dispatch()?;
        }
        if self.buffered > self.settings.buffer_bytes {
            self.flush()?;
        }
        Ok(())
    }

    /// Waits until brokers have everything.
    pub(super) fn flush(&mut self) -> Result<(), KafkaError> {
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            seal(partition, self.settings.compression, self.writing.as_ref())?;
        }
        loop {
            self.dispatch()?;
            let Some(broker) = self.in_flight.keys().next().copied() else {
                let Some(left) = self.waiting().next().map(|one| one.id.clone()) else { return Ok(()) };
                self.on_failure(leaderless(&left))?;
                continue;
            };
            self.collect(broker)?;
        }
    }

    fn connection(&mut self, broker: i32) -> Result<&mut Connection, KafkaError> {
        if !self.connections.contains_key(&broker) {
            self.connections.insert(broker, self.client.open(broker)?);
        }
        Ok(self.connections.get_mut(&broker).expect("it was put there if it was not"))
    }

    fn waiting(&self) -> impl Iterator<Item = &Partition> {
        let all = self.topics.values().flat_map(|topic| &topic.partitions);
        all.filter(|partition| !partition.sealed.is_empty())
    }

    /// Sends the oldest waiting batch of each partition.
    fn dispatch(&mut self) -> Result<(), KafkaError> {
        self.begin_partitions()?;
        let leaders: Vec<i32> = {
            let mut leaders: Vec<i32> = self.waiting().filter_map(|partition| partition.leader).collect();
            leaders.sort_unstable();
            leaders.dedup();
            leaders
        };
        for broker in leaders {
            if self.in_flight.contains_key(&broker) {
                self.collect(broker)?;
            }
            let batches = self.take_for(broker);
            if batches.is_empty() {
                continue;
            }
            let request = self.request(&batches);
            match self.connection(broker).and_then(|connection| connection.send(&request)) {
                Ok(sent) => {
                    self.in_flight.insert(broker, InFlight { sent, batches });
                }
                Err(error) => {
                    self.connections.remove(&broker);
                    self.put_back(batches);
                    self.on_failure(error)?;
                }
            }
        }
        Ok(())
    }

    /// Makes partitions that are about to be written part of the transaction.
    fn begin_partitions(&mut self) -> Result<(), KafkaError> {
        let Some(Writing { producer, transaction: Some(id) }) = self.writing.clone() else { return Ok(()) };
        let new: Vec<TopicPartition> =
            self.waiting().filter(|one| !self.in_transaction.contains(&one.id)).map(|one| one.id.clone()).collect();
        if !new.is_empty() {
            self.client.add_to_transaction(&id, producer, &new)?;
            self.in_transaction.extend(new);
        }
        Ok(())
    }

    fn take_for(&mut self, broker: i32) -> Vec<(TopicPartition, Sealed)> {
        let mut batches = Vec::new();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            let added = self.writing.as_ref().is_none_or(|writing| writing.transaction.is_none())
                || self.in_transaction.contains(&partition.id);
            if partition.leader == Some(broker)
                && !partition.in_flight
                && added
                && let Some(sealed) = partition.sealed.pop_front()
            {
                partition.in_flight = true;
                batches.push((partition.id.clone(), sealed));
            }
        }
        batches
    }

    fn request(&self, batches: &[(TopicPartition, Sealed)]) -> ProduceRequest {
        let mut topics: BTreeMap<&str, Vec<PartitionProduceData>> = BTreeMap::new();
        for (id, sealed) in batches {
            let data =
                PartitionProduceData::default().with_index(id.partition).with_records(Some(sealed.bytes.clone()));
            topics.entry(&id.topic).or_default().push(data);
        }
        let topic = |(name, data)| TopicProduceData::default().with_name(topic_name(name)).with_partition_data(data);
        let transaction = self.writing.as_ref().and_then(|writing| writing.transaction.clone());
        let patience = self.client.cluster().request_timeout;
        ProduceRequest::default()
            .with_transactional_id(transaction.map(|id| TransactionalId(StrBytes::from_string(id))))
            .with_acks(self.settings.acks)
            .with_timeout_ms(i32::try_from(patience.as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(topics.into_iter().map(topic).collect())
    }

    /// Receives a broker's answer.
    fn collect(&mut self, broker: i32) -> Result<(), KafkaError> {
        let Some(InFlight { sent, batches }) = self.in_flight.remove(&broker) else { return Ok(()) };
        let answer = self.connection(broker).and_then(|connection| connection.receive(sent, Duration::ZERO));
        match answer {
            Ok(answer) => self.on_answer(&answer, batches),
            Err(error) => {
                self.connections.remove(&broker);
                self.put_back(batches);
                self.on_failure(error)
            }
        }
    }

    fn on_answer(
        &mut self,
        answer: &ProduceResponse,
        batches: Vec<(TopicPartition, Sealed)>,
    ) -> Result<(), KafkaError> {
        let mut codes: HashMap<(&str, i32), i16> = HashMap::new();
        for topic in &answer.responses {
            for partition in &topic.partition_responses {
                codes.insert((topic.name.0.as_str(), partition.index), partition.error_code);
            }
        }
        let mut failure = None;
        let mut again = Vec::new();
        for (id, sealed) in batches {
            let code = codes.get(&(&*id.topic, id.partition)).copied();
            let code = code.map_or(Some(ResponseError::UnknownServerError), ResponseError::try_from_code);
            match code {
                // It had arrived; only the answer got lost.
                None | Some(ResponseError::DuplicateSequenceNumber) => {
                    self.buffered = self.buffered.saturating_sub(sealed.size);
                    if let Some(partition) = self.partition(&id) {
                        partition.in_flight = false;
                    }
                }
                Some(code) if is_retriable(code) => {
                    failure = Some(refused(&id, code));
                    again.push((id, sealed));
                }
                Some(ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge) => {
                    let limit = self.settings.batch_bytes;
                    return Err(KafkaError::TooLarge { topic: id.topic.to_string(), bytes: sealed.bytes.len(), limit });
                }
                Some(code) => return Err(refused(&id, code)),
            }
        }
        self.put_back(again);
        match failure {
            None => {
                self.backoff.reset();
                Ok(())
            }
            Some(error) => self.on_failure(error),
        }
    }

    /// Batches that have to be sent again.
    fn put_back(&mut self, batches: Vec<(TopicPartition, Sealed)>) {
        for (id, sealed) in batches {
            if let Some(partition) = self.partition(&id) {
                partition.in_flight = false;
                partition.sealed.push_front(sealed);
            }
        }
    }

    fn partition(&mut self, id: &TopicPartition) -> Option<&mut Partition> {
        let at = usize::try_from(id.partition).ok()?;
        self.topics.get_mut(&id.topic)?.partitions.get_mut(at)
    }

    /// Waits a little, and looks up who leads what.
    fn on_failure(&mut self, error: KafkaError) -> Result<(), KafkaError> {
        let limit = self.client.cluster().retry_timeout;
        self.backoff.wait("writing", limit, error)?;
        let names: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        for name in names {
            match self.look_up(&name).map_err(KafkaError::of_known_topic) {
                // The next try to write says so if it goes on.
                Err(error) if error.is_retriable() => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes sure that the partitions of a topic are known.
    fn know(&mut self, topic: &Arc<str>) -> Result<(), KafkaError> {
        while self.topics.get(topic).is_none_or(|known| known.partitions.is_empty()) {
            match self.look_up(topic) {
                Ok(()) => self.backoff.reset(),
                Err(error) => self.on_failure(error)?,
            }
        }
        Ok(())
    }

    fn look_up(&mut self, topic: &Arc<str>) -> Result<(), KafkaError> {
        let found = self.client.topics(&[topic])?.remove(&**topic).unwrap_or_default();
        if found.is_empty() {
            return Err(leaderless(&TopicPartition::new(Arc::clone(topic), 0)));
        }
        let known = self.topics.entry(Arc::clone(topic)).or_default();
        for at in known.partitions.len()..found.len() {
            known.partitions.push(Partition {
                id: TopicPartition::new(Arc::clone(topic), at as i32),
                leader: None,
                open: BatchBuilder::default(),
                sealed: VecDeque::new(),
                in_flight: false,
                sequence: 0,
            });
        }
        for (partition, leader) in found {
            if let Some(known) = usize::try_from(partition).ok().and_then(|at| known.partitions.get_mut(at)) {
                known.leader = leader;
            }
        }
        Ok(())
    }
}

fn leaderless(id: &TopicPartition) -> KafkaError {
    refused(id, ResponseError::LeaderNotAvailable)
}

fn refused(id: &TopicPartition, code: ResponseError) -> KafkaError {
    KafkaError::Refused { what: format!("writing to {}-{}", id.topic, id.partition), code }
}

/// Finishes the batch a partition is collecting.
fn seal(partition: &mut Partition, compression: Compression, writing: Option<&Writing>) -> Result<(), KafkaError> {
    let count = partition.open.count();
    if count == 0 {
        return Ok(());
    }
    let origin = writing.map(|writing| Origin {
        producer: writing.producer,
        sequence: partition.sequence,
        transactional: writing.transaction.is_some(),
    });
    let builder = std::mem::take(&mut partition.open);
    let size = builder.bytes() - HEADER;
    let bytes = builder.finish(compression, origin).map_err(|error| {
        KafkaError::Setting(format!("records for topic {:?} cannot be compressed: {error}", partition.id.topic))
    })?;
    partition.sealed.push_back(Sealed { bytes, size });
    // Numbers start again at 0 after the largest.
    partition.sequence = ((i64::from(partition.sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32;
    Ok(())
}
