//! Against services that misbehave; the TaskManager's own is under test where it is.

use std::os::unix::net::UnixListener;
use std::thread;

use weir_proto::storage::Opened;

use super::*;

/// A service for one connection that does what it is told; what the client makes of it.
fn with_service<T>(service: impl FnOnce(UnixStream) + Send, client: impl FnOnce(StorageService) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| service(listener.accept().unwrap().0));
        client(StorageService::new(socket))
    })
}

fn answer(stream: &mut UnixStream, answer: Answer) {
    write_frame(stream, &Response { result: Some(answer) }).unwrap();
}

/// Takes the request and agrees to it.
fn open(stream: &mut UnixStream) {
    assert!(read_frame::<Request>(stream).unwrap().is_some());
    answer(stream, Answer::Opened(Opened {}));
}

fn failed(kind: FailureKind) -> Answer {
    Answer::Failed(Failed { kind: kind.into(), detail: "the reason".to_owned() })
}

#[test]
fn every_kind_of_failure_arrives_with_the_file_and_the_reason() {
    for kind in (0..).map_while(|number| FailureKind::try_from(number).ok()) {
        let refuse = move |mut stream: UnixStream| {
            assert!(read_frame::<Request>(&mut stream).unwrap().is_some());
            answer(&mut stream, failed(kind));
        };
        let error = with_service(refuse, |client| client.read("file:///a/b", 0, 1).unwrap_err());
        assert_eq!((error.kind(), error.uri()), (kind_of(kind), "file:///a/b"));
        assert!(error.to_string().contains("the reason"), "{error}");
    }
}

#[test]
fn a_service_that_is_not_there_or_hangs_up_is_an_error() {
    let error = StorageService::new("/nowhere/socket").create("file:///a/b").err().unwrap();
    assert!(error.kind() == StorageErrorKind::Service && error.to_string().contains("/nowhere/socket"), "{error}");
    let error = with_service(drop, |client| client.read("file:///a/b", 0, 1).unwrap_err());
    assert_eq!(error.kind(), StorageErrorKind::Service, "{error}");
    let hang_up = |mut stream: UnixStream| {
        open(&mut stream);
        stream.write_all(&[4, 0, 0, 0, 1, 2]).unwrap();
    };
    let error = with_service(hang_up, |client| client.read("file:///a/b", 0, 4).unwrap_err());
    assert_eq!(error.kind(), StorageErrorKind::Service, "{error}");
}

#[test]
fn a_service_that_sends_nonsense_is_an_error() {
    let too_long = (MAX_CHUNK_BYTES as u32 + 1).to_le_bytes();
    for chunk in [&[5, 0, 0, 0, 1, 2, 3, 4, 5][..], &too_long, b"HTTP/1.1 400", &[0; 8]] {
        let send = |mut stream: UnixStream| {
            open(&mut stream);
            stream.write_all(chunk).unwrap();
        };
        let error = with_service(send, |client| client.read("file:///a/b", 0, 4).unwrap_err());
        assert_eq!(error.kind(), StorageErrorKind::Service, "{error}");
    }
    let greet = |mut stream: UnixStream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request");
    };
    let error = with_service(greet, |client| client.create("file:///a/b").err().unwrap());
    assert_eq!(error.kind(), StorageErrorKind::Service, "{error}");
}

#[test]
fn no_memory_for_what_is_asked_for_is_an_error() {
    let open = |mut stream: UnixStream| open(&mut stream);
    let error = with_service(open, |client| client.read("file:///a/b", 0, u64::MAX).unwrap_err());
    assert!(error.to_string().contains("no memory"), "{error}");
}

#[test]
fn why_a_write_was_refused_is_heard_although_the_service_has_hung_up() {
    let refuse = |mut stream: UnixStream| {
        open(&mut stream);
        answer(&mut stream, failed(FailureKind::NoSpace));
    };
    let error = with_service(refuse, |client| {
        let mut file = client.create("file:///a/b").unwrap();
        (0..100).find_map(|_| file.write(&[0; LARGE]).err()).expect("an error")
    });
    assert_eq!(error.kind(), StorageErrorKind::NoSpace, "{error}");
}

#[test]
fn a_service_that_lost_bytes_is_an_error() {
    let lose = |mut stream: UnixStream| {
        open(&mut stream);
        let mut chunks = [0; 4 + 3 + 4];
        stream.read_exact(&mut chunks).unwrap();
        assert_eq!(chunks, [3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0]);
        answer(&mut stream, Answer::Finished(Finished { length: 2 }));
    };
    let error = with_service(lose, |client| {
        let mut file = client.create("file:///a/b").unwrap();
        [&[1, 2][..], &[3]].into_iter().for_each(|bytes| file.write(bytes).unwrap());
        file.finish().unwrap_err()
    });
    assert_eq!(error.kind(), StorageErrorKind::Service, "{error}");
}
