//! So that tests that run at the same time do not disturb each other: how many run, and which ports they use.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Tests that run at the same time: most of their time they wait, but a machine with many cores must not start hundreds of processes.
const AT_A_TIME: usize = 4;
/// Below the range from which the system takes ports for outgoing connections, so that a port stays free between two JobManagers.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// The right of a test to run; given back when dropped.
pub(super) struct Turn(());

pub(super) fn take() -> Turn {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    while *running >= AT_A_TIME {
        running = ENDED.wait(running).unwrap_or_else(PoisonError::into_inner);
    }
    *running += 1;
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// A port that nobody listens on, and that no other test of this process gets.
pub(super) fn free_port() -> u16 {
    // Another process with the same tests starts somewhere else.
    let start = (std::process::id() % 60) as u16 * 200;
    for _ in 0..PORTS {
        let offset = start.wrapping_add(NEXT_PORT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = FIRST_PORT + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST_PORT} and {}", FIRST_PORT + PORTS);
}
