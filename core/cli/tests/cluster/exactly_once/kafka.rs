//! From one topic of the real Kafka to another: each record is numbered within its key, and written in transactions.

#[path = "../../../../kafka/tests/broker/fixture.rs"]
#[allow(dead_code, reason = "its other users need all of it")]
mod fixture;
#[path = "../../../../kafka/tests/broker/harness.rs"]
#[allow(dead_code, reason = "its other users need all of it")]
mod harness;

use fixture::Kafka;
use harness::{client, new_topic, read_all, unique, wait_until_settled, writer_context};
use weir::sink::{Sink, SinkWriter};
use weir_kafka::{KafkaMessage, KafkaRecord, KafkaSink, KafkaSource, OffsetAt};

use super::compare;

const KEYS: u64 = 31;

/// The topics of a run.
pub(super) struct Topics {
    kafka: Kafka,
    from: String,
    to: String,
    prefix: String,
}

impl Topics {
    /// Fills one with the numbers below `count`, each under one of a few keys.
    pub(super) fn fill(count: u64) -> Topics {
        let kafka = Kafka::get();
        let (from, to) = (new_topic(kafka.address(), 3), new_topic(kafka.address(), 2));
        let encode = |number: u64| KafkaMessage::new(number.to_string()).key((number % KEYS).to_string());
        let sink = KafkaSink::new(kafka.address(), from.as_str(), encode);
        let mut writer = sink.create_writer(&writer_context("fill", 0)).unwrap();
        (0..count).for_each(|number| writer.write(number).unwrap());
        writer.prepare_commit().unwrap();
        Topics { kafka, from, to, prefix: unique("torture") }
    }

    /// Of the job `kafka_copy`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let Topics { kafka, from, to, prefix } = self;
        let servers = format!("--servers={}", kafka.address());
        vec![
            servers,
            format!("--from={from}"),
            format!("--to={to}"),
            format!("--prefix={prefix}"),
            "--until-end".into(),
        ]
    }

    pub(super) fn check_once(&self, count: u64) -> Result<(), String> {
        wait_until_settled(self.kafka.address(), &self.to);
        let line = |record: &KafkaRecord<'_>| {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            Ok(Some(format!("{} {}", text(record.key()), text(record.value()))))
        };
        let source = KafkaSource::new(self.kafka.address(), [self.to.as_str()], line);
        let mut found = read_all(&source.until(OffsetAt::Latest));
        let mut expected: Vec<_> = (0..count).map(|n| format!("{} {n} {}", n % KEYS, n / KEYS + 1)).collect();
        found.sort();
        expected.sort();
        compare(&self.to, &found, &expected)?;
        let own = format!("{}:", self.prefix);
        let open = client(self.kafka.address()).open_transactions().unwrap();
        match open.into_iter().find(|id| id.starts_with(&own)) {
            Some(id) => Err(format!("the transaction {id} is still open")),
            None => Ok(()),
        }
    }
}
