//! Which brokers and topics there are, and who leads which partition.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::cluster::Address;
use super::{Client, topic_name};
use crate::error::{KafkaError, refuse};

/// Topics with the leaders of their partitions; `None` while a partition has none.
pub(crate) type Topics = BTreeMap<String, BTreeMap<i32, Option<i32>>>;

impl Client {
    /// Looks up these topics; one that does not exist is an error.
    pub(crate) fn topics(&mut self, names: &[&str]) -> Result<Topics, KafkaError> {
        let wanted = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default().with_topics(Some(wanted.collect()));
        let answer = self.look_up(&request.with_allow_auto_topic_creation(false))?;
        let mut topics = Topics::new();
        for topic in &answer.topics {
            let name = topic.name.as_ref().map_or("", |name| name.0.as_str());
            match ResponseError::try_from_code(topic.error_code) {
                None => {}
                Some(ResponseError::UnknownTopicOrPartition | ResponseError::InvalidTopicException) => {
                    return Err(KafkaError::NoTopic { topic: name.to_owned(), servers: self.cluster.to_string() });
                }
                Some(code) => refuse(format!("looking up topic {name:?}"), code.code())?,
            }
            topics.insert(name.to_owned(), leaders(topic));
        }
        Ok(topics)
    }

    /// Looks up every topic this user may see, without Kafka's own ones.
    pub(crate) fn all_topics(&mut self) -> Result<Topics, KafkaError> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answer = self.look_up(&request)?;
        let of_users = answer.topics.iter().filter(|topic| topic.error_code == 0 && !topic.is_internal);
        Ok(of_users.filter_map(|topic| Some((topic.name.as_ref()?.0.to_string(), leaders(topic)))).collect())
    }

    /// Asks any broker for metadata and remembers the brokers it names.
    pub(super) fn look_up(&mut self, request: &MetadataRequest) -> Result<MetadataResponse, KafkaError> {
        let answer = self.call_any(request)?;
        let mut brokers = BTreeMap::new();
        for broker in &answer.brokers {
            if let Ok(port) = u16::try_from(broker.port) {
                brokers.insert(broker.node_id.0, Address { host: broker.host.to_string(), port });
            }
        }
        // A broker that moved is another one.
        self.connections.retain(|id, _| brokers.get(id) == self.brokers.get(id));
        self.brokers = brokers;
        self.controller = answer.controller_id.0;
        Ok(answer)
    }
}

fn leaders(topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic) -> BTreeMap<i32, Option<i32>> {
    let leader = |id: i32| (id >= 0).then_some(id);
    topic.partitions.iter().map(|partition| (partition.partition_index, leader(partition.leader_id.0))).collect()
}
