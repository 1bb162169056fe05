//! A connection that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes TCP connections on to a port of this machine, until it is told to harm them. It ends with the test.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: AtomicU16,
    /// Bytes vanish, in both directions, and the connections stay.
    swallows: AtomicBool,
    /// New connections are closed at once.
    refuses: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a port of its own and passes what comes there on to `target`.
    pub(crate) fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            swallows: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            streams: Mutex::new(Vec::new()),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.connect(stream);
            }
        });
        Proxy { port, shared }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to this port from now on.
    pub(crate) fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
    }

    /// Closes all connections; new ones are passed on.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether new connections are closed at once.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Whether everything that is sent vanishes, as if a cable had been pulled. What vanished never arrives.
    pub(crate) fn swallow(&self, swallows: bool) {
        self.shared.swallows.store(swallows, Ordering::SeqCst);
    }
}

impl Shared {
    fn connect(self: &Arc<Shared>, client: TcpStream) {
        if self.refuses.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target.load(Ordering::SeqCst))) else { return };
        let (client_end, server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        self.streams.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        for (from, to) in [(client, server_end), (server, client_end)] {
            let shared = self.clone();
            thread::spawn(move || shared.pass_on(from, to));
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        let mut lost = false;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            // After a gap in the stream nothing that follows would be understood.
            lost |= self.swallows.load(Ordering::SeqCst);
            if !lost && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // An end is something that would have to arrive as well.
        while self.swallows.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
