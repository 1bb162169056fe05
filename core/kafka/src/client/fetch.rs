//! Fetching from one broker.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};

use super::connection::Connection;
use super::{TopicPartition, topic_name};
use crate::error::{KafkaError, refuse};

/// How much is fetched, and which of it.
#[derive(Debug, Clone)]
pub(crate) struct FetchLimits {
    /// Leave out records of open and aborted transactions.
    pub(crate) committed: bool,
    /// How long the broker waits for the first byte.
    pub(crate) wait: Duration,
    /// Bytes of one partition. A larger record comes all the same.
    pub(crate) partition_bytes: i32,
    /// Bytes of one answer.
    pub(crate) bytes: i32,
}

/// What came of a partition.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) partition: TopicPartition,
    /// The offset that was asked for.
    pub(crate) from: i64,
    /// 0, or why there is nothing.
    pub(crate) error_code: i16,
    /// The offset behind the last record that can be read.
    pub(crate) end: i64,
    /// Aborted transactions that these records belong to: producer and first offset.
    pub(crate) aborted: Vec<(i64, i64)>,
    /// Record batches; the last one may be cut off.
    pub(crate) records: Bytes,
}

/// Fetches from these offsets.
pub(crate) fn fetch(
    connection: &mut Connection,
    limits: &FetchLimits,
    positions: &[(TopicPartition, i64)],
) -> Result<Vec<Fetched>, KafkaError> {
    let asked: BTreeMap<&TopicPartition, i64> = positions.iter().map(|(one, from)| (one, *from)).collect();
    let sent = connection.send(&request(limits, &asked))?;
    let answer = connection.receive(sent, limits.wait)?;
    refuse("fetching", answer.error_code)?;
    let mut fetched = Vec::with_capacity(positions.len());
    for topic in answer.responses {
        for data in topic.partitions {
            let partition = TopicPartition::new(topic.topic.0.as_str(), data.partition_index);
            let Some(&from) = asked.get(&partition) else { continue };
            let aborted = data.aborted_transactions.unwrap_or_default();
            fetched.push(Fetched {
                from,
                error_code: data.error_code,
                end: if limits.committed && data.last_stable_offset >= 0 {
                    data.last_stable_offset
                } else {
                    data.high_watermark
                },
                aborted: aborted.iter().map(|one| (one.producer_id.0, one.first_offset)).collect(),
                records: data.records.unwrap_or_default(),
                partition,
            });
        }
    }
    Ok(fetched)
}

fn request(limits: &FetchLimits, asked: &BTreeMap<&TopicPartition, i64>) -> FetchRequest {
    let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
    for (one, from) in asked {
        let partition = FetchPartition::default()
            .with_partition(one.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*from)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(limits.partition_bytes);
        topics.entry(&one.topic).or_default().push(partition);
    }
    let topic = |(name, partitions)| FetchTopic::default().with_topic(topic_name(name)).with_partitions(partitions);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(limits.wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(limits.bytes)
        .with_isolation_level(i8::from(limits.committed))
        .with_session_epoch(-1)
        .with_topics(topics.into_iter().map(topic).collect())
}
