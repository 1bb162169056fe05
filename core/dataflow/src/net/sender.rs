//! The producer's end of a channel to another worker, and the credits that reach it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use super::ChannelId;
use super::connection::{Connection, lock};
use super::frame::FrameError;
use super::outbox::Lane;
use crate::channel::OVERDRAFT;
use crate::element::Control;
use crate::failure::{FailureKind, TaskError};
use crate::task::TaskShared;

/// How many batches a producer may send, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Below zero when the producer has overdrawn.
    available: AtomicI64,
    waiting: Mutex<Option<Arc<TaskShared>>>,
}

impl Credit {
    /// Takes one, and leaves at least `least`. Only the producer's thread takes.
    fn take(&self, least: i64) -> bool {
        let take = |available: i64| (available > least).then(|| available - 1);
        self.available.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_ok()
    }

    pub(super) fn add(&self, credits: u32) {
        self.available.fetch_add(i64::from(credits), Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        let waiting = lock(&self.waiting).take();
        if let Some(task) = waiting {
            task.wake();
        }
    }
}

/// The sending channels of one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    by_slot: Vec<Arc<Credit>>,
    /// Producers whose consumer has not opened the channel yet.
    without_grant: HashMap<ChannelId, (Lane, Arc<Credit>)>,
    /// Channels opened by their consumer before the producer asked for them.
    without_sender: HashMap<ChannelId, (u32, Arc<Credit>)>,
}

impl Outgoing {
    /// The consumer opened channel `id`. Returns the lane that can be opened now, if the producer is there.
    pub(super) fn on_grant(&mut self, slot: u32, id: ChannelId, credits: u32) -> Result<Option<Lane>, FrameError> {
        // Numbers are dense, so that a damaged one cannot make this list long.
        let expected = self.by_slot.len() as u32;
        if slot != expected {
            return Err(FrameError::GrantOrder { slot, expected });
        }
        let (lane, credit) = match self.without_grant.remove(&id) {
            Some((lane, credit)) => (Some(lane), credit),
            None => {
                let credit = Arc::new(Credit::default());
                self.without_sender.insert(id, (slot, credit.clone()));
                (None, credit)
            }
        };
        self.by_slot.push(credit.clone());
        credit.add(credits);
        Ok(lane)
    }

    pub(super) fn by_slot(&self, slot: u32) -> Option<Arc<Credit>> {
        self.by_slot.get(slot as usize).cloned()
    }

    /// Makes every waiting producer look again.
    pub(super) fn wake_all(&self) {
        self.by_slot.iter().for_each(|credit| credit.wake());
        self.without_grant.values().for_each(|(_, credit)| credit.wake());
    }
}

/// The default of `taskmanager.memory.segment-size`.
const DEFAULT_BATCH_BYTES: usize = 32 * 1024;

/// The producer's end of one channel to a consumer in another worker.
pub struct RemoteChannel {
    id: ChannelId,
    route: Route,
    batch_bytes: usize,
}

enum Route {
    To {
        connection: Arc<Connection>,
        lane: Lane,
        credit: Arc<Credit>,
    },
    /// There is no connection to the worker; why.
    Nowhere(String),
}

impl fmt::Debug for RemoteChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChannelId { edge, producer, consumer } = self.id;
        write!(f, "RemoteChannel {edge}:{producer}->{consumer} over ")?;
        match &self.route {
            Route::To { connection, .. } => connection.fmt(f),
            Route::Nowhere(reason) => f.write_str(reason),
        }
    }
}

impl RemoteChannel {
    pub(super) fn new(id: ChannelId, connection: Arc<Connection>) -> RemoteChannel {
        let lane = connection.add_lane();
        let mut outgoing = lock(&connection.outgoing);
        let (credit, slot) = match outgoing.without_sender.remove(&id) {
            Some((slot, credit)) => (credit, Some(slot)),
            None => {
                let credit = Arc::new(Credit::default());
                let replaced = outgoing.without_grant.insert(id, (lane, credit.clone()));
                debug_assert!(replaced.is_none(), "{id:?} has two producers");
                (credit, None)
            }
        };
        drop(outgoing);
        if let Some(slot) = slot {
            connection.enqueue(|outbox| outbox.open_lane(lane, slot));
        }
        RemoteChannel { id, route: Route::To { connection, lane, credit }, batch_bytes: DEFAULT_BATCH_BYTES }
    }

    pub(super) fn nowhere(id: ChannelId, reason: String) -> RemoteChannel {
        RemoteChannel { id, route: Route::Nowhere(reason), batch_bytes: DEFAULT_BATCH_BYTES }
    }

    fn usable(&self) -> Result<(&Arc<Connection>, Lane, &Arc<Credit>), TaskError> {
        match &self.route {
            Route::To { connection, lane, credit } => match connection.broken() {
                None => Ok((connection, *lane, credit)),
                Some(reason) => Err(TaskError::failed(FailureKind::Network, reason)),
            },
            Route::Nowhere(reason) => Err(TaskError::failed(FailureKind::Network, reason)),
        }
    }

    /// Takes one credit; a task that is to come to its barrier soon may take some more than there are. Without one, notes `task` to be woken when credit arrives or the connection breaks, and returns `false`.
    ///
    /// Fails when the connection is broken.
    pub fn try_acquire(&self, task: &Arc<TaskShared>) -> Result<bool, TaskError> {
        let (_, _, credit) = self.usable()?;
        if credit.take(0) {
            return Ok(true);
        }
        let least = if task.may_overdraw() { -i64::from(OVERDRAFT) } else { 0 };
        *lock(&credit.waiting) = Some(task.clone());
        // Credit or the end may have come before the note was there to be seen.
        self.usable()?;
        Ok(credit.take(least))
    }

    /// The same channel with batches of about this many bytes (`taskmanager.memory.segment-size`).
    pub fn with_batch_bytes(self, batch_bytes: usize) -> RemoteChannel {
        RemoteChannel { batch_bytes, ..self }
    }

    /// An encoded batch is closed at this size, in bytes; a single larger record makes a larger batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// An empty buffer to encode into.
    pub fn take_buffer(&self) -> Vec<u8> {
        match &self.route {
            Route::To { connection, .. } => connection.take_buffer(),
            Route::Nowhere(_) => Vec::new(),
        }
    }

    /// Sends encoded records, using the credit taken before. If the connection is broken they are dropped; the next
    /// [`try_acquire`](Self::try_acquire) says so.
    pub fn send_batch(&self, bytes: Vec<u8>, records: u32) {
        if let Route::To { connection, lane, .. } = &self.route {
            connection.enqueue(|outbox| outbox.push_batch(*lane, bytes, records));
        }
    }

    /// Sends a control element behind the batches of this channel; needs no credit. Fails when the connection is broken.
    pub fn send_control(&self, control: Control) -> Result<(), TaskError> {
        let (connection, lane, _) = self.usable()?;
        connection.enqueue(|outbox| outbox.push_control(lane, control));
        Ok(())
    }
}
