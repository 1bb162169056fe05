//! Making topics.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Client, topic_name};
use crate::error::{KafkaError, refuse};

/// How long the cluster may take for it, in milliseconds.
const PATIENCE: i32 = 20_000;

impl Client {
    /// Makes a topic, e.g. with the configuration `[("retention.ms", "3600000")]`, and waits until all its partitions have a leader.
    pub fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configuration: &[(&str, &str)],
    ) -> Result<(), KafkaError> {
        let entry = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        };
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
            .with_configs(configuration.iter().map(entry).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(PATIENCE);
        let what = format!("creating topic {topic:?}");
        self.retrying(&what, |client| {
            let answer = client.call(client.controller, &request)?;
            answer.topics.iter().try_for_each(|topic| refuse(&*what, topic.error_code))
        })?;
        self.wait_for_leaders(topic, partitions)
    }

    /// Raises the number of a topic's partitions to `partitions` and waits until all have a leader.
    pub fn add_partitions(&mut self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let wanted =
            CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(partitions).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(PATIENCE);
        let what = format!("adding partitions to topic {topic:?}");
        self.retrying(&what, |client| {
            let answer = client.call(client.controller, &request)?;
            answer.results.iter().try_for_each(|topic| refuse(&*what, topic.error_code))
        })?;
        self.wait_for_leaders(topic, partitions)
    }

    /// The numbers of a topic's partitions.
    pub fn partitions(&mut self, topic: &str) -> Result<Vec<i32>, KafkaError> {
        let topics = self.retrying("looking up a topic", |client| client.topics(&[topic]))?;
        Ok(topics.get(topic).map(|partitions| partitions.keys().copied().collect()).unwrap_or_default())
    }

    fn wait_for_leaders(&mut self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        use kafka_protocol::ResponseError::LeaderNotAvailable;
        let what = format!("waiting for leaders of topic {topic:?}");
        let not_yet = || KafkaError::Refused { what: what.clone(), code: LeaderNotAvailable };
        self.retrying(&what, |client| {
            let topics = match client.topics(&[topic]) {
                // The broker that was asked has not heard of it yet.
                Err(KafkaError::NoTopic { .. }) => return Err(not_yet()),
                topics => topics?,
            };
            let led = topics.get(topic).map_or(0, |all: &BTreeMap<_, _>| all.values().flatten().count());
            if led >= partitions.max(1) as usize { Ok(()) } else { Err(not_yet()) }
        })
    }
}
