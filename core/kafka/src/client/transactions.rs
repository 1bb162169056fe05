//! Transactions, as their coordinators are asked about them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListTransactionsRequest, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::versions::Spoken;
use super::{Client, TopicPartition, topic_name};
use crate::error::{KafkaError, refuse};

/// Kinds of coordinators: groups are 0.
const TRANSACTIONS: i8 = 1;

/// Coordinators that are remembered.
const REMEMBERED: usize = 1000;

/// What a broker knows a producer by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub id: i64,
    /// Which of the producers that had this id it is; brokers refuse all but the last one.
    pub epoch: i16,
}

impl fmt::Display for ProducerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {}, epoch {}", self.id, self.epoch)
    }
}

/// What a coordinator has of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionState {
    /// In Kafka's words: `Empty`, `Ongoing`, `PrepareCommit`, `CompleteCommit`, `PrepareAbort`, `CompleteAbort`, `PrepareEpochFence`, `Dead`.
    pub state: String,
    /// The last producer with that id.
    pub producer: ProducerIdentity,
}

impl Client {
    /// A new identity for a producer. With a transactional id, earlier producers that had it are fenced, and a transaction one of
    /// them left open is aborted.
    pub fn init_producer(&mut self, id: Option<&str>, timeout: Duration) -> Result<ProducerIdentity, KafkaError> {
        let what = format!("making a producer for transactional id {:?}", id.unwrap_or("(none)"));
        self.retrying(&what, |client| client.try_init_producer(id, timeout))
    }

    /// The same without trying again. For an id with an open transaction the answer is
    /// [`ConcurrentTransactions`](ResponseError::ConcurrentTransactions): it is being aborted.
    pub fn try_init_producer(&mut self, id: Option<&str>, timeout: Duration) -> Result<ProducerIdentity, KafkaError> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(id.map(transactional_id))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = match id {
            Some(id) => self.call_coordinator(id, &request)?,
            None => self.call_any(&request)?,
        };
        if ResponseError::try_from_code(answer.error_code) == Some(ResponseError::InvalidTransactionTimeout) {
            return Err(KafkaError::TransactionTimeout { asked: timeout });
        }
        refuse(format!("making a producer for transactional id {:?}", id.unwrap_or("(none)")), answer.error_code)?;
        Ok(ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch })
    }

    /// Makes partitions part of the transaction; it begins with the first one.
    pub fn add_to_transaction(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
    ) -> Result<(), KafkaError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for one in partitions {
            topics.entry(&one.topic).or_default().push(one.partition);
        }
        let topic = |(name, partitions)| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(id))
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(topics.into_iter().map(topic).collect());
        let what = format!("adding partitions to transaction {id:?}");
        self.retrying(&what, |client| {
            let answer = client.call_coordinator(id, &request)?;
            for topic in &answer.results_by_topic_v3_and_below {
                for partition in &topic.results_by_partition {
                    let code = partition.partition_error_code;
                    // The reason is another partition's answer.
                    if ResponseError::try_from_code(code) != Some(ResponseError::OperationNotAttempted) {
                        refuse(format!("{what} ({}-{})", topic.name.0, partition.partition_index), code)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Ends the transaction of this producer. Whoever knows its id and epoch may do this; doing it again is no error.
    pub fn end_transaction(&mut self, id: &str, producer: ProducerIdentity, commit: bool) -> Result<(), KafkaError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(id))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        let what = format!("{} transaction {id:?}", if commit { "committing" } else { "aborting" });
        self.retrying(&what, |client| refuse(&*what, client.call_coordinator(id, &request)?.error_code))
    }

    /// What the coordinator has of a transactional id; `None` if nothing (any more).
    pub fn describe_transaction(&mut self, id: &str) -> Result<Option<TransactionState>, KafkaError> {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional_id(id)]);
        let what = format!("asking about transaction {id:?}");
        self.retrying(&what, |client| {
            let answer = client.call_coordinator(id, &request)?;
            let Some(state) = answer.transaction_states.first() else { return Ok(None) };
            if ResponseError::try_from_code(state.error_code) == Some(ResponseError::TransactionalIdNotFound) {
                return Ok(None);
            }
            refuse(&*what, state.error_code)?;
            Ok(Some(TransactionState {
                state: state.transaction_state.to_string(),
                producer: ProducerIdentity { id: state.producer_id.0, epoch: state.producer_epoch },
            }))
        })
    }

    /// The transactional ids of all open transactions of the cluster that this user may see.
    pub fn open_transactions(&mut self) -> Result<Vec<String>, KafkaError> {
        let request = ListTransactionsRequest::default().with_state_filters(vec![StrBytes::from_static_str("Ongoing")]);
        self.retrying("listing transactions", |client| {
            client.find_brokers()?;
            let mut ids = Vec::new();
            for broker in client.brokers.keys().copied().collect::<Vec<_>>() {
                let answer = client.call(broker, &request)?;
                refuse("listing transactions", answer.error_code)?;
                ids.extend(answer.transaction_states.iter().map(|state| state.transactional_id.0.to_string()));
            }
            Ok(ids)
        })
    }

    fn call_coordinator<R: Spoken>(&mut self, id: &str, request: &R) -> Result<R::Response, KafkaError> {
        let broker = match self.coordinators.get(id) {
            Some(broker) => *broker,
            None => {
                let find = FindCoordinatorRequest::default()
                    .with_key(StrBytes::from_string(id.to_owned()))
                    .with_key_type(TRANSACTIONS);
                let answer = self.call_any(&find)?;
                refuse(format!("finding the coordinator of transactional id {id:?}"), answer.error_code)?;
                if self.coordinators.len() >= REMEMBERED {
                    self.coordinators.clear();
                }
                self.coordinators.insert(id.to_owned(), answer.node_id.0);
                answer.node_id.0
            }
        };
        self.call(broker, request)
    }
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}
