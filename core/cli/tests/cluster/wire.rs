//! HTTP as bytes, for requests that no well-behaved client makes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::PATIENCE;

/// A connection on which anything can be sent.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes back after these bytes until the other side closes, as text. It may close before it has read everything.
pub(crate) fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    read(&mut stream)
}

/// All that comes until the other side closes.
pub(crate) fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status and the rest of an answer to a request with these header lines and this body.
pub(crate) fn request(address: &str, method: &str, target: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    let answer = exchange(address, &bytes);
    (status(&answer), answer)
}

/// The status of an answer; 0 if it is none.
pub(crate) fn status(answer: &str) -> u16 {
    let mut words = answer.split_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    words.next().filter(|_| is_http).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The body of a form with a file, and the header line that belongs to it.
pub(crate) fn form(name: &str, content: &[u8]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----weir-test-boundary";
    let mut body = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\ncontent-type: application/x-java-archive\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    (format!("content-type: multipart/form-data; boundary={BOUNDARY}"), body)
}

/// Uploads a file.
pub(crate) fn upload(address: &str, name: &str, content: &[u8]) -> (u16, String) {
    let (header, body) = form(name, content);
    request(address, "POST", "/jars/upload", &[&header], &body)
}

/// A connection with nothing to read for a while counts as open.
pub(crate) fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    !matches!(stream.read(&mut [0; 1]), Ok(0))
}
