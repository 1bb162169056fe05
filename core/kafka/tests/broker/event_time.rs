//! Event time by partition, and how far behind a reader is.

use std::time::Duration;

use weir::sink::{Sink, SinkWriter};
use weir::source::SourceReader;
use weir::{WatermarkAlignment, WatermarkGenerator, WatermarkStrategy};
use weir_dataflow::element::Control;
use weir_dataflow::operators::WithWatermarks;
use weir_kafka::{KafkaMessage, KafkaSink, OffsetAt};

use crate::fixture::Kafka;
use crate::harness::{Decode, Read, Reading, new_topic, source, writer_context};

/// Writes times to a partition.
fn write(servers: &str, topic: &str, partition: i32, times: impl IntoIterator<Item = i64>) {
    let sink =
        KafkaSink::new(servers, topic, move |time: i64| KafkaMessage::new(time.to_string()).partition(partition));
    let context = writer_context("r", 0);
    let mut writer = sink.create_writer(&context).unwrap();
    let mut bytes = 0;
    for time in times {
        bytes += time.to_string().len();
        writer.write(time).unwrap();
    }
    writer.prepare_commit().unwrap();
    let counted = context.metrics.values();
    assert_eq!((counted[0].full_name().as_str(), counted[0].value), ("numBytesSend", bytes as f64));
}

/// The times are those of the records, in order in each partition.
fn by_time() -> WatermarkStrategy<impl WatermarkGenerator<Read>> {
    WatermarkStrategy::monotonic(|(_, _, time): &Read| time.parse().unwrap())
}

type Timed<G> = WithWatermarks<weir_kafka::KafkaSource<Read, Decode>, G>;

fn watermarks<G: WatermarkGenerator<Read>>(reading: &Reading<Timed<G>>) -> Vec<i64> {
    let time = |control: &Control| if let Control::Watermark(time) = control { Some(*time) } else { None };
    reading.times.iter().filter_map(time).collect()
}

#[test]
fn the_slowest_partition_says_how_far_event_time_is_until_it_ends() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 3);
    write(kafka.address(), &topic, 0, 0..1000);
    write(kafka.address(), &topic, 1, 0..100);
    write(kafka.address(), &topic, 2, [10]);

    let endless = WithWatermarks::new(source(kafka.address(), &topic), by_time(), None);
    let mut reading = Reading::start(&endless).unwrap();
    reading.until(|reading| reading.got.len() == 1101 && !watermarks(reading).is_empty());
    (0..50).for_each(|_| reading.poll().unwrap());
    assert_eq!(watermarks(&reading), [9]);

    let bounded = source(kafka.address(), &topic).until(OffsetAt::Latest);
    let mut reading = Reading::start(&WithWatermarks::new(bounded, by_time(), None)).unwrap();
    reading.until(|reading| reading.finished);
    assert_eq!(reading.got.len(), 1101);
    assert!(watermarks(&reading).is_sorted());
}

#[test]
fn a_partition_without_records_holds_event_time_back_only_until_it_is_idle() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    write(kafka.address(), &topic, 0, 0..1000);

    let waiting = WithWatermarks::new(source(kafka.address(), &topic), by_time(), None);
    let mut reading = Reading::start(&waiting).unwrap();
    reading.until(|reading| reading.got.len() == 1000);
    (0..50).for_each(|_| reading.poll().unwrap());
    assert_eq!(reading.times, [], "there may be anything in the other one");

    let strategy = by_time().idle_after(Duration::from_millis(300));
    let mut reading = Reading::start(&WithWatermarks::new(source(kafka.address(), &topic), strategy, None)).unwrap();
    reading.until(|reading| reading.times.contains(&Control::Idle(true)));
    write(kafka.address(), &topic, 0, [2000]);
    reading.until(|reading| watermarks(reading).contains(&1999));
    write(kafka.address(), &topic, 1, [3000]);
    reading.until(|reading| reading.got.len() == 1002);
    assert!(watermarks(&reading).is_sorted());
}

#[test]
fn a_partition_that_is_ahead_of_the_others_is_not_read_until_they_have_caught_up() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    write(kafka.address(), &topic, 0, 0..20_000);
    write(kafka.address(), &topic, 1, 0..100);
    let group = WatermarkAlignment::new(Duration::from_millis(500));
    let source = WithWatermarks::new(source(kafka.address(), &topic), by_time(), Some(group));
    let mut reading = Reading::start(&source).unwrap();
    let of = |reading: &Reading<Timed<_>>, partition| reading.got.iter().filter(|(one, ..)| *one == partition).count();
    reading.until(|reading| of(reading, 1) == 100 && of(reading, 0) > 600);
    (0..5).for_each(|_| reading.poll().unwrap());
    let (read, behind) = (of(&reading, 0), reading.metric("pendingRecords"));
    (0..50).for_each(|_| reading.poll().unwrap());
    assert_eq!(of(&reading, 0), read, "it waits");
    assert!(read < 20_000 && behind > 0.0, "{read} read, {behind} to come");
    let state = reading.reader.snapshot();
    assert_eq!(state.len(), 2, "what waits is part of the state");

    write(kafka.address(), &topic, 1, [30_000]);
    reading.until(|reading| of(reading, 0) == 20_000 && of(reading, 1) == 101);
    assert!(watermarks(&reading).is_sorted());
}

#[test]
fn how_far_behind_a_reader_is_can_be_seen_and_falls_to_nothing() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    write(kafka.address(), &topic, 0, 0..20_000);
    write(kafka.address(), &topic, 1, 0..10);
    let mut reading = Reading::start(&source(kafka.address(), &topic)).unwrap();
    let max = "KafkaSourceReader.KafkaConsumer.records-lag-max";
    let of = |partition: u32, name: &str| format!("KafkaSourceReader.topic.{topic}.partition.{partition}.{name}");
    reading.until(|reading| reading.metric("pendingRecords") > 0.0);
    assert!(reading.metric(max) <= reading.metric("pendingRecords"));
    for more in [0, 7] {
        write(kafka.address(), &topic, 1, 0..more);
        let (end, all) = (10 + more, 20_010 + more as usize);
        reading.until(|reading| reading.got.len() == all && reading.metric("pendingRecords") == 0.0);
        assert_eq!(reading.metric(max), 0.0);
        assert_eq!(reading.metric(&of(0, "currentOffset")), 19_999.0);
        assert_eq!(reading.metric(&of(1, "currentOffset")), (end - 1) as f64);
        assert_eq!(reading.metric(&of(1, "records-lag")), 0.0);
    }
}
