//! The source.

use std::collections::BTreeSet;

use weir::source::{SourceReader, SplitEnumerator};
use weir_kafka::{KafkaSource, LostPosition, OffsetAt};

use crate::fixture::Kafka;
use crate::harness::{
    Decode, Reading, client, committer, decode, new_topic, numbers, read_all, sink, source, unique, wait_until_settled,
    write, writer_context,
};

fn values(read: &[(i32, i64, String)]) -> Vec<u64> {
    numbers(read)
}

#[test]
fn a_bounded_source_reads_every_partition_to_its_end_and_ends() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 4);
    write(kafka.address(), &topic, 0..10_000);
    let read = read_all(&source(kafka.address(), &topic).until(OffsetAt::Latest));
    assert_eq!(values(&read), (0..10_000).collect::<Vec<_>>());
    let partitions: BTreeSet<i32> = read.iter().map(|(partition, ..)| *partition).collect();
    assert_eq!(partitions, BTreeSet::from([0, 1, 2, 3]));
    for one in partitions {
        let offsets: Vec<i64> = read.iter().filter(|(other, ..)| *other == one).map(|(_, offset, _)| *offset).collect();
        assert!(offsets.iter().copied().eq(0..offsets.len() as i64), "partition {one} comes in order");
    }
    let changes = read.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert!(changes <= 8, "records come in runs of a partition, not in {changes}");
}

#[test]
fn a_bounded_source_of_empty_partitions_ends() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 3);
    assert!(read_all(&source(kafka.address(), &topic).until(OffsetAt::Latest)).is_empty());
}

#[test]
fn it_starts_where_it_is_told_to() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let timed = |number: u64| weir_kafka::KafkaMessage::new(number.to_string()).timestamp(1_000_000 + number as i64);
    let timed = weir_kafka::KafkaSink::new(kafka.address(), topic.as_str(), timed);
    let mut writer = weir::sink::Sink::create_writer(&timed, &writer_context("r", 0)).unwrap();
    (0..10).for_each(|number| weir::sink::SinkWriter::write(&mut writer, number).unwrap());
    weir::sink::SinkWriter::prepare_commit(&mut writer).unwrap();
    let bounded = || source(kafka.address(), &topic).until(OffsetAt::Latest);

    assert_eq!(values(&read_all(&bounded().start(OffsetAt::Earliest))), (0..10).collect::<Vec<_>>());
    assert_eq!(values(&read_all(&bounded().start(OffsetAt::Timestamp(1_000_007)))), [7, 8, 9]);
    assert_eq!(values(&read_all(&bounded().start(OffsetAt::Timestamp(2_000_000)))), [] as [u64; 0]);
    assert_eq!(values(&read_all(&bounded().start_at(&topic, 0, 8))), [8, 9]);
    let ends_by_time = source(kafka.address(), &topic).until(OffsetAt::Timestamp(1_000_002));
    assert_eq!(values(&read_all(&ends_by_time)), [0, 1]);

    let mut latest = Reading::start(&source(kafka.address(), &topic).start(OffsetAt::Latest)).unwrap();
    write(kafka.address(), &topic, [77]);
    latest.until(|reading| !reading.got.is_empty());
    assert_eq!(values(&latest.got), [77]);
}

#[test]
fn partitions_and_topics_that_appear_later_are_read_from_their_start() {
    let kafka = Kafka::get();
    let name = unique("discovered");
    client(kafka.address()).create_topic(&format!("{name}-a"), 1, 1, &[]).unwrap();
    write(kafka.address(), &format!("{name}-a"), [1]);
    let pattern = KafkaSource::matching(kafka.address(), &format!("{name}-*"), decode as Decode).unwrap();
    let pattern = pattern.discovery_interval(Some(std::time::Duration::from_millis(100))).start(OffsetAt::Latest);
    let mut reading = Reading::start(&pattern).unwrap();
    write(kafka.address(), &format!("{name}-a"), [2]);
    reading.until(|reading| reading.got.len() == 1);

    // Records get there before the source finds out.
    client(kafka.address()).create_topic(&format!("{name}-b"), 1, 1, &[]).unwrap();
    write(kafka.address(), &format!("{name}-b"), [3]);
    client(kafka.address()).add_partitions(&format!("{name}-a"), 5).unwrap();
    write(kafka.address(), &format!("{name}-a"), 4..24);
    reading.until(|reading| reading.got.len() >= 22);
    assert_eq!(values(&reading.got), (2..24).collect::<Vec<_>>());
    assert!(reading.got.iter().any(|(partition, ..)| *partition > 0));
}

#[test]
fn a_reader_continues_where_another_one_stood() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 3);
    write(kafka.address(), &topic, 0..20_000);
    let source = source(kafka.address(), &topic).partition_bytes(20_000);
    let mut first = Reading::start(&source).unwrap();
    first.until(|reading| reading.got.len() > 7_000);
    assert!(first.got.len() < 20_000, "it was to stop in the middle");
    let (state, splits) = (first.enumerator.snapshot().unwrap(), first.reader.snapshot());
    let mut all = first.got;

    let mut second = Reading::restore(&source, Some(state), splits).unwrap();
    second.until(|reading| reading.got.len() + all.len() >= 20_000);
    all.append(&mut second.got);
    assert_eq!(values(&all), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn a_restored_source_reads_nothing_again_and_partitions_it_did_not_know_from_their_start() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    write(kafka.address(), &topic, 0..100);
    let source = source(kafka.address(), &topic);
    let mut first = Reading::start(&source).unwrap();
    first.until(|reading| reading.got.len() == 100);
    let (state, splits) = (first.enumerator.snapshot().unwrap(), first.reader.snapshot());
    drop(first);
    client(kafka.address()).add_partitions(&topic, 3).unwrap();
    write(kafka.address(), &topic, 100..130);
    // Where a new job would start does not matter.
    let mut second = Reading::restore(&source.start(OffsetAt::Latest), Some(state), splits).unwrap();
    second.until(|reading| reading.got.len() >= 30);
    assert_eq!(values(&second.got), (100..130).collect::<Vec<_>>());
    assert!(second.got.iter().any(|(partition, ..)| *partition == 2), "the new partition has some of them");
}

#[test]
fn records_of_open_and_aborted_transactions_are_not_read_unless_wanted() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let write_in = |run: &str, numbers: std::ops::Range<u64>| {
        let sink = sink(kafka.address(), &topic).exactly_once(unique("isolation"));
        let committer = committer(&sink, run);
        let mut writer = weir::sink::Sink::create_writer(&sink, &writer_context(run, 0)).unwrap();
        numbers.for_each(|number| weir::sink::SinkWriter::write(&mut writer, number).unwrap());
        (weir::sink::SinkWriter::prepare_commit(&mut writer).unwrap(), committer)
    };
    let read = || values(&read_all(&source(kafka.address(), &topic).until(OffsetAt::Latest)));
    let (committable, mut first) = write_in("a", 0..5);
    let (_, mut aborted) = write_in("b", 5..10);
    let (last, mut third) = write_in("c", 10..15);
    assert_eq!(read(), [] as [u64; 0], "the first transaction is open");
    third.commit(last).unwrap();
    assert_eq!(read(), [] as [u64; 0], "nobody gets past an open one");
    first.commit(committable).unwrap();
    aborted.abort();
    wait_until_settled(kafka.address(), &topic);
    assert_eq!(read(), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
    let uncommitted = source(kafka.address(), &topic).uncommitted().until(OffsetAt::Latest);
    assert_eq!(values(&read_all(&uncommitted)), (0..15).collect::<Vec<_>>());
}

#[test]
fn a_position_that_is_not_in_the_log_fails_or_goes_on_where_it_was_told_to() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    write(kafka.address(), &topic, 0..5);
    let beyond = source(kafka.address(), &topic).start_at(&topic, 0, 100);
    let error = Reading::start(&beyond).unwrap().failure();
    assert!(error.contains("position 100 is not in the log, which has 0 to 5"), "{error}");

    let mut earliest = Reading::start(&beyond.clone().on_lost_position(LostPosition::Earliest)).unwrap();
    earliest.until(|reading| reading.got.len() == 5);
    let mut latest = Reading::start(&beyond.on_lost_position(LostPosition::Latest)).unwrap();
    latest.until(|reading| {
        reading
            .reader
            .snapshot()
            .iter()
            .any(|split| matches!(split, weir_kafka::KafkaSplit::Partition(split) if split.position == 5))
    });
    write(kafka.address(), &topic, [5]);
    latest.until(|reading| !reading.got.is_empty());
    assert_eq!(values(&latest.got), [5]);
}
