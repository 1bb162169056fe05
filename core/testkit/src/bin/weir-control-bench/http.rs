//! A client for the HTTP API that costs next to nothing: one connection, blocking, no threads.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
const BOUNDARY: &str = "----weir-control-bench";

/// A connection to a JobManager's HTTP API.
pub(crate) struct Http {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Http {
        Http { address, stream: None }
    }

    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.request("GET", path, &[])
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request("POST", path, body.to_string().as_bytes())
    }

    pub(crate) fn patch(&mut self, path: &str) -> anyhow::Result<Value> {
        self.request("PATCH", path, &[])
    }

    /// Uploads an artifact; its key.
    pub(crate) fn upload(&mut self, path: &Path) -> anyhow::Result<String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let length = head.len() as u64 + file.metadata()?.len() + tail.len() as u64;
        let mut stream = self.connect()?;
        let content = format!("multipart/form-data; boundary={BOUNDARY}");
        write!(stream.get_mut(), "{}{head}", self.head("POST", "/jars/upload", &content, length))?;
        std::io::copy(&mut file, stream.get_mut())?;
        stream.get_mut().write_all(tail.as_bytes())?;
        let answer = answer(&mut stream)?;
        self.stream = Some(stream);
        let name = answer["filename"].as_str().context("the upload was answered without a file name")?;
        Ok(name.rsplit('/').next().unwrap_or_default().to_owned())
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let mut message = self.head(method, path, "application/json", body.len() as u64).into_bytes();
        message.extend_from_slice(body);
        stream.get_mut().write_all(&message)?;
        let answer = answer(&mut stream).with_context(|| format!("{method} {path}"))?;
        self.stream = Some(stream);
        Ok(answer)
    }

    fn connect(&self) -> anyhow::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(BufReader::new(stream))
    }

    fn head(&self, method: &str, path: &str, content: &str, length: u64) -> String {
        format!(
            "{method} /v1{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\r\n",
            self.address
        )
    }
}

/// Reads an answer of known length, as the HTTP API gives them for JSON.
fn answer(stream: &mut impl BufRead) -> anyhow::Result<Value> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the connection was closed");
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let Some(length) = length else { bail!("the answer {status} has no length") };
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    ensure!(status.starts_with('2'), "answered {status}: {}", String::from_utf8_lossy(&body));
    if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_end_and_no_further() {
        let mut stream: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nx: y\r\n\r\n{\"a\":1}rest";
        assert_eq!(answer(&mut stream).unwrap()["a"], 1);
        assert_eq!(stream, b"rest");
        let mut refused: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(answer(&mut refused).unwrap_err().to_string(), "answered 404: no");
        assert!(answer(&mut b"".as_slice()).is_err());
    }
}
