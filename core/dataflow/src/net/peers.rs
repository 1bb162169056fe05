//! Setting up the connections of a worker: one for each pair of workers, dialed by the one with the lower index.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::connection::{Connection, lock};
use super::handshake::{self, Answer, Hello};
use super::incoming::run_reader;
use super::options::{NetworkError, NetworkOptions};

/// How many strangers may be introducing themselves at once; more wait in the system's queue.
const MAX_INTRODUCTIONS: usize = 256;
/// Pause after a failed accept, which usually means that the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The place of this worker among its peers.
#[derive(Debug, Clone)]
struct Place {
    own: u32,
    addresses: Arc<[SocketAddr]>,
}

/// The connections of a worker, filled while it connects.
#[derive(Debug)]
pub(super) struct Peers {
    options: NetworkOptions,
    place: watch::Sender<Option<Place>>,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    seats: Vec<Seat>,
    error: Option<NetworkError>,
    /// Why no further connection is wanted.
    closed: bool,
}

#[derive(Debug, Default)]
enum Seat {
    #[default]
    Free,
    /// A handshake is about to be completed.
    Taken,
    Connected(Arc<Connection>),
}

impl Peers {
    pub(super) fn new(options: NetworkOptions) -> Arc<Peers> {
        Arc::new(Peers { options, place: watch::Sender::new(None), table: Mutex::default(), changed: Condvar::new() })
    }

    /// Learns this worker's place; the first part of connecting. Returns the indices this worker has to dial.
    pub(super) fn begin(
        &self,
        own: u32,
        addresses: &[SocketAddr],
        wanted: &BTreeSet<u32>,
    ) -> Result<impl Iterator<Item = u32>, NetworkError> {
        let n = addresses.len() as u32;
        if let Some(beyond) = wanted.iter().copied().chain([own]).find(|&index| index >= n) {
            return Err(NetworkError::Misuse(format!("worker index {beyond} is not among {n} workers")));
        }
        let mut table = lock(&self.table);
        if self.place.borrow().is_some() {
            return Err(NetworkError::Misuse("this worker was told its peers before; connect once".to_owned()));
        }
        table.seats.resize_with(addresses.len(), Seat::default);
        drop(table);
        self.place.send_replace(Some(Place { own, addresses: addresses.into() }));
        Ok(wanted.range(own + 1..).copied())
    }

    /// Waits until the `wanted` peers are connected.
    pub(super) fn wait(&self, own: u32, wanted: &BTreeSet<u32>) -> Result<(), NetworkError> {
        let deadline = Instant::now() + self.options.connect_timeout;
        let mut table = lock(&self.table);
        loop {
            if let Some(error) = table.error.take() {
                return Err(error);
            }
            if table.closed {
                return Err(NetworkError::ShutDown);
            }
            let connected = |peer: u32| matches!(table.seats[peer as usize], Seat::Connected(_));
            let missing = wanted.iter().copied().find(|&peer| peer != own && !connected(peer));
            let Some(index) = missing else { return Ok(()) };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason =
                    format!("no connection within {:?}; look at that worker's log", self.options.connect_timeout);
                return Err(NetworkError::Peer { index, address: self.address_of(index), reason });
            }
            table = self.changed.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn address_of(&self, index: u32) -> SocketAddr {
        let place = self.place.borrow();
        let known = place.as_ref().and_then(|p| p.addresses.get(index as usize).copied());
        known.unwrap_or_else(|| SocketAddr::new(self.options.host, 0))
    }

    /// The connection to `peer`, or why there is none.
    pub(super) fn get(&self, peer: u32) -> Result<Arc<Connection>, String> {
        match lock(&self.table).seats.get(peer as usize) {
            Some(Seat::Connected(connection)) => Ok(connection.clone()),
            Some(Seat::Free | Seat::Taken) | None => Err(format!("there is no data connection to worker {peer}")),
        }
    }

    /// All connections; no more will be made.
    pub(super) fn close(&self) -> Vec<Arc<Connection>> {
        let mut table = lock(&self.table);
        table.closed = true;
        self.changed.notify_all();
        let connected = |seat: &Seat| match seat {
            Seat::Connected(connection) => Some(connection.clone()),
            Seat::Free | Seat::Taken => None,
        };
        table.seats.iter().filter_map(connected).collect()
    }

    /// Starts using the socket as the connection to `peer`. Must be called on the network's runtime.
    fn install(&self, peer: u32, stream: TcpStream) {
        let connection = Connection::new(peer, self.address_of(peer), stream);
        let mut table = lock(&self.table);
        if table.closed {
            return;
        }
        table.seats[peer as usize] = Seat::Connected(connection.clone());
        drop(table);
        tokio::spawn(run_reader(connection.clone()));
        tokio::spawn(connection.run_writer());
        self.changed.notify_all();
    }

    fn fail(&self, error: NetworkError) {
        lock(&self.table).error.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Connects to a peer with a higher index.
    pub(super) async fn dial(self: Arc<Self>, own: u32, index: u32) {
        let address = self.address_of(index);
        let hello = Hello::new(own, index, &self.options.token);
        let attempt = tokio::time::timeout(self.options.connect_timeout, dial(address, &hello)).await;
        match attempt {
            Ok(Ok(stream)) => self.install(index, stream),
            Ok(Err(reason)) => self.fail(NetworkError::Peer { index, address, reason }),
            // The wait for all peers ends at the same moment and says the same.
            Err(_) => self.changed.notify_all(),
        }
    }

    /// Lets peers with lower indices in.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let introductions = Arc::new(Semaphore::new(MAX_INTRODUCTIONS));
        loop {
            let Ok(permit) = introductions.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().admit(stream, permit))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Hears who dialed in; strangers are dropped, workers that do not belong here are told why.
    async fn admit(self: Arc<Self>, mut stream: TcpStream, introduction: OwnedSemaphorePermit) {
        let Some(hello) = handshake::hear(&mut stream, self.options.handshake_timeout).await else { return };
        let mut answer = hello.check(&self.options.token);
        drop(introduction);
        if answer == Answer::Welcome {
            let Some(place) = self.place().await else { return };
            answer = self.take_seat(&place, &hello);
        }
        let welcome = answer == Answer::Welcome;
        let _ = stream.set_nodelay(true);
        match handshake::answer(&mut stream, answer).await {
            Ok(()) if welcome => self.install(hello.from, stream),
            Err(_) if welcome => lock(&self.table).seats[hello.from as usize] = Seat::Free,
            // A refused worker that did not wait for the reason has nothing to learn from it.
            Ok(()) | Err(_) => {}
        }
    }

    /// This worker's place; a peer may dial in before this worker has been told.
    async fn place(&self) -> Option<Place> {
        let mut place = self.place.subscribe();
        let known = tokio::time::timeout(self.options.connect_timeout, place.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    fn take_seat(&self, place: &Place, hello: &Hello) -> Answer {
        if hello.to != place.own || hello.from >= place.own {
            return Answer::WrongWorker;
        }
        let seat = &mut lock(&self.table).seats[hello.from as usize];
        match seat {
            Seat::Free => {
                *seat = Seat::Taken;
                Answer::Welcome
            }
            Seat::Taken | Seat::Connected(_) => Answer::Twice,
        }
    }
}

async fn dial(address: SocketAddr, hello: &Hello) -> Result<TcpStream, String> {
    let connected = TcpStream::connect(address).await;
    let mut stream = connected.map_err(|e| format!("{e}; look at that worker's log and at the network between"))?;
    // Batches are written whole; waiting for more to send with them would only add latency.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    handshake::introduce(&mut stream, hello).await?;
    Ok(stream)
}
