//! What goes wrong says what was found, what was expected, and how to put it right.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use weir::sink::{CommitterContext, Sink, SinkWriter};
use weir::source::{EnumeratorContext, Source};
use weir_kafka::{KafkaError, KafkaMessage, KafkaSink};

use crate::fixture::Kafka;
use crate::harness::{impatient, new_topic, sink, source, unique, writer_context};

fn enumerator_error(servers: &str, topic: &str) -> String {
    let context = EnumeratorContext { parallelism: 1, restored: None };
    source(servers, topic).create_enumerator(&context).unwrap_err().to_string()
}

fn committer_error(sink: &impl Sink<u64>) -> String {
    let created = sink.create_committer(&CommitterContext { run_id: "r".to_owned(), restored: false });
    created.map(drop).unwrap_err().to_string()
}

#[test]
fn a_broker_that_is_not_there() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = format!("127.0.0.1:{port}");
    let expected = format!("no Kafka broker answered at {servers}: {servers}: the connection was refused");
    for error in [enumerator_error(&servers, "t"), committer_error(&sink(&servers, "t"))] {
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_server_that_is_no_kafka_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = enumerator_error(&servers, "t");
    server.join().unwrap();
    assert!(error.contains("no answer of a Kafka broker. Is this a PLAINTEXT listener"), "{error}");
}

#[test]
fn a_listener_that_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
    });
    let error = enumerator_error(&servers, "t");
    server.join().unwrap();
    assert!(
        error.contains("it closed the connection; it is the first request, so the listener may want TLS"),
        "{error}"
    );
}

#[test]
fn a_topic_that_does_not_exist() {
    let kafka = Kafka::get();
    let expected = format!("Kafka at {} has no topic \"nowhere\". Create it, correct its name", kafka.address());
    let errors = [
        enumerator_error(kafka.address(), "nowhere"),
        committer_error(&sink(kafka.address(), "nowhere")),
        committer_error(&sink(kafka.address(), "nowhere").exactly_once(unique("p"))),
    ];
    for error in errors {
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_partition_that_does_not_exist() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    let source = source(kafka.address(), &topic).start_at(&topic, 2, 0);
    let error =
        source.create_enumerator(&EnumeratorContext { parallelism: 1, restored: None }).unwrap_err().to_string();
    assert!(error.contains("has 2 partitions, so there is no partition 2"), "{error}");
}

#[test]
fn a_transaction_timeout_above_what_the_broker_allows() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let sink = sink(kafka.address(), &topic).exactly_once(unique("p"));
    let error = committer_error(&sink.transaction_timeout(Duration::from_secs(3600)));
    assert!(error.contains("a transaction timeout of 3600 s is not allowed"), "{error}");
    assert!(error.contains("transaction.max.timeout.ms"), "{error}");
}

#[test]
fn a_prefix_that_cannot_be() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let error = committer_error(&sink(kafka.address(), &topic).exactly_once("a:b"));
    assert!(error.contains("the prefix of transactional ids is \"a:b\""), "{error}");
}

#[test]
fn a_record_that_is_too_large_for_a_batch_or_for_the_broker() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let large = || KafkaSink::new(kafka.address(), topic.as_str(), |bytes: usize| KafkaMessage::new(vec![7; bytes]));
    let mut writer = large().create_writer(&writer_context("r", 0)).unwrap();
    let error = writer.write(600_000).unwrap_err().to_string();
    assert!(error.contains("of 600") && error.contains("(524288 bytes, KafkaSink::batch_bytes)"), "{error}");

    let mut writer = large().batch_bytes(3_000_000).create_writer(&writer_context("r", 0)).unwrap();
    writer.write(2_000_000).unwrap();
    let error = writer.prepare_commit().unwrap_err().to_string();
    assert!(error.contains("raise max.message.bytes of the topic"), "{error}");
}

#[test]
fn a_broker_that_stays_away_ends_the_job_after_a_while() {
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = impatient(&format!("127.0.0.1:{port}")).retry_timeout(Duration::from_millis(200));
    let sink = KafkaSink::new(cluster, "t", |number: u64| KafkaMessage::new(number.to_string()));
    let error = sink.create_writer(&writer_context("r", 0)).unwrap_err().to_string();
    assert!(error.contains("did not work for 0 s; the last failure: no Kafka broker answered"), "{error}");
}

#[test]
fn a_pattern_that_cannot_be() {
    let decode = crate::harness::decode as crate::harness::Decode;
    let error = weir_kafka::KafkaSource::matching("a:1", "[", decode).unwrap_err();
    assert!(matches!(error, KafkaError::Setting(_)) && error.to_string().contains("the pattern \"[\""), "{error}");
}
