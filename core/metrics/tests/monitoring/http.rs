//! As much HTTP as these tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A port that is free.
pub fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Answers GET requests from a table until the process ends; 404 for everything else.
pub fn serve(listener: TcpListener, pages: Vec<(&'static str, &'static str, String)>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no concern of the server.
            let _ = answer(stream, &pages);
        }
    });
}

fn answer(mut stream: TcpStream, pages: &[(&str, &str, String)]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let page = pages.iter().find(|(known, ..)| *known == path);
    let (status, of, body) = page.map_or(("404 Not Found", "text/plain", ""), |(_, of, body)| ("200 OK", *of, body));
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {of}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The body of what `address` answers.
pub fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // HTTP/1.0, so that the body comes in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}")).1.to_owned()
}

/// A text as part of a URL's query.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}
