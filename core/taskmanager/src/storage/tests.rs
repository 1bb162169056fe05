use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use proptest::prelude::*;
use weir_dataflow::storage::{StateStorage, StorageErrorKind, StorageService as Client};
use weir_proto::storage::request::Operation;
use weir_proto::storage::response::Result as Answer;
use weir_proto::storage::{Create, FailureKind, PROTOCOL_VERSION, Request, Response};
use weir_proto::{read_frame, write_frame};
use weir_storage::{Answer as Later, FileMetadata, FileReader, FileWriter, IfExists, ListedFile, LocalFileSystem};

use super::*;
use crate::own_folder::OwnFolder;

/// A service with one worker, and the folder it has for its files.
struct Fixture {
    served: Served,
    service: StorageService,
    _thread: StorageThread,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(Arc::new(weir_storage::file_system), KEPT_FOR_RESTART)
    }

    /// With copies in the folder `copies`.
    fn with(files: Arc<FileSystems>, kept_for_restart: Duration) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let thread = StorageThread::start().unwrap();
        let base = folder.path().join("copies");
        fs::create_dir(&base).unwrap();
        let copies = LocalCopies::new(vec![OwnFolder::make(base, 7).unwrap()], kept_for_restart);
        let service = thread.service(files, copies);
        let served = service.serve(folder.path().join("socket"), JobId::from_bytes([1; 16])).unwrap();
        Fixture { served, service, _thread: thread, folder }
    }

    fn client(&self) -> Client {
        Client::new(self.served.socket()).with_copies(true)
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}/files/{name}", self.folder.path().display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let mut file = self.client().create(&self.uri(name)).unwrap();
        file.write(bytes).unwrap();
        assert_eq!(file.finish().unwrap(), bytes.len() as u64);
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, StorageErrorKind> {
        self.client().read(&self.uri(name), offset, len).map_err(|error| error.kind())
    }

    fn create_fails(&self, uri: &str) -> StorageErrorKind {
        self.client().create(uri).err().expect("an error").kind()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.served.socket()).unwrap()
    }
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 7) as u8 ^ (i % 251) as u8 ^ seed).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::yield_now();
    }
}

fn create_request(uri: &str) -> Request {
    let create = Operation::Create(Create { uri: uri.to_owned(), copy: true });
    Request { protocol_version: PROTOCOL_VERSION, operation: Some(create) }
}

fn refusal(stream: &mut UnixStream) -> FailureKind {
    match read_frame::<Response>(stream).unwrap().and_then(|response| response.result) {
        Some(Answer::Failed(failed)) => failed.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_in_any_pieces_by_many_at_a_time_is_read_in_any_ranges() {
    let fixture = Fixture::new();
    let sizes = [0, 1, 1000, (128 << 10) - 1, 1 << 20, (5 << 20) + 3];
    thread::scope(|scope| {
        for (index, size) in sizes.into_iter().enumerate() {
            for pieces in [900_usize, 200 << 10, 1 << 20, 3 << 20] {
                let fixture = &fixture;
                scope.spawn(move || {
                    let (name, content) = (format!("{index}/{pieces}"), bytes(size, index as u8));
                    let mut file = fixture.client().create(&fixture.uri(&name)).unwrap();
                    content.chunks(pieces).for_each(|piece| file.write(piece).unwrap());
                    assert!(!fixture.path(&name).exists(), "it is not finished");
                    assert_eq!(file.finish().unwrap(), size as u64);
                    for (offset, len) in [(0, size), (size / 3, size / 2), (size, 0)] {
                        let found = fixture.read(&name, offset as u64, len as u64).unwrap();
                        assert!(found == content[offset..offset + len], "{name}: {len} bytes from {offset} on");
                    }
                });
            }
        }
    });
    assert_eq!(entries(&fixture.folder.path().join("files/5")).len(), 4, "nothing else is left");
}

#[test]
fn what_a_worker_that_died_was_writing_is_removed() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path().join("files");
    for unfinished in [&[][..], &[9, 0], &[4, 0, 0, 0, 1, 2]] {
        let mut stream = fixture.connect();
        write_frame(&mut stream, &create_request(&fixture.uri("state"))).unwrap();
        assert!(matches!(read_frame::<Response>(&mut stream), Ok(Some(Response { result: Some(Answer::Opened(_)) }))));
        stream.write_all(&[3, 0, 0, 0, 1, 2, 3]).unwrap();
        stream.write_all(unfinished).unwrap();
        assert_eq!(entries(&folder).len(), 1);
        drop(stream);
        wait_for("the file to go", || entries(&folder).is_empty());
    }
    let mut file = fixture.client().create(&fixture.uri("state")).unwrap();
    file.write(b"123").unwrap();
    let Fixture { served, .. } = fixture;
    drop(served);
    wait_for("the file of a worker that is not served any more to go", || entries(&folder).is_empty());
    assert_eq!(file.finish().unwrap_err().kind(), StorageErrorKind::Service);
}

#[test]
fn files_that_are_cut_off_or_gone_are_told_apart() {
    let fixture = Fixture::new();
    fixture.write("state", &bytes(3 << 20, 0));
    fs::OpenOptions::new().write(true).open(fixture.path("state")).unwrap().set_len(1 << 20).unwrap();
    assert!(fixture.read("state", 0, 1 << 20).is_ok());
    for (offset, len) in [(0, (1 << 20) + 1), (u64::MAX, 1), (1, u64::MAX)] {
        assert_eq!(fixture.read("state", offset, len), Err(StorageErrorKind::Truncated));
    }
    fs::remove_file(fixture.path("state")).unwrap();
    assert_eq!(fixture.read("state", 0, 1), Err(StorageErrorKind::NotFound));
    assert_eq!(fixture.read("never/there", 0, 1), Err(StorageErrorKind::NotFound));
}

#[test]
fn a_folder_that_is_removed_while_a_file_is_written_fails_the_file_and_is_made_again() {
    let fixture = Fixture::new();
    let mut file = fixture.client().create(&fixture.uri("chk-1/state")).unwrap();
    fs::remove_dir_all(fixture.path("chk-1")).unwrap();
    file.write(b"content").unwrap();
    let error = file.finish().unwrap_err();
    assert!(error.kind() == StorageErrorKind::NotFound && error.to_string().contains("its folder"), "{error}");
    fixture.write("chk-1/state", b"again");
    assert_eq!(fixture.read("chk-1/state", 0, 5).unwrap(), b"again");
}

#[test]
fn places_where_no_file_can_be_are_told_apart() {
    let fixture = Fixture::new();
    fixture.write("file", b"");
    assert_eq!(fixture.create_fails(&fixture.uri("file/state")), StorageErrorKind::NotAFolder);
    // Even root cannot make files there.
    assert_eq!(fixture.create_fails("file:///proc/self/state"), StorageErrorKind::NotFound);
    assert!(matches!(
        fixture.create_fails("file:///sys/kernel/state"),
        StorageErrorKind::PermissionDenied | StorageErrorKind::ReadOnly
    ));
    for scheme in ["hdfs", "s3"] {
        let error = fixture.client().create(&format!("{scheme}://place/state")).err().unwrap();
        assert_eq!(error.kind(), StorageErrorKind::UnsupportedScheme);
        assert!(error.to_string().contains(&format!("{scheme}://place/state")), "{error}");
    }
    for wrong in ["", "relative", "file://host/x", "file:///a/../b"] {
        assert_eq!(fixture.create_fails(wrong), StorageErrorKind::InvalidUri, "{wrong}");
    }
    // A folder is where the file should be, which shows at the end.
    fs::create_dir(fixture.path("folder")).unwrap();
    let error = fixture.client().create(&fixture.uri("folder")).unwrap().finish().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NotAFolder, "{error}");
    assert_eq!(entries(&fixture.folder.path().join("files")).len(), 2);
}

#[test]
fn what_speaks_another_protocol_is_told_so_and_others_go_on() {
    let fixture = Fixture::new();
    fixture.write("state", b"content");
    let mut old = fixture.connect();
    write_frame(&mut old, &Request { protocol_version: 99, ..create_request(&fixture.uri("x")) }).unwrap();
    assert_eq!(refusal(&mut old), FailureKind::Request);
    let mut empty = fixture.connect();
    write_frame(&mut empty, &Request { protocol_version: PROTOCOL_VERSION, operation: None }).unwrap();
    assert_eq!(refusal(&mut empty), FailureKind::Request);
    let mut foreign = fixture.connect();
    foreign.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(refusal(&mut foreign), FailureKind::Request);
    let mut large = fixture.connect();
    write_frame(&mut large, &create_request(&fixture.uri("large"))).unwrap();
    assert!(read_frame::<Response>(&mut large).unwrap().is_some());
    large.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(refusal(&mut large), FailureKind::Request);
    assert_eq!(entries(&fixture.folder.path().join("files")), ["state"]);
    assert_eq!(fixture.read("state", 0, 7).unwrap(), b"content");
}

#[test]
fn whatever_is_sent_the_service_goes_on_and_makes_no_file_of_it() {
    let fixture = Fixture::new();
    fixture.write("state", b"content");
    let mut valid = Vec::new();
    write_frame(&mut valid, &create_request(&fixture.uri("other"))).unwrap();
    valid.extend_from_slice(&[3, 0, 0, 0, 1, 2, 3, 7, 0, 0, 0]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let damaged = (changes, any::<prop::sample::Index>()).prop_map(move |(changes, cut)| {
        let mut bytes = valid.clone();
        changes.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = *byte);
        bytes.truncate(cut.index(bytes.len()));
        bytes
    });
    let sent = prop_oneof![damaged, prop::collection::vec(any::<u8>(), 0..200)];
    proptest!(ProptestConfig::with_cases(200), |(sent in sent)| {
        let mut stream = fixture.connect();
        // It may hang up in the middle.
        let _ = stream.write_all(&sent);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        prop_assert_eq!(fixture.read("state", 0, 7).unwrap(), b"content");
        prop_assert!(!fixture.path("other").exists());
    });
}

#[test]
fn thousands_of_requests_and_more_idle_connections_than_are_served_at_a_time() {
    let fixture = Fixture::new();
    let content = bytes(10_000, 3);
    fixture.write("state", &content);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (fixture, content) = (&fixture, &content);
            scope.spawn(move || {
                for i in 0..500 {
                    let offset = (i * 17 + worker) % 9000;
                    let found = fixture.read("state", offset as u64, 1000).unwrap();
                    assert!(found == content[offset..offset + 1000]);
                }
            });
        }
        let idle: Vec<UnixStream> = (0..CONNECTIONS).map(|_| fixture.connect()).collect();
        let waiting = scope.spawn(|| fixture.read("state", 0, 5).unwrap());
        drop(idle);
        assert_eq!(waiting.join().unwrap(), content[..5]);
    });
}

/// This machine's files, with one fault.
#[derive(Debug, Clone, Copy)]
enum Faulty {
    /// Writing the second chunk fails.
    Full,
    /// Files are said to be longer than they are.
    Lies,
    /// Nobody gets an answer about files named `slow` until this is unlocked.
    Slow(&'static Mutex<()>),
}

struct FullWriter(bool);

impl FileWriter for FullWriter {
    fn write(&mut self, _: bytes::Bytes) -> Later<'_, ()> {
        let full = std::mem::replace(&mut self.0, true);
        let error = StorageError::from_io("writing", "somewhere", io::ErrorKind::StorageFull.into());
        Box::pin(async move { if full { Err(error) } else { Ok(()) } })
    }

    fn finish(self: Box<Self>) -> Later<'static, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Faulty {
    fn files(self) -> Arc<FileSystems> {
        Arc::new(move |uri| Ok((Arc::new(self) as Arc<dyn FileSystem>, weir_storage::file_system(uri)?.1)))
    }

    async fn pause(self, path: &str) {
        if let Faulty::Slow(gate) = self
            && path.ends_with("slow")
        {
            tokio::task::spawn_blocking(|| drop(gate.lock().unwrap())).await.unwrap();
        }
    }
}

impl FileSystem for Faulty {
    fn scheme(&self) -> &'static str {
        "file"
    }

    fn metadata<'a>(&'a self, path: &'a str) -> Later<'a, FileMetadata> {
        Box::pin(async move {
            self.pause(path).await;
            let metadata = LocalFileSystem.metadata(path).await?;
            let size = if let Faulty::Lies = self { metadata.size + 10 } else { metadata.size };
            Ok(FileMetadata { size, ..metadata })
        })
    }

    fn read<'a>(&'a self, path: &'a str, offset: u64, limit: Option<u64>) -> Later<'a, Box<dyn FileReader>> {
        LocalFileSystem.read(path, offset, limit)
    }

    fn create<'a>(&'a self, path: &'a str, if_exists: IfExists) -> Later<'a, Box<dyn FileWriter>> {
        Box::pin(async move {
            self.pause(path).await;
            match self {
                Faulty::Full => Ok(Box::new(FullWriter(false)) as Box<dyn FileWriter>),
                Faulty::Lies | Faulty::Slow(_) => LocalFileSystem.create(path, if_exists).await,
            }
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str, if_exists: IfExists) -> Later<'a, ()> {
        LocalFileSystem.rename(from, to, if_exists)
    }

    fn list<'a>(&'a self, folder: &'a str) -> Later<'a, Vec<ListedFile>> {
        LocalFileSystem.list(folder)
    }

    fn delete<'a>(&'a self, path: &'a str) -> Later<'a, ()> {
        LocalFileSystem.delete(path)
    }

    fn delete_folder<'a>(&'a self, folder: &'a str) -> Later<'a, ()> {
        LocalFileSystem.delete_folder(folder)
    }

    fn remove_unfinished<'a>(&'a self, folder: &'a str) -> Later<'a, ()> {
        LocalFileSystem.remove_unfinished(folder)
    }
}

#[test]
fn a_full_disk_is_said_to_be_full_to_whoever_goes_on_writing() {
    let fixture = Fixture::with(Faulty::Full.files(), KEPT_FOR_RESTART);
    let mut file = fixture.client().create(&fixture.uri("state")).unwrap();
    let error = (0..100).find_map(|_| file.write(&[1; 1 << 20]).err()).expect("an error");
    assert_eq!(error.kind(), StorageErrorKind::NoSpace);
    assert!(error.to_string().contains("make room"), "{error}");
    // One that has been sent whole by then is told at the end.
    let mut file = fixture.client().create(&fixture.uri("state")).unwrap();
    file.write(&[1; 300 << 10]).unwrap();
    file.write(&[1; 1]).unwrap();
    assert_eq!(file.finish().unwrap_err().kind(), StorageErrorKind::NoSpace);
}

#[test]
fn a_file_that_ends_while_it_is_read_is_truncated() {
    let fixture = Fixture::with(Faulty::Lies.files(), KEPT_FOR_RESTART);
    fixture.write("state", &bytes(2 << 20, 0));
    assert!(fixture.read("state", 0, 2 << 20).is_ok());
    assert_eq!(fixture.read("state", 5, 2 << 20), Err(StorageErrorKind::Truncated));
}

#[test]
fn slow_storage_keeps_nobody_else_waiting() {
    static GATE: Mutex<()> = Mutex::new(());
    let fixture = Fixture::with(Faulty::Slow(&GATE).files(), KEPT_FOR_RESTART);
    fs::create_dir(fixture.folder.path().join("files")).unwrap();
    fs::write(fixture.path("slow"), "slow").unwrap();
    let closed = GATE.lock().unwrap();
    thread::scope(|scope| {
        let slow: Vec<_> = (0..20).map(|_| scope.spawn(|| fixture.read("slow", 0, 4))).collect();
        for round in 0..20 {
            fixture.write("quick", &bytes(100_000, round));
            assert!(fixture.read("quick", 0, 100_000).unwrap() == bytes(100_000, round));
        }
        assert!(slow.iter().all(|reader| !reader.is_finished()));
        drop(closed);
        slow.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap().unwrap(), b"slow"));
    });
}

/// Where the copies are.
fn copies(fixture: &Fixture) -> Vec<PathBuf> {
    let folder = fixture.folder.path().join("copies/weir-tm-0000000000000007");
    entries(&folder).into_iter().map(|name| folder.join(name)).collect()
}

#[test]
fn a_copy_is_read_instead_of_the_file_and_the_file_instead_of_a_damaged_copy() {
    let fixture = Fixture::new();
    let content = bytes((3 << 20) + 5, 1);
    let whole = content.len() as u64;
    fixture.write("chk-1/state", &content);
    let [copy] = &copies(&fixture)[..] else { panic!("one copy") };
    let aside = fixture.path("aside");
    fs::rename(fixture.path("chk-1/state"), &aside).unwrap();
    assert!(fixture.read("chk-1/state", 0, whole).unwrap() == content, "there is nothing but the copy");
    assert!(fixture.read("chk-1/state", 70_000, 10).unwrap() == content[70_000..70_010]);
    assert_eq!(fixture.read("chk-1/state", 1, whole), Err(StorageErrorKind::NotFound), "the copy is too short");
    fs::rename(&aside, fixture.path("chk-1/state")).unwrap();
    // In its last third, so that the first chunks come from it.
    let mut damaged = content.clone();
    damaged[5 << 19] ^= 1;
    fs::write(copy, damaged).unwrap();
    assert!(fixture.read("chk-1/state", 0, whole).unwrap() == content);
    wait_for("the damaged copy to go", || copies(&fixture).is_empty());
    assert!(fixture.read("chk-1/state", 0, whole).unwrap() == content);
}

#[test]
fn there_are_copies_only_for_workers_whose_job_wants_them() {
    let fixture = Fixture::new();
    let mut file = Client::new(fixture.served.socket()).create(&fixture.uri("chk-1/unwanted")).unwrap();
    file.write(b"12345").unwrap();
    file.finish().unwrap();
    assert_eq!(copies(&fixture), Vec::<PathBuf>::new());
    fixture.write("chk-1/wanted", b"12345");
    assert_eq!(copies(&fixture).len(), 1);
}

#[test]
fn copies_are_of_the_two_newest_checkpoints_only() {
    let fixture = Fixture::new();
    let there = |name: &str| {
        fs::remove_file(fixture.path(name)).unwrap();
        fixture.read(name, 0, 5).is_ok()
    };
    for name in ["chk-9/a", "chk-9/b", "chk-10/a", "savepoint-1/a", "shared/a", "chk-x/a", "chk-11/a", "chk-3/a"] {
        fixture.write(name, b"12345");
    }
    wait_for("superseded copies to go", || copies(&fixture).len() == 2);
    assert!(there("chk-10/a") && there("chk-11/a"));
    for name in ["chk-9/a", "chk-9/b", "savepoint-1/a", "shared/a", "chk-x/a", "chk-3/a"] {
        assert!(!there(name), "{name}");
    }
}

#[test]
fn a_file_that_is_not_finished_or_written_anew_leaves_no_copy_of_the_old_content() {
    let fixture = Fixture::new();
    fixture.write("chk-1/state", b"first");
    let mut file = fixture.client().create(&fixture.uri("chk-1/state")).unwrap();
    file.write(b"never").unwrap();
    drop(file);
    wait_for("both copies to go", || copies(&fixture).is_empty());
    assert_eq!(fixture.read("chk-1/state", 0, 5).unwrap(), b"first");
    fixture.write("chk-1/state", b"again");
    fs::remove_file(fixture.path("chk-1/state")).unwrap();
    assert_eq!(fixture.read("chk-1/state", 0, 5).unwrap(), b"again");
}

#[test]
fn without_room_for_a_copy_it_goes_on_without() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path().join("copies");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    fixture.write("chk-1/state", b"12345");
    assert_eq!(fixture.read("chk-1/state", 0, 5).unwrap(), b"12345");
}

#[test]
fn copies_wait_for_a_restart_and_go_when_there_is_none() {
    let waits = Fixture::new();
    waits.write("chk-1/state", b"12345");
    fs::remove_file(waits.path("chk-1/state")).unwrap();
    let Fixture { served, service, _thread, folder } = waits;
    drop(served);
    let serve = |name: &str, job| service.serve(folder.path().join(name), JobId::from_bytes([job; 16])).unwrap();
    let (next, stranger) = (serve("next", 1), serve("stranger", 2));
    let uri = format!("file://{}/files/chk-1/state", folder.path().display());
    assert_eq!(Client::new(next.socket()).read(&uri, 0, 5).unwrap(), b"12345");
    assert!(Client::new(stranger.socket()).read(&uri, 0, 5).is_err(), "copies are a job's own");

    let goes = Fixture::with(Arc::new(weir_storage::file_system), Duration::ZERO);
    goes.write("chk-1/state", b"12345");
    assert_eq!(copies(&goes).len(), 1);
    let other = goes.service.serve(goes.folder.path().join("other"), JobId::from_bytes([1; 16])).unwrap();
    drop(other);
    assert_eq!(goes.read("chk-1/state", 0, 5).unwrap(), b"12345");
    let Fixture { served, folder, service, _thread } = goes;
    drop(served);
    let copies = folder.path().join("copies/weir-tm-0000000000000007");
    wait_for("the copies to go", || entries(&copies).is_empty());
    drop((service, _thread));
    assert!(!copies.exists(), "the folder goes with the service");
}
