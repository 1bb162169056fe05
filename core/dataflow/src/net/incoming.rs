//! The receiving side of a connection: from the socket into the inboxes.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::Interest;

use super::connection::{Connection, ReadEnd, THREAD_BUDGET, lock};
use super::frame::{Frame, FrameError, FrameReader};
use super::socket;
use crate::channel::{CreditReturn, OVERDRAFT, RemoteElement, RemoteInbox};
use crate::element::{Control, EncodedBatch};

/// The receiving end of one channel.
pub(super) struct Incoming {
    slot: u32,
    /// Given up at the channel's end, so that a long-lived connection does not keep finished tasks alive.
    inbox: Mutex<Option<Arc<dyn RemoteInbox>>>,
    channel: u32,
    ended: AtomicBool,
    /// Batches the producer may still send; below zero when it has overdrawn.
    granted: AtomicI64,
    /// Batches consumed and not told to the producer yet.
    consumed: AtomicU32,
    /// How many of those make a message. At most half of all credits, so the producer never runs dry while its consumer
    /// keeps up; at least one, so it never starves.
    worth_a_message: u32,
}

impl Incoming {
    pub(super) fn new(slot: u32, inbox: Arc<dyn RemoteInbox>, channel: u32, credits: u32) -> Incoming {
        Incoming {
            slot,
            inbox: Mutex::new(Some(inbox)),
            channel,
            ended: AtomicBool::new(false),
            granted: AtomicI64::new(i64::from(credits)),
            consumed: AtomicU32::new(0),
            worth_a_message: (credits / 2).max(1),
        }
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// Counts `n` consumed batches; returns how many credits to give back now, if it is time.
    pub(super) fn take_returnable(&self, n: u32) -> Option<u32> {
        let consumed = self.consumed.fetch_add(n, Ordering::Relaxed) + n;
        if consumed < self.worth_a_message || self.ended.load(Ordering::Relaxed) {
            return None;
        }
        let credits = self.consumed.swap(0, Ordering::Relaxed);
        self.granted.fetch_add(i64::from(credits), Ordering::Release);
        (credits > 0).then_some(credits)
    }

    /// Uses up one granted credit; `false` if the producer had none, and has overdrawn as far as it may.
    fn use_credit(&self) -> bool {
        let take = |granted: i64| (granted > -i64::from(OVERDRAFT)).then(|| granted - 1);
        self.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn deliver(&self, element: RemoteElement) {
        let inbox = if element == RemoteElement::Control(Control::End) {
            self.ended.store(true, Ordering::Relaxed);
            lock(&self.inbox).take()
        } else {
            lock(&self.inbox).clone()
        };
        if let Some(inbox) = inbox {
            inbox.deliver(self.channel, element);
        }
    }

    /// Tells the consumer that its producer is gone, unless the channel has ended.
    pub(super) fn lose(&self, reason: &str) {
        let inbox = lock(&self.inbox).take();
        if let Some(inbox) = inbox {
            inbox.producer_lost(self.channel, reason.to_owned());
        }
    }
}

/// Gives the credits of one channel back to its producer.
pub(super) struct Returner {
    pub(super) connection: Arc<Connection>,
    pub(super) incoming: Arc<Incoming>,
}

impl CreditReturn for Returner {
    fn return_credit(&self, n: u32) {
        self.connection.return_credits(&self.incoming, n);
    }
}

/// The future that reads a connection until it ends.
pub(super) async fn run_reader(connection: Arc<Connection>) {
    let mut reader = Reader { frames: FrameReader::new(), incoming: Vec::new() };
    let end = reader.run(&connection).await;
    connection.on_read_end(&end);
}

struct Reader {
    frames: FrameReader,
    /// By slot; a copy, so that no lock is taken to look a channel up.
    incoming: Vec<Arc<Incoming>>,
}

impl Reader {
    async fn run(&mut self, connection: &Connection) -> ReadEnd {
        let mut since_yield = 0;
        loop {
            let (n, drained) = match self.read(connection) {
                Ok(None) => return ReadEnd::Closed,
                Ok(Some(read)) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => (0, true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return ReadEnd::Failed(e),
            };
            if n > 0
                && let Err(damage) = self.dispatch(connection)
            {
                return ReadEnd::Damaged(damage);
            }
            since_yield += n;
            if drained {
                since_yield = 0;
                if let Err(e) = connection.stream.readable().await {
                    return ReadEnd::Failed(e);
                }
            } else if since_yield >= THREAD_BUDGET {
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// One read. Returns the number of bytes and whether the socket is empty now, or `None` at its end.
    fn read(&mut self, connection: &Connection) -> io::Result<Option<(usize, bool)>> {
        let mut outcome = None;
        let result = connection.stream.try_io(Interest::READABLE, || {
            let mut drained = false;
            let filled = self.frames.fill(|target| {
                let (filled, short) = socket::read(&connection.stream, target)?;
                drained = short;
                Ok(filled)
            })?;
            outcome = Some((filled.payload + filled.staging, drained));
            // Told "would block", the runtime forgets the readiness; that saves the read that would only find nothing.
            if drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match outcome {
            Some((0, _)) => Ok(None),
            Some(read) => Ok(Some(read)),
            None => result.map(|()| None),
        }
    }

    fn dispatch(&mut self, connection: &Connection) -> Result<(), FrameError> {
        // Whatever arrives for a channel was sent after its grant, so the channel is in the list by now.
        connection.update_incoming(&mut self.incoming);
        let incoming = &self.incoming;
        while let Some(frame) = self.frames.next(|slot| incoming.get(slot as usize).is_some_and(|c| c.is_open()))? {
            on_frame(connection, incoming, frame)?;
        }
        Ok(())
    }
}

fn on_frame(connection: &Connection, incoming: &[Arc<Incoming>], frame: Frame) -> Result<(), FrameError> {
    let open = |slot: u32| incoming.get(slot as usize).filter(|c| c.is_open()).ok_or(FrameError::Closed(slot));
    match frame {
        Frame::Batch { slot, bytes, records } => {
            let channel = open(slot)?;
            if !channel.use_credit() {
                return Err(FrameError::NoCredit(slot));
            }
            channel.deliver(RemoteElement::Batch(EncodedBatch { bytes, records }));
        }
        Frame::Control { slot, control } => open(slot)?.deliver(RemoteElement::Control(control)),
        Frame::Grant { slot, id, credits } => {
            let lane = lock(&connection.outgoing).on_grant(slot, id, credits)?;
            if let Some(lane) = lane {
                connection.enqueue(|outbox| outbox.open_lane(lane, slot));
            }
        }
        Frame::Credit { slot, credits } => {
            let credit = lock(&connection.outgoing).by_slot(slot).ok_or(FrameError::Closed(slot))?;
            credit.add(credits);
        }
    }
    Ok(())
}
