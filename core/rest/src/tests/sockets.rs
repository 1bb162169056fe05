//! Faults and limits on real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fake::{Fake, options, running};
use crate::{ClusterGateway, RestOptions, RestServer};

/// Far longer than anything here takes, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    _leader: watch::Sender<Option<Arc<dyn ClusterGateway>>>,
}

impl Running {
    async fn start(options: RestOptions) -> Self {
        let options = RestOptions { bind_address: "127.0.0.1".to_owned(), ports: vec![0], ..options };
        let server = RestServer::bind(options).await.unwrap();
        let address = server.address();
        let (leader, receiver) = watch::channel(Some(Arc::new(Fake::default()) as Arc<dyn ClusterGateway>));
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(server.serve(receiver, shutdown.clone()));
        Self { address, shutdown, served, _leader: leader }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything that comes back until the server closes.
    async fn send(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    async fn assert_alive(&self) {
        let answer = self.send(get("/overview")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A server that cuts may do so with a reset.
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answer's head and as much of its body as it says.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("an answer").expect("an answer");
        answer.push(byte);
        if answer.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(answer).unwrap();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.expect("a body").expect("a body");
    head + &String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn answers_carry_the_headers_clients_read() {
    let server = Running::start(options()).await;
    let answer = server.send(get("/v1/overview")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    for line in [
        "HTTP/1.1 200 OK",
        "content-type: application/json; charset=UTF-8",
        "access-control-allow-origin: *",
        &format!("content-length: {}", body.len()),
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let server = Running::start(options()).await;
    let mut stream = server.connect().await;
    for path in ["/overview", "/nothing", "/jobs"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.ends_with('}'), "{answer}");
    }
    // Pipelined ones too.
    stream.write_all(get("/jobs").replace("Connection: close\r\n", "").repeat(3).as_bytes()).await.unwrap();
    for _ in 0..3 {
        assert!(read_answer(&mut stream).await.contains("\"jobs\""));
    }
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let server = Running::start(options()).await;
    let answer = server.send("HEAD /overview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: ") && !answer.contains("content-length: 0"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_whether_to_continue_is_told() {
    let server = Running::start(options()).await;
    let mut stream = server.connect().await;
    let head = "POST /jars/1234_word-count/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 100 Continue"));
    stream.write_all(b"{}").await.unwrap();
    assert!(read_answer(&mut stream).await.contains("\"jobid\""));
}

#[tokio::test]
async fn malformed_requests_are_400_and_do_no_harm() {
    let server = Running::start(options()).await;
    for request in [
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /overview HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /overview HTTP/1.1\r\nHost: localhost\r\nContent-Length: two\r\n\r\n",
        "POST /jars/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "GET /over\0view HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n",
    ] {
        let answer = server.send(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 "), "{request:?}: {answer}");
    }
    let noise = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>();
    server.send(noise).await;
    server.assert_alive().await;
}

#[tokio::test]
async fn huge_heads_are_refused() {
    let server = Running::start(options()).await;
    let long = "x".repeat(200_000);
    let answer = server.send(format!("GET /overview HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = (0..500).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let answer = server.send(format!("GET /overview HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = server.send(get(&format!("/overview?{long}"))).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "), "{answer}");
    server.assert_alive().await;
}

#[tokio::test]
async fn large_bodies_are_refused_in_words_the_client_gets_to_read() {
    let server = Running::start(RestOptions { max_content_length: 1000, ..options() }).await;
    let body = "x".repeat(3_000_000);
    let head = "POST /jars/1234_word-count/run HTTP/1.1\r\nHost: localhost\r\n";
    let announced = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for request in [announced, chunked] {
        let (mut reader, mut writer) = server.connect().await.into_split();
        let sending = tokio::spawn(async move {
            writer.write_all(request.as_bytes()).await.ok();
            writer
        });
        let mut answer = Vec::new();
        timeout(PATIENCE, reader.read_to_end(&mut answer)).await.expect("the server closes").expect("no reset");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("rest.server.max-content-length"), "{answer}");
        drop(sending.await.unwrap());
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Running::start(RestOptions { header_timeout: Duration::from_millis(100), ..options() }).await;
    for begin in ["", "GET /overview HTTP/1.1\r\nHost: loc"] {
        let answer = server.send(begin).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    // One byte at a time does not help.
    let mut stream = server.connect().await;
    let dripping = async {
        loop {
            if stream.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("the server closes");
    server.assert_alive().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Running::start(RestOptions { body_timeout: Duration::from_millis(100), ..options() }).await;
    let run = "POST /jars/1234_word-count/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    let upload = "POST /jars/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=XX\r\n\
                  Content-Length: 1000\r\n\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\nELF";
    for request in [run, upload] {
        let answer = server.send(request).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("too slowly"), "{answer}");
    }
    server.assert_alive().await;
}

#[tokio::test]
async fn connections_beyond_the_cap_are_turned_away() {
    let server = Running::start(RestOptions { max_connections: 2, ..options() }).await;
    let mut first = server.connect().await;
    let second = server.connect().await;
    // The server has taken the first two when one of them is answered and the third is not.
    first.write_all(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut first).await.contains("\"jobs\""));
    let mut third = server.connect().await;
    let answer = read_all(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("{\"errors\":["), "{answer}");
    drop((first, second));
    let again = async {
        while !server.send(get("/jobs")).await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
}

#[tokio::test]
async fn without_a_token_nothing_is_read() {
    let server = Running::start(RestOptions { tokens: vec!["0123456789abcdef".to_owned()], ..options() }).await;
    let answer = server.send(get("/overview")).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate: Bearer"), "{answer}");
    let upload =
        "POST /jars/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
    let answer = server.send(upload).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "not told to continue: {answer}");
    let with = get("/overview").replace("\r\nHost", "\r\nAuthorization: Bearer 0123456789abcdef\r\nHost");
    assert!(server.send(with).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn other_hosts_are_refused_on_loopback() {
    let server = Running::start(options()).await;
    let answer = server.send(get("/overview").replace("localhost", "evil.example")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("security.rest.token"), "{answer}");
}

#[tokio::test]
async fn stopping_lets_answers_end_and_frees_the_port() {
    let server = Running::start(options()).await;
    let mut waiting = server.connect().await;
    let path = format!("/jobs/{}/status?wait=FINISHED&timeout=300", running());
    waiting.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let idle = server.connect().await;
    server.assert_alive().await;
    server.shutdown.cancel();
    let answer = read_all(&mut waiting).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("RUNNING"), "{answer}");
    timeout(PATIENCE, server.served).await.expect("the server returns").unwrap();
    drop(idle);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_cut() {
    let patience = Duration::from_millis(100);
    let server = Running::start(RestOptions { body_timeout: patience, max_connections: 1, ..options() }).await;
    let mut greedy = server.connect().await;
    let request = format!("GET /jobs/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", running());
    // Nothing is read, so the server's answers fill the buffers, then it stops reading, and then this side's buffers are full.
    let asking = async { while greedy.write_all(request.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, asking).await.expect("the server gives up");
    let again = async {
        while !server.send(get("/jobs")).await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("the only place is free again");
}
