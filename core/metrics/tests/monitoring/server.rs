//! Pages over HTTP.

use std::io::{BufRead, BufReader, Write};
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
