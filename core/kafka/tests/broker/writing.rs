//! The sink.

use std::time::Duration;

use weir::sink::{Sink, SinkWriter};
use weir_kafka::{Compression, KafkaMessage, KafkaRecord, KafkaSink, KafkaSource, LostTransaction, OffsetAt};

use crate::fixture::Kafka;
use crate::harness::{
    client, committed, committer, new_topic, read_all, sink, source, unique, wait_until_settled, writer_context,
};

/// Everything of a record but its offset.
type Whole = (String, Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(String, Vec<u8>)>);

fn whole(record: &KafkaRecord<'_>) -> Whole {
    let headers = record.headers().map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_vec()));
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    (record.topic().to_owned(), owned(record.key()), owned(record.value()), record.timestamp(), headers.collect())
}

#[test]
fn a_record_arrives_with_all_its_parts_however_it_is_compressed() {
    let kafka = Kafka::get();
    let compressions = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in compressions {
        let topic = new_topic(kafka.address(), 1);
        let sink = KafkaSink::new(kafka.address(), topic.as_str(), |number: i64| {
            let message = KafkaMessage::new(format!("value {number} ").repeat(500)).key(format!("key {number}"));
            message.timestamp(1_000 + number).header("h", "1").header("h", "2")
        });
        let mut writer = sink.compression(compression).create_writer(&writer_context("r", 0)).unwrap();
        (0..300).for_each(|number| writer.write(number).unwrap());
        writer.prepare_commit().unwrap();
        let source = KafkaSource::new(kafka.address(), [topic.as_str()], |record| Ok(Some(whole(record))));
        let read = read_all(&source.until(OffsetAt::Latest));
        let expected = |number: i64| {
            let (key, value) = (format!("key {number}"), format!("value {number} ").repeat(500));
            let headers = vec![("h".to_owned(), b"1".to_vec()), ("h".to_owned(), b"2".to_vec())];
            (topic.clone(), Some(key.into_bytes()), Some(value.into_bytes()), 1_000 + number, headers)
        };
        assert!(read.into_iter().eq((0..300).map(expected)), "{compression:?}");
    }
}

#[test]
fn a_message_may_name_its_topic_and_partition_and_have_no_value() {
    let kafka = Kafka::get();
    let (one, other) = (new_topic(kafka.address(), 3), new_topic(kafka.address(), 3));
    let to = other.clone();
    let sink = KafkaSink::new(kafka.address(), one.as_str(), move |number: u64| match number {
        0 => KafkaMessage::new("here").partition(2),
        1 => KafkaMessage::new("there").topic(to.as_str()).partition(1),
        _ => KafkaMessage::tombstone("gone").partition(0),
    });
    let mut writer = sink.create_writer(&writer_context("r", 0)).unwrap();
    (0..3).for_each(|number| writer.write(number).unwrap());
    writer.prepare_commit().unwrap();
    let topics = [one.as_str(), other.as_str()];
    let source = KafkaSource::new(kafka.address(), topics, |record| {
        let value = record.value().map(|value| String::from_utf8_lossy(value).into_owned());
        Ok(Some((record.topic().to_owned(), record.partition(), value)))
    });
    let mut read = read_all(&source.until(OffsetAt::Latest));
    read.sort();
    let mut expected =
        vec![(one.clone(), 0, None), (one.clone(), 2, Some("here".to_owned())), (other, 1, Some("there".to_owned()))];
    expected.sort();
    assert_eq!(read, expected);
}

#[test]
fn records_without_a_key_are_spread_and_come_in_order_within_a_partition() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 3);
    let sink = KafkaSink::new(kafka.address(), topic.as_str(), |number: u64| KafkaMessage::new(number.to_string()));
    let mut writer = sink.batch_bytes(4_000).create_writer(&writer_context("r", 0)).unwrap();
    (0..5_000).for_each(|number| writer.write(number).unwrap());
    writer.prepare_commit().unwrap();
    let read = read_all(&source(kafka.address(), &topic).until(OffsetAt::Latest));
    assert_eq!(read.len(), 5_000);
    for partition in 0..3 {
        let of_it =
            || read.iter().filter(|(one, ..)| *one == partition).map(|(_, _, value)| value.parse::<u64>().unwrap());
        assert!(of_it().count() > 1_000);
        assert!(of_it().is_sorted());
    }
}

#[test]
fn each_checkpoint_becomes_visible_with_its_commit_and_again_is_no_error() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 3);
    let sink = sink(kafka.address(), &topic).exactly_once(unique("checkpoints"));
    let mut committer = committer(&sink, "r");
    let mut writer = sink.create_writer(&writer_context("r", 0)).unwrap();
    let mut earlier = Vec::new();
    for checkpoint in 0..5 {
        let from = checkpoint * 10;
        (from..from + 10).for_each(|number| writer.write(number).unwrap());
        let committables = writer.prepare_commit().unwrap();
        // The next transaction goes on while this one waits.
        writer.write(1_000 + checkpoint).unwrap();
        assert_eq!(committed(kafka.address(), &topic).len() as u64, checkpoint * 11);
        committer.commit(committables.clone()).unwrap();
        committer.commit(committables.clone()).unwrap();
        wait_until_visible(kafka.address(), &topic, checkpoint * 11 + 10);
        let next = writer.prepare_commit().unwrap();
        committer.commit(next.clone()).unwrap();
        wait_until_visible(kafka.address(), &topic, checkpoint * 11 + 11);
        earlier.push(committables);
        earlier.push(next);
    }
    // Ids have been used again since, with newer epochs: old committables find their transactions committed and touch no other.
    writer.write(9_999).unwrap();
    let last = writer.prepare_commit().unwrap();
    for committables in earlier {
        committer.commit(committables).unwrap();
    }
    assert!(!committed(kafka.address(), &topic).contains(&9_999));
    committer.commit(last).unwrap();
    wait_until_visible(kafka.address(), &topic, 56);
}

/// The markers of a commit are written a little after it is decided.
fn wait_until_visible(servers: &str, topic: &str, count: u64) {
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let read = committed(servers, topic);
        if read.len() as u64 == count {
            return;
        }
        assert!((read.len() as u64) < count && std::time::Instant::now() < deadline, "{} of {count}", read.len());
    }
}

#[test]
fn few_transactional_ids_serve_many_checkpoints() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let prefix = unique("ids");
    let sink = sink(kafka.address(), &topic).exactly_once(&prefix);
    let mut committer = committer(&sink, "r");
    let mut writer = sink.create_writer(&writer_context("r", 0)).unwrap();
    for number in 0..10 {
        writer.write(number).unwrap();
        committer.commit(writer.prepare_commit().unwrap()).unwrap();
        wait_until_settled(kafka.address(), &topic);
    }
    let mut client = client(kafka.address());
    let used = (0..10).filter(|n| client.describe_transaction(&format!("{prefix}:r:0:0:{n}")).unwrap().is_some());
    assert!(used.count() <= 2);
}

#[test]
fn a_checkpoint_without_records_commits_nothing() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let sink = sink(kafka.address(), &topic).exactly_once(unique("empty"));
    let mut writer = sink.create_writer(&writer_context("r", 0)).unwrap();
    let committables = writer.prepare_commit().unwrap();
    committer(&sink, "r").commit(committables).unwrap();
    assert_eq!(committed(kafka.address(), &topic), [] as [u64; 0]);
}

#[test]
fn a_transaction_that_timed_out_is_reported_as_lost_or_passed_over() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let sink =
        sink(kafka.address(), &topic).exactly_once(unique("timeout")).transaction_timeout(Duration::from_secs(1));
    let mut writer = sink.create_writer(&writer_context("r", 0)).unwrap();
    writer.write(1).unwrap();
    let committables = writer.prepare_commit().unwrap();
    // The broker aborts it.
    wait_until_settled(kafka.address(), &topic);
    let error = committer(&sink, "r").commit(committables.clone()).unwrap_err().to_string();
    assert!(error.contains("cannot be committed: the broker has aborted it"), "{error}");
    assert!(error.contains("KafkaSink::transaction_timeout"), "{error}");
    committer(&sink.on_lost_transaction(LostTransaction::GoOn), "r").commit(committables).unwrap();
    assert_eq!(committed(kafka.address(), &topic), [] as [u64; 0]);
}

#[test]
fn the_first_checkpoint_of_a_new_run_aborts_what_earlier_runs_left_open() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let sink = sink(kafka.address(), &topic).exactly_once(unique("runs"));
    let mut old = sink.create_writer(&writer_context("old", 3)).unwrap();
    old.write(1).unwrap();
    let completed = old.prepare_commit().unwrap();
    old.write(2).unwrap();
    let never_completed = old.prepare_commit().unwrap();

    let mut committer = committer(&sink, "new");
    let mut new = sink.create_writer(&writer_context("new", 0)).unwrap();
    new.write(3).unwrap();
    committer.commit(completed).unwrap();
    let first = new.prepare_commit().unwrap();
    new.write(4).unwrap();
    let second = new.prepare_commit().unwrap();
    committer.commit(first).unwrap();
    committer.commit(second).unwrap();
    wait_until_settled(kafka.address(), &topic);
    assert_eq!(committed(kafka.address(), &topic), [1, 3, 4]);
    let error = committer.commit(never_completed).unwrap_err().to_string();
    assert!(error.contains("the broker has aborted it"), "{error}");
}
