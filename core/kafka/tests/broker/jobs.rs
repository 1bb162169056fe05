//! Whole jobs.

use std::collections::BTreeMap;
use std::process::Command;

use weir::prelude::*;
use weir_kafka::{KafkaMessage, KafkaSink, KafkaSource, OffsetAt};

use crate::fixture::Kafka;
use crate::harness::{example, new_topic, numbers, read_all, source, unique, wait_until_settled};

/// Fills a topic with the numbers below `count` under a few keys.
fn fill(servers: &str, topic: &str, count: u64) {
    let sink = KafkaSink::new(servers, topic, |number: u64| {
        KafkaMessage::new(number.to_string()).key(format!("key {}", number % 7))
    });
    weir::run::in_process("fill", |env| {
        env.set_parallelism(1);
        env.source(GeneratorSource::new(|number| number).records(count)).sink(sink);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_job_reads_what_another_one_wrote() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 3);
    fill(kafka.address(), &topic, 5_000);
    let (sink, results) = CollectSink::new();
    let source = source(kafka.address(), &topic).until(OffsetAt::Latest);
    weir::run::in_process("read", |env| {
        env.set_parallelism(2);
        env.source(source).sink(sink);
        Ok(())
    })
    .unwrap();
    assert_eq!(numbers(&results.take_sorted()), (0..5_000).collect::<Vec<_>>());
}

#[test]
fn the_example_numbers_the_records_of_each_key() {
    let kafka = Kafka::get();
    let (from, to) = (new_topic(kafka.address(), 3), new_topic(kafka.address(), 2));
    fill(kafka.address(), &from, 2_000);
    let ran = Command::new(example("kafka_copy"))
        .args(["--servers", kafka.address(), "--from", &from, "--to", &to, "--prefix", &unique("copy"), "--until-end"])
        .args(["-p", "2", "--workers", "2"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    wait_until_settled(kafka.address(), &to);

    let copy = KafkaSource::new(kafka.address(), [to.as_str()], |record| {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        Ok(Some((text(record.key()), text(record.value()))))
    });
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in read_all(&copy.until(OffsetAt::Latest)) {
        found.entry(key).or_default().push(value);
    }
    let numbered = |key: u64| {
        let values = (0..2_000).filter(|number| number % 7 == key).enumerate();
        (format!("key {key}"), values.map(|(at, value)| format!("{value} {}", at + 1)).collect())
    };
    assert_eq!(found, (0..7).map(numbered).collect());
}
