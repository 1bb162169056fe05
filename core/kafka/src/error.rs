//! What can go wrong with Kafka, in words that say how to put it right.

use std::time::Duration;

use kafka_protocol::ResponseError;
use thiserror::Error;

/// Why something Kafka was asked for did not happen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// The list of servers cannot be used.
    #[error(
        "Kafka servers {given:?}: {reason}; expected host:port, several separated by commas, for example broker1:9092,broker2:9092"
    )]
    Servers {
        /// As it was given.
        given: String,
        /// What is wrong.
        reason: String,
    },
    /// No broker answered.
    #[error(
        "no Kafka broker answered at {servers}: {reason}. Is a broker running there, and can it be reached from this machine?"
    )]
    Unreachable {
        /// The servers that were tried.
        servers: String,
        /// What the last one said.
        reason: String,
    },
    /// A connection failed; worth another try.
    #[error("Kafka broker {broker}: {reason}")]
    Connection {
        /// Its address.
        broker: String,
        /// What happened.
        reason: String,
    },
    /// A broker sent what cannot be understood.
    #[error("Kafka broker {broker}: {reason}")]
    Protocol {
        /// Its address.
        broker: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The broker and this client have no version of a request in common.
    #[error("Kafka broker {broker} speaks {request} in versions {theirs}, this client in {ours}. {hint}")]
    Version {
        /// Its address.
        broker: String,
        /// The request's name.
        request: &'static str,
        /// Versions of the broker, or `none`.
        theirs: String,
        /// Versions of this client.
        ours: String,
        /// Which Kafka has what is needed.
        hint: &'static str,
    },
    /// A broker refused something.
    #[error("Kafka: {what}: {}", describe(*.code))]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its answer.
        code: ResponseError,
    },
    /// It did not work for too long.
    #[error("Kafka: {what} did not work for {} s; the last failure: {last}", .after.as_secs())]
    GaveUp {
        /// What was tried.
        what: String,
        /// For how long.
        after: Duration,
        /// The last failure.
        last: Box<KafkaError>,
    },
    /// There is no such topic.
    #[error(
        "Kafka at {servers} has no topic {topic:?}. Create it, correct its name, or check that this user may describe it"
    )]
    NoTopic {
        /// Its name.
        topic: String,
        /// Where it was looked for.
        servers: String,
    },
    /// There is no such partition.
    #[error("topic {topic:?} has {partitions} partitions, so there is no partition {partition}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// A position that is not there any more, or not yet.
    #[error(
        "topic {topic:?}, partition {partition}: position {position} is not in the log, which has {earliest} to {latest}: the records were deleted \
         (retention) or the topic was made anew. Start from a newer state, or choose where to go on with KafkaSource::on_lost_position"
    )]
    PositionLost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset wanted.
        position: i64,
        /// The first offset there is.
        earliest: i64,
        /// The offset the next record will get.
        latest: i64,
    },
    /// Records that cannot be read.
    #[error("topic {topic:?}, partition {partition}, at offset {offset}: {reason}")]
    Damaged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// First offset concerned.
        offset: i64,
        /// What was found and what was expected.
        reason: String,
    },
    /// A record that no broker takes.
    #[error(
        "topic {topic:?}: a record of {bytes} bytes is larger than what is sent at once ({limit} bytes, KafkaSink::batch_bytes) or than the broker takes. \
         Make records smaller, or raise max.message.bytes of the topic (message.max.bytes of the brokers) and KafkaSink::batch_bytes"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The broker does not allow transactions to take this long.
    #[error(
        "a transaction timeout of {} s is not allowed by the Kafka brokers: it is above their transaction.max.timeout.ms (900 s unless changed). \
         Lower KafkaSink::transaction_timeout, or raise transaction.max.timeout.ms on the brokers", .asked.as_secs_f64()
    )]
    TransactionTimeout {
        /// What was asked for.
        asked: Duration,
    },
    /// A transaction whose records are lost.
    #[error(
        "transaction {id:?} (producer {producer}, epoch {epoch}) cannot be committed: {reason}. Its records are lost. A transaction has to be committed within \
         KafkaSink::transaction_timeout of its first record, recovery included. To go on without these records: KafkaSink::on_lost_transaction"
    )]
    TransactionLost {
        /// Its transactional id.
        id: String,
        /// Its producer id.
        producer: i64,
        /// Its producer epoch.
        epoch: i16,
        /// What the broker has of it.
        reason: String,
    },
    /// A setting that cannot be.
    #[error("{0}")]
    Setting(String),
}

impl KafkaError {
    /// The answer of a broker, if it refused something.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            KafkaError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The same error as one that may pass: a broker that has just started may not know a topic that was there before.
    pub(crate) fn of_known_topic(self) -> KafkaError {
        match self {
            KafkaError::NoTopic { topic, .. } => KafkaError::Refused {
                what: format!("looking up topic {topic:?}"),
                code: ResponseError::UnknownTopicOrPartition,
            },
            error => error,
        }
    }

    /// Whether trying again, with what is known of the cluster looked up anew, may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            KafkaError::Connection { .. } | KafkaError::Unreachable { .. } => true,
            KafkaError::Refused { code, .. } => is_retriable(*code),
            _ => false,
        }
    }
}

/// Whether a broker that answers so may answer otherwise a little later, or another broker does.
pub(crate) fn is_retriable(code: ResponseError) -> bool {
    // A coordinator that has not finished the last transaction of a producer says so with a code that Kafka does not call retriable.
    code.is_retriable() || matches!(code, ResponseError::ConcurrentTransactions | ResponseError::BrokerNotAvailable)
}

/// A broker's answer in words.
pub(crate) fn refuse(what: impl Into<String>, code: i16) -> Result<(), KafkaError> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(code) => Err(KafkaError::Refused { what: what.into(), code }),
    }
}

fn describe(code: ResponseError) -> String {
    let hint = match code {
        ResponseError::TopicAuthorizationFailed => {
            "not authorized for the topic. Grant this user Read and Describe (source) or Write and Describe (sink) on it"
        }
        ResponseError::TransactionalIdAuthorizationFailed => {
            "not authorized for the transactional id. Grant this user Write and Describe on transactional ids with the sink's prefix"
        }
        ResponseError::ClusterAuthorizationFailed => {
            "not authorized on the cluster. Grant this user IdempotentWrite on the cluster"
        }
        ResponseError::UnknownTopicOrPartition => "the topic or partition does not exist on the broker",
        ResponseError::NotEnoughReplicas | ResponseError::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than the topic's min.insync.replicas. Bring brokers back"
        }
        ResponseError::InvalidReplicationFactor => "the replication factor is larger than the number of brokers",
        ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch => {
            "the producer was fenced: another one has its transactional id, or its transaction timed out"
        }
        _ => return format!("the broker answered {code} (error {})", code.code()),
    };
    format!("{hint} (error {} {code})", code.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: ResponseError, expect: &str) {
        let message = refuse("reading t-0", code.code()).unwrap_err().to_string();
        assert!(message.starts_with("Kafka: reading t-0: ") && message.contains(expect), "{message}");
    }

    #[test]
    fn a_refusal_says_what_to_do_about_it() {
        check(
            ResponseError::TopicAuthorizationFailed,
            "Grant this user Read and Describe (source) or Write and Describe",
        );
        check(ResponseError::TransactionalIdAuthorizationFailed, "transactional ids with the sink's prefix");
        check(ResponseError::ClusterAuthorizationFailed, "IdempotentWrite on the cluster");
        check(ResponseError::NotEnoughReplicas, "min.insync.replicas");
        check(ResponseError::PolicyViolation, "the broker answered PolicyViolation (error 44)");
        check(ResponseError::Unknown(4711), "Unknown error code: 4711");
    }

    #[test]
    fn a_topic_that_is_missing_may_come_back_only_if_it_was_there() {
        let missing = || KafkaError::NoTopic { topic: "t".to_owned(), servers: "s:1".to_owned() };
        assert!(!missing().is_retriable());
        assert!(missing().of_known_topic().is_retriable());
        let other = KafkaError::Setting("x".to_owned()).of_known_topic();
        assert_eq!(other.to_string(), "x");
    }
}
