use std::convert::Infallible;

use bytes::Bytes;

use weir::metrics::OperatorMetrics;

use super::super::metrics::ReaderMetrics;
use super::*;
use crate::batch::{BatchBuilder, Compression, Origin, OutgoingRecord};
use crate::client::ProducerIdentity;

/// Bit of a batch's attributes that says that it is a marker.
const CONTROL: u8 = 1 << 5;

/// A batch of `count` records from `offset` on, as a broker has it.
fn batch(offset: i64, count: usize, transaction_of: Option<i64>) -> Vec<u8> {
    raw(offset, &vec![OutgoingRecord::default(); count], transaction_of, false)
}

/// The mark of a transaction's end.
fn marker(offset: i64, producer: i64, commit: bool) -> Vec<u8> {
    let key = [0, 0, 0, u8::from(commit)];
    raw(offset, &[OutgoingRecord { key: Some(&key), ..OutgoingRecord::default() }], Some(producer), true)
}

fn raw(offset: i64, records: &[OutgoingRecord<'_>], transaction_of: Option<i64>, control: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::default();
    records.iter().for_each(|record| builder.push(record));
    let origin = transaction_of.map(|id| Origin {
        producer: ProducerIdentity { id, epoch: 0 },
        sequence: 0,
        transactional: true,
    });
    let mut bytes = builder.finish(Compression::None, origin).unwrap().to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    if control {
        bytes[22] |= CONTROL;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fn fetched(from: i64, aborted: &[(i64, i64)], batches: &[Vec<u8>]) -> Fetched {
    Fetched {
        partition: TopicPartition::new("t", 0),
        from,
        error_code: 0,
        end: 100,
        aborted: aborted.to_vec(),
        records: Bytes::from(batches.concat()),
    }
}

fn partition(position: i64, stop: Option<i64>) -> Partition {
    let metrics = ReaderMetrics::new(&OperatorMetrics::detached()).of_partition("t", 0);
    Partition::new(PartitionSplit { topic: "t".to_owned(), partition: 0, position, stop }, 1, metrics)
}

/// Offsets that are emitted, at most `most`.
fn emit(partition: &mut Partition, most: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    let emitted = partition.emit(most, |_, record| {
        offsets.push(record.offset);
        Ok::<_, Infallible>(())
    });
    assert_eq!(emitted.unwrap(), offsets.len());
    offsets
}

fn take(partition: &mut Partition, fetched: &Fetched) {
    partition.fetched(fetched.from, readable(fetched).unwrap());
}

#[test]
fn records_come_in_order_and_the_position_follows() {
    let mut one = partition(0, None);
    take(&mut one, &fetched(0, &[], &[batch(0, 3, None), batch(3, 2, None)]));
    assert_eq!(one.wants(usize::MAX), Some(5));
    assert_eq!(emit(&mut one, 2), [0, 1]);
    assert_eq!(one.rest().position, 2);
    assert_eq!(emit(&mut one, 9), [2, 3, 4]);
    assert_eq!((one.rest().position, one.is_ready()), (5, false));
}

#[test]
fn a_position_inside_a_batch_leaves_out_what_was_read() {
    let mut one = partition(2, None);
    take(&mut one, &fetched(2, &[], &[batch(0, 4, None)]));
    assert_eq!(emit(&mut one, 9), [2, 3]);
}

#[test]
fn it_ends_before_its_stop_also_inside_a_batch() {
    let mut one = partition(0, Some(2));
    take(&mut one, &fetched(0, &[], &[batch(0, 4, None)]));
    assert_eq!(one.wants(usize::MAX), None);
    assert_eq!(emit(&mut one, 9), [0, 1]);
    assert!(one.is_finished() && !one.is_ready());
}

#[test]
fn records_of_aborted_transactions_are_left_out_and_later_ones_of_the_same_producer_are_not() {
    let log = [
        batch(0, 1, Some(7)),
        batch(1, 1, Some(8)),
        marker(2, 7, false),
        batch(3, 1, Some(7)),
        marker(4, 8, true),
        marker(5, 7, true),
        batch(6, 1, None),
    ];
    let mut one = partition(0, None);
    take(&mut one, &fetched(0, &[(7, 0)], &log));
    assert_eq!(emit(&mut one, 9), [1, 3, 6]);
}

#[test]
fn an_answer_with_nothing_to_see_moves_the_position_all_the_same() {
    let mut one = partition(0, Some(3));
    take(&mut one, &fetched(0, &[(7, 0)], &[batch(0, 2, Some(7)), marker(2, 7, false)]));
    assert!(one.is_ready());
    assert_eq!(emit(&mut one, 9), [] as [i64; 0]);
    assert!(one.is_finished());
}

#[test]
fn an_answer_from_before_a_jump_is_ignored() {
    let mut one = partition(0, None);
    one.jump(100);
    take(&mut one, &fetched(0, &[], &[batch(0, 3, None)]));
    assert_eq!((one.is_ready(), one.wants(usize::MAX)), (false, Some(100)));
}

#[test]
fn nothing_is_fetched_while_there_is_enough() {
    let mut one = partition(0, None);
    take(&mut one, &fetched(0, &[], &[batch(0, 3, None)]));
    assert_eq!(one.wants(50), None);
    emit(&mut one, 9);
    assert_eq!(one.wants(50), Some(3));
}

#[test]
fn damage_names_the_place() {
    let mut bytes = batch(5, 3, None);
    bytes[70] ^= 1;
    let error = readable(&fetched(5, &[], &[bytes])).unwrap_err().to_string();
    assert!(error.contains("topic \"t\", partition 0, at offset 5: the checksum"), "{error}");
}
