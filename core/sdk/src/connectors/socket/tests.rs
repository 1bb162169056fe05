use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::*;
use crate::connectors::testing::Got;

/// A task that a test waits in instead of parking.
struct TestTask {
    thread: thread::Thread,
    canceled: AtomicBool,
}

impl TaskSignal for TestTask {
    fn wake(&self) {
        self.thread.unpark();
    }

    fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Relaxed)
    }
}

fn task() -> Arc<TestTask> {
    Arc::new(TestTask { thread: thread::current(), canceled: AtomicBool::new(false) })
}

fn source(listener: &TcpListener) -> SocketTextSource {
    SocketTextSource::new("127.0.0.1", listener.local_addr().unwrap().port()).retry_delay(Duration::from_millis(10))
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Reads until the source ends.
fn read(source: &SocketTextSource) -> (Vec<String>, Result<(), String>) {
    let mut reader = SocketReader::new(source, task());
    reader.add_split(ConnectionSplit { received: 0 }).unwrap();
    let mut got = Got::default();
    let result = loop {
        match reader.poll(&mut got) {
            Ok(ReaderStatus::NeedSplit) => break Ok(()),
            Ok(ReaderStatus::More) => {}
            Ok(ReaderStatus::Wait(_)) => thread::park_timeout(Duration::from_secs(20)),
            Err(error) => break Err(error.to_string()),
        }
    };
    (got.0.iter().map(|line: &Text| line.to_string()).collect(), result)
}

/// Serves each of `connections` with its pieces, then closes it.
fn serve(listener: TcpListener, connections: Vec<Vec<&'static [u8]>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for pieces in connections {
            let (mut stream, _) = listener.accept().unwrap();
            for piece in pieces {
                stream.write_all(piece).unwrap();
            }
        }
    })
}

#[test]
fn lines_are_put_together_and_the_source_ends_when_the_server_closes() {
    let listener = listener();
    let source = source(&listener);
    let server = serve(listener, vec![vec![b"to be\r\nor", b" not\n", b"\n", "größe".as_bytes()]]);
    assert_eq!(read(&source), (["to be", "or not", "", "größe"].map(String::from).to_vec(), Ok(())));
    server.join().unwrap();
}

#[test]
fn many_lines_pass_through_the_bounded_queue() {
    let listener = listener();
    let source = source(&listener);
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines: String = (0..500_000).map(|n| format!("{n}\n")).collect();
        stream.write_all(lines.as_bytes()).unwrap();
    });
    let (lines, result) = read(&source);
    assert_eq!(result, Ok(()));
    assert!(lines.into_iter().eq((0..500_000).map(|n| n.to_string())));
    server.join().unwrap();
}

#[test]
fn a_refused_connection_is_an_error_that_names_the_server() {
    let listener = listener();
    let source = source(&listener).retries(2);
    drop(listener);
    let (_, result) = read(&source);
    let error = result.unwrap_err();
    assert!(error.contains("127.0.0.1:") && error.contains("refused"), "{error}");
    let (_, result) = read(&SocketTextSource::new("host.invalid", 1));
    assert!(result.unwrap_err().contains("socket host.invalid:1: the host cannot be found"));
}

#[test]
fn a_reset_connection_is_an_error() {
    let listener = listener();
    let source = source(&listener);
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"one\n").unwrap();
        reset(&stream);
    });
    let (lines, result) = read(&source);
    // What arrived before the reset may be lost with it.
    assert!(lines.len() <= 1, "{lines:?}");
    let error = result.unwrap_err();
    assert!(error.contains("broke the connection off"), "{error}");
    server.join().unwrap();
}

/// Makes closing the stream send a reset.
fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the descriptor is open and the option's value is a `linger` of the given size.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    };
    assert_eq!(result, 0);
}

#[test]
fn retries_connect_again_after_a_close_and_end_properly() {
    let listener = listener();
    let source = source(&listener).retries(1);
    let server = serve(listener, vec![vec![b"one\n"], vec![b"two"], vec![b"three\n"]]);
    assert_eq!(read(&source), (["one", "two", "three"].map(String::from).to_vec(), Ok(())));
    server.join().unwrap();
}

#[test]
fn lines_that_are_not_utf8_fail_are_replaced_or_skipped() {
    let with = |choice: InvalidUtf8| {
        let listener = listener();
        let source = source(&listener).invalid_utf8(choice);
        let server = serve(listener, vec![vec![b"one\n\xff\xfe\ntwo\n"]]);
        let result = read(&source);
        server.join().unwrap();
        (result.0, result.1, source.skipped().get())
    };
    let error = with(InvalidUtf8::Fail).1.unwrap_err();
    assert!(error.contains("byte 4 is not UTF-8"), "{error}");
    let lines = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
    assert_eq!(with(InvalidUtf8::Replace), (lines(&["one", "\u{fffd}\u{fffd}", "two"]), Ok(()), 0));
    assert_eq!(with(InvalidUtf8::Skip), (lines(&["one", "two"]), Ok(()), 1));
}

#[test]
fn only_one_reader_connects() {
    let context = EnumeratorContext { parallelism: 4, restored: None };
    let mut enumerator = SocketTextSource::new("h", 1).create_enumerator(&context).unwrap();
    assert!(matches!(enumerator.next_split(2), Ok(NextSplit::Split(_))));
    assert_eq!(enumerator.next_split(0).unwrap(), NextSplit::Finished);
}

#[test]
fn the_thread_ends_when_the_reader_is_dropped_or_the_task_canceled() {
    for drop_reader in [true, false] {
        let listener = listener();
        let task = task();
        let mut reader = SocketReader::new(&source(&listener), task.clone());
        reader.add_split(ConnectionSplit { received: 0 }).unwrap();
        // The server says nothing: the thread sits in a read.
        let (_silent, _) = listener.accept().unwrap();
        let mut reader = Some(reader);
        if drop_reader {
            reader = None;
        } else {
            task.canceled.store(true, Ordering::Relaxed);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        // The thread holds a reference to the task while it lives.
        let others = if reader.is_some() { 2 } else { 1 };
        while Arc::strong_count(&task) > others {
            assert!(Instant::now() < deadline, "the thread is still there");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
