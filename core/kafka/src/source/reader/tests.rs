use weir::metrics::OperatorMetrics;
use weir::source::{ReaderWaker, Source};

use super::super::{KafkaSource, PartitionSplit};
use super::*;
use crate::client::cluster::Cluster;

type Decode = fn(&KafkaRecord<'_>) -> Result<Option<i64>, SourceError>;

/// A reader of two partitions that the brokers 1 and 2 lead and have been asked for.
fn reader() -> KafkaReader<i64, Decode> {
    let decode: Decode = |record| Ok(Some(record.offset()));
    let source = KafkaSource::new(Cluster::new("127.0.0.1:1").retry_timeout(Duration::from_secs(3600)), ["t"], decode);
    let context = ReaderContext {
        subtask: 0,
        parallelism: 1,
        waker: ReaderWaker::detached(),
        metrics: OperatorMetrics::detached(),
    };
    let mut reader = source.create_reader(&context).unwrap();
    for partition in 0..2 {
        let split = PartitionSplit { topic: "t".to_owned(), partition, position: 0, stop: None };
        reader.add_split(KafkaSplit::Partition(split)).unwrap();
    }
    reader.on_leaders(Ok(led_by([1, 2]))).unwrap();
    reader.partitions.iter_mut().for_each(|one| one.in_flight = true);
    reader.brokers.values_mut().for_each(|broker| broker.busy = true);
    reader
}

fn led_by(leaders: [i32; 2]) -> Leaders {
    let of = leaders.iter().enumerate().map(|(at, leader)| (TopicPartition::new("t", at as i32), *leader));
    let address = |port: i32| Address { host: "127.0.0.1".to_owned(), port: port as u16 };
    Leaders { of: of.collect(), brokers: leaders.iter().map(|id| (*id, address(*id))).collect() }
}

fn refusal(code: ResponseError) -> PartitionAnswer {
    let result = Err(PartitionFailure::Refused(code.code()));
    PartitionAnswer { partition: TopicPartition::new("t", 0), from: 0, result }
}

fn leaders(reader: &KafkaReader<i64, Decode>) -> Vec<Option<i32>> {
    reader.partitions.iter().map(|one| one.leader).collect()
}

#[test]
fn a_partition_whose_leader_moved_is_read_from_the_new_one_after_a_pause_of_the_old_one() {
    let mut reader = reader();
    assert!(!reader.leaders_wanted);
    reader.on_fetched(1, Ok(vec![refusal(ResponseError::NotLeaderOrFollower)])).unwrap();
    assert!(reader.leaders_wanted && !reader.brokers[&1].busy && !reader.brokers[&1].retry.is_due());
    assert!(reader.brokers[&2].busy, "the other one is not concerned");
    reader.on_leaders(Ok(led_by([3, 3]))).unwrap();
    assert_eq!(leaders(&reader), [Some(3), Some(2)], "what was asked of the old leader still has to be answered");
    reader.on_fetched(2, Ok(Vec::new())).unwrap();
    reader.on_leaders(Ok(led_by([3, 3]))).unwrap();
    assert_eq!(leaders(&reader), [Some(3), Some(3)]);
    assert!(!reader.leaders_wanted);
}

#[test]
fn a_broker_that_is_gone_is_asked_again_later_and_an_answer_ends_the_count() {
    let mut reader = reader();
    let gone = || KafkaError::Connection { broker: "b".to_owned(), reason: "gone".to_owned() };
    reader.on_fetched(1, Err(gone())).unwrap();
    assert!(!reader.partitions[0].in_flight && reader.partitions[1].in_flight);
    assert!(reader.next_deadline().is_some() && !reader.brokers[&1].retry.is_due());
    reader.on_fetched(1, Ok(Vec::new())).unwrap();
    assert!(reader.brokers[&1].retry.is_due());
}

#[test]
fn while_a_partition_has_no_leader_leaders_are_looked_up_again() {
    let mut reader = reader();
    reader.on_fetched(1, Ok(vec![refusal(ResponseError::NotLeaderOrFollower)])).unwrap();
    let mut known = led_by([1, 2]);
    known.of.remove(&TopicPartition::new("t", 0));
    reader.on_leaders(Ok(known)).unwrap();
    assert!(reader.leaders_wanted && !reader.leaders_retry.is_due());
}

#[test]
fn what_a_broker_does_not_allow_ends_the_job_with_the_reason() {
    let mut reader = reader();
    let error = reader.on_fetched(1, Ok(vec![refusal(ResponseError::TopicAuthorizationFailed)])).unwrap_err();
    assert!(error.to_string().contains("reading t-0: not authorized for the topic. Grant this user Read"), "{error}");
}

#[test]
fn a_position_that_is_in_the_log_after_all_is_fetched_again() {
    let mut reader = reader();
    let id = TopicPartition::new("t", 0);
    reader.partitions[0].leader = None;
    reader.on_range(&id, Ok((0, 10))).unwrap();
    assert!(reader.leaders_wanted && !reader.partitions[0].in_flight);
    let error = reader.on_range(&id, Ok((5, 10))).unwrap_err();
    assert!(error.to_string().contains("position 0 is not in the log, which has 5 to 10"), "{error}");
}
