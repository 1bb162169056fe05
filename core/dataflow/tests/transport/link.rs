//! The two transports behind one face, and tasks small enough for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use weir_dataflow::channel::{ChannelWriter, Gate, GateEvent, Inbox};
use weir_dataflow::element::Control;
use weir_dataflow::failure::TaskError;
use weir_dataflow::gate::GateAction;
use weir_dataflow::net::{ChannelId, JobToken, Network, NetworkOptions};
use weir_dataflow::record::{Decoder, Record};
use weir_dataflow::task::{TaskId, TaskShared, Waiting};

/// Long enough for anything that is going to happen at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where producers and consumers of a test live.
pub enum Link {
    /// In one process.
    Local,
    /// In two workers.
    Remote { producers: Network, consumers: Network, edges: AtomicU32 },
}

/// One input of a consumer with the writers of all its channels.
pub struct Input<T: Record> {
    pub writers: Vec<ChannelWriter<T>>,
    pub gate: Gate<T>,
    pub consumer: Arc<TaskShared>,
}

impl Link {
    pub fn local() -> Link {
        Link::Local
    }

    pub fn network() -> Link {
        let (producers, consumers) = (start(token()), start(token()));
        connect(&producers, &consumers).unwrap();
        Link::over(producers, consumers)
    }

    pub fn over(producers: Network, consumers: Network) -> Link {
        Link::Remote { producers, consumers, edges: AtomicU32::new(0) }
    }

    /// An input of `channels` channels, each with room for `capacity` batches.
    pub fn open<T: Record>(&self, channels: u32, capacity: u32) -> Input<T> {
        let consumer = task();
        let inbox = Inbox::new(channels as usize, capacity as usize, consumer.clone());
        let writers = match self {
            Link::Local => (0..channels).map(|channel| ChannelWriter::local(inbox.clone(), channel)).collect(),
            Link::Remote { producers, consumers, edges } => {
                let edge = edges.fetch_add(1, Ordering::Relaxed);
                let id = |producer| ChannelId { edge, producer, consumer: 0 };
                for channel in 0..channels {
                    let credit = consumers.receiver(id(channel), 0, inbox.clone(), channel, capacity);
                    inbox.set_credit_return(channel, credit);
                }
                (0..channels).map(|channel| ChannelWriter::Remote(producers.sender(id(channel), 1))).collect()
            }
        };
        Input { writers, gate: Gate::new(inbox, false), consumer }
    }
}

pub fn token() -> JobToken {
    JobToken::from_bytes([1; 32])
}

pub fn start(token: JobToken) -> Network {
    Network::start(NetworkOptions::new(token)).unwrap()
}

/// Connects two workers with each other.
pub fn connect(first: &Network, second: &Network) -> Result<(), String> {
    let addresses = [first.address(), second.address()];
    thread::scope(|scope| {
        let other = scope.spawn(|| second.connect(1, &addresses));
        first.connect(0, &addresses).map_err(|e| e.to_string())?;
        other.join().unwrap().map_err(|e| e.to_string())
    })
}

pub fn task() -> Arc<TaskShared> {
    TaskShared::new(TaskId { vertex: 0, subtask: 0 })
}

/// Runs `body` as `task` on a thread of its own.
pub fn run<R: Send + 'static>(
    task: Arc<TaskShared>,
    body: impl FnOnce(&Arc<TaskShared>) -> R + Send + 'static,
) -> Running<R> {
    let shared = task.clone();
    let thread = thread::spawn(move || {
        shared.start_here();
        body(&shared)
    });
    Running { task, thread }
}

pub struct Running<R> {
    pub task: Arc<TaskShared>,
    thread: JoinHandle<R>,
}

impl<R> Running<R> {
    /// The result; a task that hangs fails the test instead of hanging it.
    #[track_caller]
    pub fn join(self) -> R {
        until("the task ends", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}

/// Waits for something another thread is about to do.
#[track_caller]
pub fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the producer has stood still for a while.
#[track_caller]
pub fn until_it_waits(producer: &TaskShared) {
    let still = Duration::from_millis(100).as_nanos() as u64;
    let mut before = producer.snapshot();
    until("the producer waits", || {
        // Counted up to now, so a wait that goes on grows between two looks.
        let now = producer.snapshot();
        now.backpressured_nanos >= before.backpressured_nanos.min(still) && now.backpressured_nanos > still
    });
    // Whatever is still on its way to the consumer may bring no more credit: sent stays the same from now on.
    loop {
        thread::sleep(Duration::from_millis(50));
        let now = producer.snapshot();
        if now.records_out == before.records_out {
            return;
        }
        before = now;
    }
}

/// What a gate delivered.
#[derive(Debug, PartialEq)]
pub enum Item<T> {
    Record(T),
    Action(GateAction),
}

/// The next records or control element; `None` after the end.
pub fn next<T: Record>(gate: &mut Gate<T>, task: &Arc<TaskShared>) -> Result<Option<Vec<Item<T>>>, TaskError> {
    if gate.is_ended() {
        return Ok(None);
    }
    loop {
        match gate.poll()? {
            GateEvent::Batch(channel, mut batch) => {
                let items = batch.drain(..).map(Item::Record).collect();
                gate.recycle(channel, batch);
                return Ok(Some(items));
            }
            GateEvent::Encoded(batch) => {
                let mut decoder = Decoder::new(&batch.bytes);
                let records = (0..batch.records).map(|_| Item::Record(T::decode(&mut decoder).unwrap())).collect();
                decoder.finish().unwrap();
                return Ok(Some(records));
            }
            GateEvent::Action(GateAction::End) => return Ok(None),
            GateEvent::Action(action) => return Ok(Some(vec![Item::Action(action)])),
            GateEvent::Empty => {
                task.check_canceled()?;
                task.park(Waiting::Idle, None);
            }
        }
    }
}

/// Everything up to the end.
pub fn read_all<T: Record>(gate: &mut Gate<T>, task: &Arc<TaskShared>) -> Result<Vec<Item<T>>, TaskError> {
    let mut all = Vec::new();
    while let Some(items) = next(gate, task)? {
        all.extend(items);
    }
    Ok(all)
}

/// The records among the items.
pub fn records<T>(items: Vec<Item<T>>) -> Vec<T> {
    let record = |item| match item {
        Item::Record(record) => Some(record),
        Item::Action(_) => None,
    };
    items.into_iter().filter_map(record).collect()
}

/// Sends all `records` in batches of changing size, then the end.
pub fn send_all<T: Record>(
    writer: &mut ChannelWriter<T>,
    records: impl IntoIterator<Item = T>,
    task: &Arc<TaskShared>,
) -> Result<(), TaskError> {
    let mut records = records.into_iter().peekable();
    let mut batch = Vec::new();
    for size in (1..=1024).map(|n| n * 37 % 1024 + 1).cycle() {
        if records.peek().is_none() {
            break;
        }
        batch.extend(records.by_ref().take(size));
        batch = writer.send_batch(batch, task)?;
        assert!(batch.is_empty());
    }
    writer.send_control(Control::End, task)
}
