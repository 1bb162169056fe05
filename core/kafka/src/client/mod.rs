//! A thin blocking client of Kafka brokers.
//!
//! One connection per broker, made when it is needed and again after it broke. What may work a little later is tried again for
//! [`Cluster::retry_timeout`], with what is known of the cluster looked up anew. Knows nothing of Weir.

pub(crate) mod backoff;
pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod fetch;
mod metadata;
mod offsets;
mod topics;
mod transactions;
pub(crate) mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

pub use cluster::Cluster;
pub use offsets::OffsetAt;
pub use transactions::{ProducerIdentity, TransactionState};

use self::backoff::Backoff;
use self::cluster::Address;
use self::connection::Connection;
use self::versions::Spoken;
use crate::error::KafkaError;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition with this number.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

/// A client of one cluster. Calls block until there is an answer, or an error that trying again does not help.
#[derive(Debug)]
pub struct Client {
    cluster: Cluster,
    brokers: BTreeMap<i32, Address>,
    controller: i32,
    connections: BTreeMap<i32, Connection>,
    /// Which broker looks after which transactional id.
    coordinators: BTreeMap<String, i32>,
}

impl Client {
    /// A client of the cluster, which must be reachable now.
    pub fn connect(cluster: &Cluster) -> Result<Client, KafkaError> {
        let mut client = Client::new(cluster);
        client.find_brokers()?;
        Ok(client)
    }

    /// A client that connects when it is first used.
    pub(crate) fn new(cluster: &Cluster) -> Client {
        Client {
            cluster: cluster.clone(),
            brokers: BTreeMap::new(),
            controller: -1,
            connections: BTreeMap::new(),
            coordinators: BTreeMap::new(),
        }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where the broker listens, as far as is known.
    pub(crate) fn address(&self, broker: i32) -> Option<&Address> {
        self.brokers.get(&broker)
    }

    /// Asks the broker.
    pub(crate) fn call<R: Spoken>(&mut self, broker: i32, request: &R) -> Result<R::Response, KafkaError> {
        let mut connection = match self.connections.remove(&broker) {
            Some(connection) => connection,
            None => self.open(broker)?,
        };
        let answer = connection.call(request);
        if !matches!(answer, Err(KafkaError::Connection { .. } | KafkaError::Protocol { .. })) {
            self.connections.insert(broker, connection);
        }
        answer
    }

    /// A new connection to a broker.
    pub(crate) fn open(&self, broker: i32) -> Result<Connection, KafkaError> {
        let address = self.brokers.get(&broker).ok_or_else(|| KafkaError::Connection {
            broker: format!("{broker}"),
            reason: "its address is not known; it may be down".to_owned(),
        })?;
        Connection::open(address, &self.cluster)
    }

    /// Asks any broker: one there is a connection to, one that is known, or one of the bootstrap servers.
    pub(crate) fn call_any<R: Spoken>(&mut self, request: &R) -> Result<R::Response, KafkaError> {
        let connected: Vec<i32> = self.connections.keys().copied().collect();
        let known: Vec<i32> = self.brokers.keys().copied().filter(|id| !connected.contains(id)).collect();
        for broker in connected.into_iter().chain(known) {
            match self.call(broker, request) {
                Err(KafkaError::Connection { .. }) => {}
                answer => return answer,
            }
        }
        let mut reason = String::new();
        for address in self.cluster.addresses()? {
            match Connection::open(&address, &self.cluster).and_then(|mut connection| connection.call(request)) {
                Err(KafkaError::Connection { reason: why, .. }) => reason = format!("{address}: {why}"),
                answer => return answer,
            }
        }
        Err(KafkaError::Unreachable { servers: self.cluster.to_string(), reason })
    }

    /// Learns the cluster's brokers.
    pub(crate) fn find_brokers(&mut self) -> Result<(), KafkaError> {
        self.look_up(&MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false))?;
        Ok(())
    }

    /// Tries until it works, cannot work, or has not worked for too long.
    pub(crate) fn retrying<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&mut Client) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let mut backoff = Backoff::new();
        loop {
            match attempt(self) {
                Ok(done) => return Ok(done),
                Err(error) => backoff.wait(what, self.cluster.retry_timeout, error)?,
            }
            // Brokers may have come, gone or changed their roles. If nobody answers, the next try says so.
            self.coordinators.clear();
            let _ = self.find_brokers();
        }
    }
}

pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
