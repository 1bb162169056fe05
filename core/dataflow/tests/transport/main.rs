//! One suite for both transports: what a channel promises must not depend on where its consumer lives.

#![allow(clippy::unwrap_used, reason = "a test may, also outside the functions marked as one")]

mod broken;
mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use link::{Input, Item, Link, next, read_all, records, run, send_all, task, until, until_it_waits};
use weir_dataflow::element::{Barrier, Control};
use weir_dataflow::failure::TaskError;
use weir_dataflow::gate::GateAction;

macro_rules! over_both_transports {
    ($($test:ident)*) => {
        mod in_process {
            $(#[test] fn $test() { super::$test(&super::Link::local()) })*
        }
        mod over_the_network {
            $(#[test] fn $test() { super::$test(&super::Link::network()) })*
        }
    };
}

over_both_transports! {
    all_records_arrive_in_order
    records_without_bytes_are_counted
    controls_keep_their_place_among_records
    a_producer_waits_for_its_consumer
    a_stopped_consumer_does_not_stop_its_neighbours
    a_record_larger_than_any_buffer_arrives
    an_empty_stream_ends
    many_channels_deliver_everything
    a_single_batch_of_room_is_enough
    a_waiting_producer_can_be_cancelled
    a_waiting_consumer_can_be_cancelled
    a_consumer_that_leaves_early_does_not_hold_its_producer
}

fn all_records_arrive_in_order(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(1, 4);
    let producer = run(task(), move |task| send_all(&mut writers[0], 0..1_000_000, task));
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert!(records(got).into_iter().eq(0..1_000_000));
}

fn records_without_bytes_are_counted(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open::<()>(1, 4);
    let producer = run(task(), move |task| send_all(&mut writers[0], std::iter::repeat_n((), 5_000), task));
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert_eq!(records(got).len(), 5_000);
}

fn controls_keep_their_place_among_records(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open::<String>(1, 64);
    let barrier = Barrier { checkpoint: 7, timestamp: -5, aligned: false, kind: weir_model::CheckpointKind::Savepoint };
    let producer = run(task(), move |task| {
        let to = &mut writers[0];
        to.send_batch(vec!["a".to_owned(), String::new()], task)?;
        to.send_control(Control::Watermark(-9), task)?;
        to.send_batch(vec!["b".to_owned()], task)?;
        to.send_control(Control::Idle(true), task)?;
        to.send_control(Control::Idle(false), task)?;
        to.send_control(Control::Barrier(barrier), task)?;
        to.send_batch(vec!["c".to_owned()], task)?;
        to.send_control(Control::End, task)
    });
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    let record = |text: &str| Item::Record(text.to_owned());
    let expect = [
        record("a"),
        record(""),
        Item::Action(GateAction::Watermark(-9)),
        record("b"),
        Item::Action(GateAction::Idle(true)),
        Item::Action(GateAction::Idle(false)),
        Item::Action(GateAction::Aligned(barrier)),
        record("c"),
    ];
    assert_eq!(got, expect);
}

/// Sends batches of one record without end and counts them.
fn send_for_ever(
    mut writer: weir_dataflow::channel::ChannelWriter<Vec<u8>>,
    sent: Arc<AtomicU32>,
) -> link::Running<TaskError> {
    run(task(), move |task| {
        loop {
            if let Err(error) = writer.send_batch(vec![vec![0; 1000]], task) {
                return error;
            }
            sent.fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn a_producer_waits_for_its_consumer(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open(1, 8);
    let sent = Arc::new(AtomicU32::new(0));
    let producer = send_for_ever(writers.remove(0), sent.clone());
    until_it_waits(&producer.task);
    assert_eq!(sent.load(Ordering::Relaxed), 8, "as many batches as there is room for");
    let reader = run(consumer, move |task| {
        for _ in 0..100 {
            assert_eq!(next(&mut gate, task).unwrap().unwrap().len(), 1);
        }
        gate
    });
    let gate = reader.join();
    until_it_waits(&producer.task);
    let sent = sent.load(Ordering::Relaxed);
    assert!((100..=108).contains(&sent), "{sent} batches were sent when 100 had been read");
    producer.task.cancel();
    assert_eq!(producer.join(), TaskError::Canceled);
    drop(gate);
}

fn a_stopped_consumer_does_not_stop_its_neighbours(link: &Link) {
    let mut stopped = link.open(1, 8);
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(1, 8);
    let sent = Arc::new(AtomicU32::new(0));
    let waiting = send_for_ever(stopped.writers.remove(0), sent.clone());
    until_it_waits(&waiting.task);
    let producer = run(task(), move |task| send_all(&mut writers[0], 0..2_000_000, task));
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert!(records(got).into_iter().eq(0..2_000_000));
    assert_eq!(sent.load(Ordering::Relaxed), 8, "the other one is still where it was");
    // It goes on as soon as its consumer does.
    let mut gate = stopped.gate;
    let reader = run(stopped.consumer, move |task| {
        (0..50).for_each(|_| drop(next(&mut gate, task).unwrap()));
        gate
    });
    let gate = reader.join();
    until("the other goes on", || sent.load(Ordering::Relaxed) >= 50);
    waiting.task.cancel();
    assert_eq!(waiting.join(), TaskError::Canceled);
    drop(gate);
}

fn a_record_larger_than_any_buffer_arrives(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open::<Vec<u8>>(1, 4);
    let huge: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let expect = [vec![1], huge.clone(), vec![2]];
    let producer = run(task(), move |task| {
        writers[0].send_batch(vec![vec![1], huge, vec![2]], task)?;
        writers[0].send_control(Control::End, task)
    });
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert!(records(got) == expect);
}

fn an_empty_stream_ends(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(2, 4);
    let producer = run(task(), move |task| {
        writers[1].send_control(Control::End, task)?;
        writers[0].send_control(Control::End, task)
    });
    assert_eq!(run(consumer, move |task| read_all(&mut gate, task)).join(), Ok(vec![]));
    producer.join().unwrap();
}

fn many_channels_deliver_everything(link: &Link) {
    const SIDE: u32 = 12;
    const EACH: u64 = 20_000;
    let mut writers: Vec<Vec<_>> = (0..SIDE).map(|_| Vec::new()).collect();
    let mut consumers = Vec::new();
    for _ in 0..SIDE {
        let mut input = link.open::<(u32, u64)>(SIDE, 3);
        writers.iter_mut().zip(input.writers).for_each(|(w, writer)| w.push(writer));
        consumers.push(run(input.consumer, move |task| read_all(&mut input.gate, task)));
    }
    let produce = |(producer, mut writers): (u32, Vec<weir_dataflow::channel::ChannelWriter<(u32, u64)>>)| {
        run(task(), move |task| {
            for round in 0..EACH / 100 {
                for writer in &mut writers {
                    writer.send_batch((round * 100..round * 100 + 100).map(|n| (producer, n)).collect(), task)?;
                }
            }
            writers.iter_mut().try_for_each(|writer| writer.send_control(Control::End, task))
        })
    };
    let producers: Vec<_> = (0..SIDE).zip(writers).map(produce).collect();
    producers.into_iter().for_each(|p| p.join().unwrap());
    for consumer in consumers {
        let mut expected = vec![0; SIDE as usize];
        for (producer, n) in records(consumer.join().unwrap()) {
            let next = &mut expected[producer as usize];
            assert_eq!(n, *next, "record of producer {producer}");
            *next += 1;
        }
        assert_eq!(expected, vec![EACH; SIDE as usize]);
    }
}

fn a_single_batch_of_room_is_enough(link: &Link) {
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(1, 1);
    let producer = run(task(), move |task| send_all(&mut writers[0], 0..100_000, task));
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert!(records(got).into_iter().eq(0..100_000));
}

fn a_waiting_producer_can_be_cancelled(link: &Link) {
    let mut input = link.open(1, 2);
    let producer = send_for_ever(input.writers.remove(0), Arc::default());
    until_it_waits(&producer.task);
    producer.task.cancel();
    assert_eq!(producer.join(), TaskError::Canceled);
}

fn a_waiting_consumer_can_be_cancelled(link: &Link) {
    let mut input = link.open::<u64>(1, 2);
    let reader = run(input.consumer, move |task| read_all(&mut input.gate, task));
    until("the consumer waits", || reader.task.snapshot().idle_nanos > 0);
    reader.task.cancel();
    assert_eq!(reader.join(), Err(TaskError::Canceled));
}

fn a_consumer_that_leaves_early_does_not_hold_its_producer(link: &Link) {
    let Input { mut writers, gate, consumer } = link.open::<u64>(1, 4);
    let producer = run(task(), move |task| send_all(&mut writers[0], 0..1_000_000, task));
    until_it_waits(&producer.task);
    let mut gate = gate;
    run(consumer, move |task| drop(next(&mut gate, task).unwrap())).join();
    producer.join().unwrap();
}
