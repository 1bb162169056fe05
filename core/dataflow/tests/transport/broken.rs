//! What only a network can do: break, bring strangers, be shut down.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use weir_dataflow::channel::{ChannelWriter, Gate, Inbox};
use weir_dataflow::element::Control;
use weir_dataflow::failure::{FailureKind, TaskError};
use weir_dataflow::net::{ChannelId, JobToken, Network, NetworkOptions};

use crate::link::{self, Input, Link, PATIENCE, connect, read_all, records, run, send_all, start, task, token};

/// A wire between two workers that can be cut and tampered with.
struct Wire {
    address: SocketAddr,
    ends: std::sync::mpsc::Receiver<[TcpStream; 2]>,
}

impl Wire {
    fn to(target: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, ends) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let (near, _) = listener.accept().unwrap();
            let far = TcpStream::connect(target).unwrap();
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
            sender.send([near, far]).unwrap();
        });
        Wire { address, ends }
    }
}

/// Two workers and the ends of the wire between them.
fn connect_by_wire() -> (Network, Network, [TcpStream; 2]) {
    let (first, second) = (start(token()), start(token()));
    let wire = Wire::to(second.address());
    let addresses = [first.address(), wire.address];
    thread::scope(|scope| {
        let other = scope.spawn(|| second.connect(1, &addresses));
        first.connect(0, &addresses).unwrap();
        other.join().unwrap().unwrap();
    });
    let ends = wire.ends.recv_timeout(PATIENCE).unwrap();
    (first, second, ends)
}

#[track_caller]
fn network_failure(error: TaskError) -> String {
    let TaskError::Failed(failure) = error else { panic!("expected a failure, got {error}") };
    assert_eq!(failure.kind, FailureKind::Network);
    failure.message
}

fn send_for_ever(mut writer: ChannelWriter<u64>) -> link::Running<TaskError> {
    run(task(), move |task| {
        loop {
            if let Err(error) = writer.send_batch((0..1000).collect(), task) {
                return error;
            }
        }
    })
}

#[test]
fn a_cut_connection_is_reported_on_both_sides() {
    let (first, second, ends) = connect_by_wire();
    let link = Link::over(first.clone(), second.clone());
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(2, 4);
    let mut idle = writers.remove(1);
    let busy = send_for_ever(writers.remove(0));
    // One channel has ended by then, one is in use, and one of another consumer waits for credit.
    run(task(), move |task| idle.send_control(Control::End, task)).join().unwrap();
    let mut stopped = link.open::<u64>(1, 1);
    let waiting = send_for_ever(stopped.writers.remove(0));
    link::until_it_waits(&waiting.task);
    let reader = run(consumer, move |task| {
        loop {
            if let Err(error) = link::next(&mut gate, task) {
                return error;
            }
        }
    });
    link::until("data flows", || busy.task.snapshot().records_out > 100_000);
    ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
    for message in [busy.join(), waiting.join()].map(network_failure) {
        assert!(message.contains("worker 1 at 127.0.0.1:") && message.contains("look at its log"), "{message}");
    }
    let message = network_failure(reader.join());
    assert!(message.contains(&format!("worker 0 at {}", first.address())), "{message}");
    // What is opened on the broken connection afterwards fails at once.
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(1, 4);
    let late = run(task(), move |task| writers[0].send_batch(vec![1], task));
    network_failure(late.join().unwrap_err());
    network_failure(run(consumer, move |task| read_all(&mut gate, task)).join().unwrap_err());
}

#[test]
fn damaged_data_ends_the_connection_with_the_reason() {
    let (first, second, mut ends) = connect_by_wire();
    let link = Link::over(first, second);
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(1, 4);
    let reader = run(consumer, move |task| read_all(&mut gate, task));
    ends[1].write_all(&[0xEE; 64]).unwrap();
    let message = network_failure(reader.join().unwrap_err());
    assert!(message.contains("damaged data from worker 0") && message.contains("ee, ee"), "{message}");
    let sender = run(task(), move |task| {
        loop {
            writers[0].send_batch(vec![1], task)?;
        }
    });
    let result: Result<(), TaskError> = sender.join();
    network_failure(result.unwrap_err());
}

#[test]
fn a_stranger_is_ignored() {
    let (first, second) = (start(token()), start(token()));
    let stranger = |network: &Network, words: &[u8]| {
        let mut stream = TcpStream::connect(network.address()).unwrap();
        stream.write_all(words).unwrap();
        stream
    };
    let noise = [0xAB; 200];
    let before = [stranger(&first, &noise), stranger(&second, &noise), stranger(&second, b"GET / HTTP/1.1\r\n\r\n")];
    connect(&first, &second).unwrap();
    let after = [stranger(&first, &noise), stranger(&second, b""), stranger(&second, &noise[..3])];
    let link = Link::over(first, second);
    let Input { mut writers, mut gate, consumer } = link.open::<u64>(1, 4);
    let producer = run(task(), move |task| send_all(&mut writers[0], 0..100_000, task));
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert_eq!(records(got).len(), 100_000);
    let [mut noisy, ..] = before;
    noisy.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // Closed with what it sent unread, so it may see a reset instead of an end.
    let _ = noisy.read_to_end(&mut answer);
    assert_eq!(answer, b"", "a stranger hears nothing");
    drop(after);
}

#[test]
fn a_worker_of_another_job_is_refused_and_does_not_take_a_seat() {
    let (first, second) = (start(token()), start(token()));
    let intruder = start(JobToken::from_bytes([9; 32]));
    let addresses = [first.address(), second.address()];
    thread::scope(|scope| {
        let waiting = scope.spawn(|| second.connect(1, &addresses));
        let refused = intruder.connect(0, &addresses).unwrap_err().to_string();
        assert!(refused.contains("worker 1 at") && refused.contains("another job"), "{refused}");
        first.connect(0, &addresses).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_second_worker_with_the_same_index_is_refused() {
    let (first, second, double) = (start(token()), start(token()), start(token()));
    connect(&first, &second).unwrap();
    let refused = double.connect(0, &[double.address(), second.address()]).unwrap_err().to_string();
    assert!(refused.contains("indices must be unique"), "{refused}");
}

#[test]
fn peers_that_cannot_be_reached_are_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let network = start(token());
    let error = network.connect(0, &[network.address(), nobody]).unwrap_err().to_string();
    assert!(error.contains(&format!("worker 1 at {nobody}")), "{error}");
    let mut options = NetworkOptions::new(token());
    options.connect_timeout = Duration::from_millis(50);
    let network = Network::start(options).unwrap();
    let error = network.connect(1, &[nobody, network.address()]).unwrap_err().to_string();
    assert!(error.contains(&format!("worker 0 at {nobody}: no connection within 50ms")), "{error}");
}

#[test]
fn a_sender_may_come_before_its_receiver() {
    let (first, second) = (start(token()), start(token()));
    connect(&first, &second).unwrap();
    let id = |producer| ChannelId { edge: 3, producer, consumer: 4 };
    let mut writers = [0, 1].map(|p| ChannelWriter::<u64>::Remote(first.sender(id(p), 1)));
    let [ref mut empty, _] = writers;
    empty.send_control(Control::End, &task()).unwrap();
    let producer = run(task(), move |task| send_all(&mut writers[1], 0..10, task));
    link::until_it_waits(&producer.task);
    let consumer = task();
    let inbox = Inbox::<u64>::new(2, 4, consumer.clone());
    for channel in [1, 0] {
        inbox.set_credit_return(channel, second.receiver(id(channel), 0, inbox.clone(), channel, 4));
    }
    let mut gate = Gate::new(inbox, false);
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    producer.join().unwrap();
    assert!(records(got).into_iter().eq(0..10));
}

#[test]
fn a_shutdown_writes_everything_queued_first() {
    let (first, second) = (start(token()), start(token()));
    connect(&first, &second).unwrap();
    // Far more credit than the sockets' buffers hold, so that most of it is still queued when the producer is done.
    let Input { mut writers, mut gate, consumer } = Link::over(first.clone(), second.clone()).open::<u64>(1, 100_000);
    run(task(), move |task| send_all(&mut writers[0], 0..8_000_000, task)).join().unwrap();
    let shutdown = thread::spawn(move || first.shutdown(PATIENCE));
    let got = run(consumer, move |task| read_all(&mut gate, task)).join().unwrap();
    assert!(records(got).into_iter().eq(0..8_000_000));
    link::until("the shutdown is done", || shutdown.is_finished());
    // The other side finds nobody there and does not wait.
    let begun = Instant::now();
    second.shutdown(PATIENCE);
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn a_shutdown_does_not_outlast_its_grace() {
    let (first, second) = (start(token()), start(token()));
    connect(&first, &second).unwrap();
    // Nobody ever opens the other end of this one.
    let sender = first.sender(ChannelId { edge: 0, producer: 0, consumer: 0 }, 1);
    sender.send_control(Control::End).unwrap();
    let begun = Instant::now();
    first.shutdown(Duration::from_millis(200));
    assert!(begun.elapsed() < PATIENCE / 2);
    // It says that it was shut down, or that the peer closed, whichever was noticed first.
    network_failure(sender.send_control(Control::End).unwrap_err());
    drop(second);
}
