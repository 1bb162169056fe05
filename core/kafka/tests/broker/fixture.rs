//! The real Kafka.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// A loaded machine may also have to download it first.
const PATIENCE: Duration = Duration::from_secs(300);

/// The broker of this process. It ends when the process does, because its standard input is closed then.
struct Broker {
    address: String,
    orders: Mutex<(Child, ChildStdin, Receiver<String>)>,
    /// Whoever needs the broker to stay up holds it for reading.
    up: RwLock<()>,
}

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/fixtures/kafka");
        let mut child = Command::new(script).arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, told) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        let greeting = told.recv_timeout(PATIENCE).expect("Kafka did not start; what the fixture said is above");
        let address = greeting.strip_prefix("ready ").unwrap_or_else(|| panic!("{greeting}")).to_owned();
        let input = child.stdin.take().unwrap();
        Broker { address, orders: Mutex::new((child, input, told)), up: RwLock::new(()) }
    })
}

/// A broker that stays up while this is held.
pub struct Kafka {
    _up: RwLockReadGuard<'static, ()>,
}

impl Kafka {
    pub fn get() -> Kafka {
        Kafka { _up: broker().up.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Its bootstrap server.
    pub fn address(&self) -> &'static str {
        &broker().address
    }
}

/// The broker for one alone, who may kill it.
pub struct Outage {
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Outage {
    pub fn get() -> Outage {
        Outage { _alone: broker().up.write().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Its bootstrap server.
    pub fn address(&self) -> &'static str {
        &broker().address
    }

    pub fn kill(&self) {
        order("kill", "killed");
    }

    pub fn start(&self) {
        order("start", &format!("ready {}", broker().address));
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The other tests need it; one that is running is ended first.
            order("kill", "killed");
            order("start", &format!("ready {}", broker().address));
        }
    }
}

fn order(order: &str, answer: &str) {
    let mut orders = broker().orders.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(orders.1, "{order}").unwrap();
    let found = orders.2.recv_timeout(PATIENCE).expect("the fixture did not answer; what it said is above");
    assert_eq!(found, answer);
}
