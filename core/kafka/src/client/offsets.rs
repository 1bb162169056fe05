//! Offsets of partitions: where they begin and end, and where a time lies.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use super::{Client, TopicPartition, topic_name};
use crate::error::{KafkaError, refuse};

/// A place in a partition that has to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first record there is.
    Earliest,
    /// Behind the last record, as of now.
    Latest,
    /// The first record whose timestamp, in milliseconds since 1970-01-01 UTC, is not smaller; behind the last one if there is
    /// none.
    Timestamp(i64),
}

impl Client {
    /// The offsets of these places. With `committed`, partitions end before the first open transaction.
    pub fn offsets(
        &mut self,
        partitions: &[TopicPartition],
        at: OffsetAt,
        committed: bool,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        self.retrying("looking up offsets", |client| client.try_offsets(partitions, at, committed))
    }

    fn try_offsets(
        &mut self,
        partitions: &[TopicPartition],
        at: OffsetAt,
        committed: bool,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        let mut found = self.list_offsets(partitions, at, committed)?;
        let missing: Vec<_> = partitions.iter().filter(|one| found.get(*one).is_none_or(|o| *o < 0)).cloned().collect();
        if !missing.is_empty() && at != OffsetAt::Latest {
            // No record is as late as that.
            found.extend(self.list_offsets(&missing, OffsetAt::Latest, committed)?);
        }
        Ok(found)
    }

    fn list_offsets(
        &mut self,
        partitions: &[TopicPartition],
        at: OffsetAt,
        committed: bool,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        let timestamp = match at {
            OffsetAt::Earliest => -2,
            OffsetAt::Latest => -1,
            OffsetAt::Timestamp(time) => time.max(0),
        };
        let mut found = BTreeMap::new();
        for (leader, led) in self.by_leader(partitions)? {
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(i8::from(committed))
                .with_topics(by_topic(&led, timestamp));
            let answer = self.call(leader, &request)?;
            for topic in answer.topics {
                for partition in topic.partitions {
                    let what = || format!("looking up an offset of {}-{}", topic.name.0, partition.partition_index);
                    refuse(what(), partition.error_code)?;
                    found.insert(
                        TopicPartition::new(topic.name.0.as_str(), partition.partition_index),
                        partition.offset,
                    );
                }
            }
        }
        Ok(found)
    }

    fn by_leader(&mut self, partitions: &[TopicPartition]) -> Result<BTreeMap<i32, Vec<TopicPartition>>, KafkaError> {
        let mut names: Vec<&str> = partitions.iter().map(|one| &*one.topic).collect();
        names.sort_unstable();
        names.dedup();
        let topics = self.topics(&names)?;
        let mut leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for one in partitions {
            let of_topic = topics.get(&*one.topic);
            let leader = of_topic.and_then(|all| all.get(&one.partition)).ok_or_else(|| KafkaError::NoPartition {
                topic: one.topic.to_string(),
                partition: one.partition,
                partitions: of_topic.map_or(0, BTreeMap::len),
            })?;
            let leader = leader.ok_or_else(|| KafkaError::Refused {
                what: format!("looking up an offset of {}-{}", one.topic, one.partition),
                code: ResponseError::LeaderNotAvailable,
            })?;
            leaders.entry(leader).or_default().push(one.clone());
        }
        Ok(leaders)
    }
}

fn by_topic(partitions: &[TopicPartition], timestamp: i64) -> Vec<ListOffsetsTopic> {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for one in partitions {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(one.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        topics.entry(&one.topic).or_default().push(asked);
    }
    let topic =
        |(name, partitions)| ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions);
    topics.into_iter().map(topic).collect()
}
