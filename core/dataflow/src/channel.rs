//! Channels: bounded queues between one producer subtask and one consumer subtask.
//!
//! All channels of one input of a consumer live in one [`Inbox`]. A producer in the same process moves its batch in and gets
//! an empty one back; a producer in another process is represented by the network, which delivers encoded batches against
//! credits. A full channel makes its producer wait; its neighbours are not affected.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::element::{Barrier, Control, Element};
use crate::failure::{FailureKind, TaskError};
use crate::gate::{GateAction, GateState};
use crate::in_flight::{InFlight, Overtaken, Overtaking, Recording};
use crate::net::RemoteChannel;
use crate::record::Record;
use crate::task::{TaskShared, Waiting};

/// How many batches more than it has room for a channel takes of a producer that is to come to its barrier soon: otherwise a barrier
/// could not overtake what its own task is waiting to send.
pub(crate) const OVERDRAFT: u32 = 16;

/// Returns credit to a producer in another process.
pub trait CreditReturn: Send + Sync {
    /// The consumer took `n` batches off the channel.
    fn return_credit(&self, n: u32);
}

/// The consumer end of a channel as the network sees it.
pub trait RemoteInbox: Send + Sync {
    /// Queues an element; the network holds a credit for it, so there is room. `End` and other controls need no credit.
    fn deliver(&self, channel: u32, element: RemoteElement);
    /// The connection to the channel's producer broke before its end.
    fn producer_lost(&self, channel: u32, reason: String);
}

/// What the network delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteElement {
    /// Encoded records.
    Batch(crate::element::EncodedBatch),
    /// A control element.
    Control(Control),
}

struct ChannelState<T> {
    queue: VecDeque<Element<T>>,
    /// Emptied batches on their way back to the producer, so that steady flow allocates nothing.
    spare: Vec<Vec<T>>,
    /// The producer that found the channel full.
    waiting: Option<Arc<TaskShared>>,
    credit: Option<Arc<dyn CreditReturn>>,
    blocked: bool,
    lost: Option<String>,
}

struct InboxState<T> {
    channels: Vec<ChannelState<T>>,
    /// Unblocked channels with something queued, each at most once, oldest first.
    ready: VecDeque<u32>,
    /// Set when the consumer is gone: what arrives is dropped.
    closed: bool,
    /// What the checkpoint under way takes of the data in flight.
    recording: Option<Recording>,
    /// The newest barrier that overtakes and has arrived.
    announced: Option<Barrier>,
}

/// The consumer side of all channels of one input of one subtask.
pub struct Inbox<T> {
    state: Mutex<InboxState<T>>,
    capacity: usize,
    consumer: Arc<TaskShared>,
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox of {:?}", self.consumer.id())
    }
}

impl<T: Record> Inbox<T> {
    /// An inbox of `channels` channels that each hold up to `capacity` batches; `consumer` is woken when something arrives.
    pub fn new(channels: usize, capacity: usize, consumer: Arc<TaskShared>) -> Arc<Inbox<T>> {
        let channel = || ChannelState {
            queue: VecDeque::new(),
            spare: Vec::new(),
            waiting: None,
            credit: None,
            blocked: false,
            lost: None,
        };
        let channels = (0..channels).map(|_| channel()).collect();
        let state = InboxState { channels, ready: VecDeque::new(), closed: false, recording: None, announced: None };
        Arc::new(Inbox { state: Mutex::new(state), capacity: capacity.max(1), consumer })
    }

    fn lock(&self) -> MutexGuard<'_, InboxState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to return credit for a channel fed by another process.
    pub fn set_credit_return(&self, channel: u32, credit: Arc<dyn CreditReturn>) {
        self.lock().channels[channel as usize].credit = Some(credit);
    }

    /// Queues `element` unless the channel is full, in which case it comes back and `producer` will be woken.
    fn try_send(
        &self,
        channel: u32,
        element: Element<T>,
        announce: Announce,
        producer: &Arc<TaskShared>,
    ) -> Result<Sent<T>, Element<T>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Ok(Sent { spare: Vec::new(), announced: true });
        }
        let slot = &mut state.channels[channel as usize];
        if slot.queue.len() >= self.capacity && !self.takes_more(slot.queue.len(), &element, producer) {
            slot.waiting = Some(producer.clone());
            return Err(element);
        }
        let spare = slot.spare.pop().unwrap_or_default();
        let announced = announce == Announce::Now || slot.queue.len() + 1 >= self.worth_waking();
        let urgent = state.enqueue(channel, element);
        drop(guard);
        if urgent {
            self.consumer.hurry_now();
        } else if announced {
            self.consumer.wake();
        }
        Ok(Sent { spare, announced })
    }

    /// Whether a full channel takes the element of a producer that must not wait now.
    #[cold]
    fn takes_more(&self, queued: usize, element: &Element<T>, producer: &TaskShared) -> bool {
        let control = matches!(element, Element::Control(_));
        (control || queued < self.capacity + OVERDRAFT as usize) && producer.may_overdraw()
    }

    /// Batches in a channel that a consumer is woken for although their producer is about to send more. A consumer that is
    /// faster than its producer would otherwise fall asleep after each batch, and waking it costs more than many a batch.
    fn worth_waking(&self) -> usize {
        self.capacity.div_ceil(2)
    }

    /// Takes the next element of any readable channel and gives the emptied `recycle` batch back to its producer.
    fn poll(&self, recycle: Option<(u32, Vec<T>)>) -> Poll<T> {
        let mut state = self.lock();
        if let Some((channel, batch)) = recycle {
            let slot = &mut state.channels[channel as usize];
            // As many as the producer can send before the next ones come back; more would only hoard memory.
            if slot.spare.len() + slot.queue.len() < self.capacity {
                slot.spare.push(batch);
            }
        }
        let Some(channel) = state.ready.pop_front() else { return Poll::Empty };
        let slot = &mut state.channels[channel as usize];
        let Some(element) = slot.queue.pop_front() else {
            let reason = slot.lost.clone().unwrap_or_else(|| "its channel was empty".to_owned());
            return Poll::Lost(reason);
        };
        // Waking the producer only when half the room is free lets both sides work in runs instead of taking turns.
        let producer = if slot.queue.len() <= self.capacity / 2 { slot.waiting.take() } else { None };
        let credit = if matches!(element, Element::Encoded(_)) { slot.credit.clone() } else { None };
        if !slot.queue.is_empty() || slot.lost.is_some() {
            state.ready.push_back(channel);
        }
        drop(state);
        if let Some(producer) = producer {
            producer.wake();
        }
        if let Some(credit) = credit {
            credit.return_credit(1);
        }
        Poll::Element(channel, element)
    }

    fn block(&self, channel: u32) {
        let mut state = self.lock();
        state.channels[channel as usize].blocked = true;
        state.ready.retain(|&c| c != channel);
    }

    fn unblock_all(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for (index, slot) in state.channels.iter_mut().enumerate() {
            if std::mem::take(&mut slot.blocked) && (!slot.queue.is_empty() || slot.lost.is_some()) {
                state.ready.push_back(index as u32);
            }
        }
    }

    /// Drops what is queued and everything that still arrives; producers no longer wait.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ready.clear();
        let mut producers = Vec::new();
        let mut credits = Vec::new();
        for slot in &mut state.channels {
            let queue = std::mem::take(&mut slot.queue);
            slot.spare = Vec::new();
            producers.extend(slot.waiting.take());
            // A producer in another process must not wait for ever for the credit of batches that nobody will read.
            let unread = queue.iter().filter(|e| matches!(e, Element::Encoded(_))).count();
            credits.extend(slot.credit.clone().filter(|_| unread > 0).map(|credit| (credit, unread as u32)));
        }
        drop(state);
        producers.iter().for_each(|p| p.wake());
        credits.iter().for_each(|(credit, unread)| credit.return_credit(*unread));
    }
}

impl<T: Record> InboxState<T> {
    /// Queues an element. Whether the consumer should look up from its records because of it.
    fn enqueue(&mut self, channel: u32, element: Element<T>) -> bool {
        let mut urgent = false;
        if let Element::Control(Control::Barrier(barrier)) = element
            && barrier.overtakes()
            && self.announced.is_none_or(|announced| announced.checkpoint < barrier.checkpoint)
        {
            self.announced = Some(barrier);
            urgent = true;
        }
        if let Some(recording) = &mut self.recording {
            urgent |= recording.on_arrival(channel, &element);
        }
        let slot = &mut self.channels[channel as usize];
        let was_empty = slot.queue.is_empty();
        slot.queue.push_back(element);
        if was_empty && !slot.blocked {
            self.ready.push_back(channel);
        }
        urgent
    }
}

impl<T: Record> RemoteInbox for Inbox<T> {
    fn deliver(&self, channel: u32, element: RemoteElement) {
        let element = match element {
            RemoteElement::Batch(batch) => Element::Encoded(batch),
            RemoteElement::Control(control) => Element::Control(control),
        };
        let mut state = self.lock();
        if state.closed {
            // The consumer is gone but its producer must not wait for ever on credit nobody returns.
            let credit = state.channels[channel as usize].credit.clone();
            drop(state);
            if let (Some(credit), Element::Encoded(_)) = (credit, &element) {
                credit.return_credit(1);
            }
            return;
        }
        let urgent = state.enqueue(channel, element);
        drop(state);
        if urgent {
            self.consumer.hurry_now();
        } else {
            self.consumer.wake();
        }
    }

    fn producer_lost(&self, channel: u32, reason: String) {
        let mut state = self.lock();
        let slot = &mut state.channels[channel as usize];
        slot.lost = Some(reason);
        if slot.queue.is_empty() && !slot.blocked && !state.closed {
            state.ready.push_back(channel);
        }
        drop(state);
        self.consumer.wake();
    }
}

/// Whether the consumer learns of a batch at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announce {
    /// Now.
    Now,
    /// When there are enough, or when the producer says so.
    Later,
}

/// A batch that was taken.
struct Sent<T> {
    /// An emptied one in its place.
    spare: Vec<T>,
    /// Whether the consumer was woken.
    announced: bool,
}

enum Poll<T> {
    Element(u32, Element<T>),
    Lost(String),
    Empty,
}

/// What a gate hands to its task.
#[derive(Debug)]
pub enum GateEvent<T> {
    /// Records of one channel, by ownership. Give the emptied batch back with [`Gate::recycle`].
    Batch(u32, Vec<T>),
    /// Encoded records of one channel.
    Encoded(crate::element::EncodedBatch),
    /// A control element changed something for the task.
    Action(GateAction),
    /// Nothing to read right now.
    Empty,
}

/// The consumer's handle to one input: reads elements in arrival order, round robin over its channels.
#[derive(Debug)]
pub struct Gate<T: Record> {
    inbox: Arc<Inbox<T>>,
    state: GateState,
    at_least_once: bool,
    /// When the first barrier of the checkpoint that is being aligned came.
    aligning_since: Option<Instant>,
    /// How long the last alignment took.
    alignment: Duration,
    recycle: Option<(u32, Vec<T>)>,
    /// What else the last control element meant.
    follow_up: Option<GateAction>,
    /// The channel of the batch that was handed out last.
    current: u32,
    /// Batches to be handed out before anything else, with their channels.
    front: VecDeque<(u32, Element<T>)>,
    /// Bytes handed out since the first barrier of the checkpoint under way; `None` while there is none.
    processing: Option<u64>,
    /// Bytes handed out during the last alignment.
    processed: u64,
}

impl<T: Record> Gate<T> {
    /// The gate over `inbox`. `at_least_once`: whether channels are read on while others still owe a barrier.
    pub fn new(inbox: Arc<Inbox<T>>, at_least_once: bool) -> Gate<T> {
        let channels = inbox.lock().channels.len();
        Gate {
            inbox,
            state: GateState::new(channels),
            at_least_once,
            recycle: None,
            follow_up: None,
            aligning_since: None,
            alignment: Duration::ZERO,
            current: 0,
            front: VecDeque::new(),
            processing: None,
            processed: 0,
        }
    }

    /// Hands out `records` before anything else: they were in flight in the checkpoint the task begins with.
    pub(crate) fn begin_with(&mut self, records: Vec<T>) {
        // Behind a barrier of the first channel there is nothing when the task begins, so they may pass for its own.
        const BATCH: usize = 1024;
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            self.front.push_back((0, Element::Batch(records.by_ref().take(BATCH).collect())));
        }
    }

    /// Takes back what is left of the batch that was handed out last; it comes next again.
    pub(crate) fn put_back(&mut self, rest: Element<T>) {
        if let Some(processing) = &mut self.processing {
            *processing = processing.saturating_sub(bytes_of(&rest));
        }
        self.front.push_front((self.current, rest));
    }

    /// The next thing to do; never waits.
    pub fn poll(&mut self) -> Result<GateEvent<T>, TaskError> {
        if let Some(action) = self.follow_up.take().filter(|action| *action != GateAction::None) {
            // A watermark may be followed by a change of idleness.
            if matches!(action, GateAction::Watermark(_)) {
                self.follow_up = Some(self.state.advance());
            }
            return Ok(GateEvent::Action(action));
        }
        if let Some((channel, element)) = self.front.pop_front() {
            return Ok(self.hand_out(channel, element));
        }
        loop {
            let (channel, element) = match self.inbox.poll(self.recycle.take()) {
                Poll::Empty => return Ok(GateEvent::Empty),
                Poll::Lost(reason) => return Err(TaskError::failed(FailureKind::Network, reason)),
                Poll::Element(channel, element) => (channel, element),
            };
            match element {
                Element::Batch(_) | Element::Encoded(_) => return Ok(self.hand_out(channel, element)),
                Element::Control(control) => match self.state.on_control(channel as usize, control) {
                    GateAction::None => {}
                    GateAction::Block => {
                        self.aligning_since.get_or_insert_with(Instant::now);
                        self.processing.get_or_insert(0);
                        self.block(channel);
                    }
                    GateAction::BlockAnew => {
                        self.aligning_since = Some(Instant::now());
                        self.processing = Some(0);
                        self.inbox.unblock_all();
                        self.block(channel);
                    }
                    GateAction::Aligned(barrier) => {
                        self.alignment = self.aligning_since.take().map_or(Duration::ZERO, |since| since.elapsed());
                        self.processed = self.processing.take().unwrap_or(0);
                        self.inbox.unblock_all();
                        self.follow_up = Some(self.state.advance());
                        return Ok(GateEvent::Action(GateAction::Aligned(barrier)));
                    }
                    action @ GateAction::Watermark(_) if !matches!(control, Control::Watermark(_)) => {
                        self.follow_up = Some(self.state.advance());
                        return Ok(GateEvent::Action(action));
                    }
                    action => return Ok(GateEvent::Action(action)),
                },
            }
        }
    }

    #[inline]
    fn hand_out(&mut self, channel: u32, element: Element<T>) -> GateEvent<T> {
        self.current = channel;
        if let Some(processing) = &mut self.processing {
            *processing += bytes_of(&element);
        }
        match element {
            Element::Batch(batch) => GateEvent::Batch(channel, batch),
            Element::Encoded(batch) => GateEvent::Encoded(batch),
            Element::Control(_) => unreachable!("controls are the gate's own business"),
        }
    }

    fn block(&self, channel: u32) {
        if !self.at_least_once {
            self.inbox.block(channel);
        }
    }

    /// How long the barriers of the last checkpoint took from the first to the last channel.
    pub fn alignment(&self) -> Duration {
        self.alignment
    }

    /// Bytes handed out meanwhile.
    pub fn processed(&self) -> u64 {
        self.processed
    }

    /// Gives an emptied batch back to its producer.
    pub fn recycle(&mut self, channel: u32, batch: Vec<T>) {
        debug_assert!(batch.is_empty());
        self.recycle = Some((channel, batch));
    }

    /// Whether every channel ended.
    pub fn is_ended(&self) -> bool {
        self.state.is_ended()
    }

    /// The gate's watermark.
    pub fn watermark(&self) -> crate::element::EventTime {
        self.state.watermark()
    }
}

/// The encoded length of what is in a batch.
#[cold]
fn bytes_of<T: Record>(element: &Element<T>) -> u64 {
    match element {
        Element::Batch(records) => match T::FIXED_LEN {
            Some(length) => (records.len() * length) as u64,
            None => records.iter().map(|record| record.encoded_len() as u64).sum(),
        },
        Element::Encoded(batch) => batch.bytes.len() as u64,
        Element::Control(_) => 0,
    }
}

impl<T: Record> Overtaken for Gate<T> {
    fn announced(&self) -> Option<Barrier> {
        self.inbox.lock().announced
    }

    fn may_overtake(&self, checkpoint: u64) -> bool {
        self.state.may_overtake(checkpoint)
    }

    fn overtake(&mut self, checkpoint: u64) -> Overtaking {
        let mut recording = Recording::new(checkpoint, self.state.overtake(checkpoint));
        for (channel, element) in &self.front {
            recording.on_arrival(*channel, element);
        }
        let mut guard = self.inbox.lock();
        for (channel, slot) in (0..).zip(&guard.channels) {
            for element in &slot.queue {
                recording.on_arrival(channel, element);
            }
        }
        guard.recording = Some(recording);
        drop(guard);
        self.inbox.unblock_all();
        self.processing.get_or_insert(0);
        Overtaking { since: self.aligning_since.take(), records: true }
    }

    fn take_recorded(&mut self) -> Result<Option<InFlight>, TaskError> {
        let Some(recording) = self.inbox.lock().recording.take_if(|recording| recording.is_complete()) else {
            return Ok(None);
        };
        let processed = self.processing.take().unwrap_or(0);
        recording.into_data::<T>(processed).map(Some)
    }

    fn give_up(&mut self, checkpoint: u64) {
        if self.inbox.lock().recording.take_if(|recording| recording.checkpoint() == checkpoint).is_some() {
            self.processing = None;
        }
        if self.state.give_up(checkpoint) {
            self.aligning_since = None;
            self.processing = None;
            self.inbox.unblock_all();
        }
    }
}

/// The merged inputs of a task; there is nothing in flight between them and their gates.
impl Overtaken for GateState {
    fn announced(&self) -> Option<Barrier> {
        None
    }

    fn may_overtake(&self, checkpoint: u64) -> bool {
        self.may_overtake(checkpoint)
    }

    fn overtake(&mut self, checkpoint: u64) -> Overtaking {
        self.overtake(checkpoint);
        Overtaking { since: None, records: false }
    }

    fn take_recorded(&mut self) -> Result<Option<InFlight>, TaskError> {
        Ok(None)
    }

    fn give_up(&mut self, checkpoint: u64) {
        self.give_up(checkpoint);
    }
}

impl<T: Record> Drop for Gate<T> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// The producer's end of one channel.
#[derive(Debug)]
pub enum ChannelWriter<T: Send + 'static> {
    /// To a consumer in this process.
    Local {
        /// The consumer's inbox.
        inbox: Arc<Inbox<T>>,
        /// Which of its channels.
        channel: u32,
        /// Whether the consumer may sleep although the channel holds something.
        unannounced: bool,
    },
    /// To a consumer in another process.
    Remote(RemoteChannel),
}

impl<T: Record> ChannelWriter<T> {
    /// The producer's end of a channel to a consumer in this process.
    pub fn local(inbox: Arc<Inbox<T>>, channel: u32) -> ChannelWriter<T> {
        ChannelWriter::Local { inbox, channel, unannounced: false }
    }

    /// Hands `batch` to the consumer, waiting while the channel is full, and returns an empty batch to fill next.
    /// Fails with [`TaskError::Canceled`] when the task is cancelled while it waits.
    pub fn send_batch(&mut self, batch: Vec<T>, task: &Arc<TaskShared>) -> Result<Vec<T>, TaskError> {
        task.metrics().add_records_out(batch.len() as u64);
        match self {
            ChannelWriter::Local { inbox, channel, unannounced } => {
                *unannounced = false;
                send_local(inbox, *channel, Element::Batch(batch), task)
            }
            ChannelWriter::Remote(remote) => send_remote(remote, batch, task),
        }
    }

    /// [`send_batch`](Self::send_batch) for a producer that goes on at once: the consumer may go on sleeping until more has
    /// gathered. Never waits: what a full channel does not take comes back. Before
    /// the producer waits for anything it must [`announce`](Self::announce).
    pub fn send_full_batch(&mut self, batch: Vec<T>, task: &Arc<TaskShared>) -> Result<Vec<T>, Vec<T>> {
        match self {
            ChannelWriter::Local { inbox, channel, unannounced } => {
                let records = batch.len() as u64;
                match inbox.try_send(*channel, Element::Batch(batch), Announce::Later, task) {
                    Ok(sent) => {
                        task.metrics().add_records_out(records);
                        *unannounced = !sent.announced;
                        Ok(sent.spare)
                    }
                    Err(Element::Batch(batch)) => Err(batch),
                    Err(Element::Encoded(_) | Element::Control(_)) => unreachable!("what comes back is what was sent"),
                }
            }
            ChannelWriter::Remote(remote) => send_what_credit_allows(remote, batch, task),
        }
    }

    /// Wakes a consumer that was left sleeping.
    pub fn announce(&mut self) {
        if let ChannelWriter::Local { inbox, unannounced, .. } = self
            && std::mem::take(unannounced)
        {
            inbox.consumer.wake();
        }
    }

    /// Sends a control element behind everything sent so far.
    pub fn send_control(&mut self, control: Control, task: &Arc<TaskShared>) -> Result<(), TaskError> {
        match self {
            ChannelWriter::Local { inbox, channel, unannounced } => {
                *unannounced = false;
                send_local(inbox, *channel, Element::Control(control), task).map(drop)
            }
            ChannelWriter::Remote(remote) => remote.send_control(control),
        }
    }
}

fn send_local<T: Record>(
    inbox: &Inbox<T>,
    channel: u32,
    mut element: Element<T>,
    task: &Arc<TaskShared>,
) -> Result<Vec<T>, TaskError> {
    loop {
        match inbox.try_send(channel, element, Announce::Now, task) {
            Ok(sent) => return Ok(sent.spare),
            Err(refused) => {
                element = refused;
                task.check_canceled()?;
                task.park(Waiting::Backpressure, None);
            }
        }
    }
}

fn send_remote<T: Record>(
    remote: &RemoteChannel,
    mut batch: Vec<T>,
    task: &Arc<TaskShared>,
) -> Result<Vec<T>, TaskError> {
    encode_and_send(remote, &batch, task)?;
    batch.clear();
    Ok(batch)
}

fn encode_and_send<T: Record>(remote: &RemoteChannel, batch: &[T], task: &Arc<TaskShared>) -> Result<(), TaskError> {
    let mut rest = batch;
    while !rest.is_empty() {
        while !remote.try_acquire(task)? {
            task.check_canceled()?;
            task.park(Waiting::Backpressure, None);
        }
        rest = &rest[send_encoded(remote, rest, task)..];
    }
    Ok(())
}

/// Sends without waiting. What there is no credit for, or no connection, comes back.
fn send_what_credit_allows<T: Record>(
    remote: &RemoteChannel,
    mut batch: Vec<T>,
    task: &Arc<TaskShared>,
) -> Result<Vec<T>, Vec<T>> {
    while !batch.is_empty() {
        // An error is found again, and reported, by the send that may wait.
        if !remote.try_acquire(task).unwrap_or(false) {
            return Err(batch);
        }
        let taken = send_encoded(remote, &batch, task);
        task.metrics().add_records_out(taken as u64);
        batch.drain(..taken);
    }
    Ok(batch)
}

/// Encodes as many records as fit a buffer and sends them with the credit taken before; returns how many, at least one.
fn send_encoded<T: Record>(remote: &RemoteChannel, records: &[T], task: &TaskShared) -> usize {
    let mut bytes = remote.take_buffer();
    let taken = encode_some(records, &mut bytes, remote.batch_bytes());
    task.metrics().add_bytes_out(bytes.len() as u64);
    remote.send_batch(bytes, taken as u32);
    taken
}

/// Encodes as many records as fit a buffer, at least one.
fn encode_some<T: Record>(records: &[T], out: &mut Vec<u8>, limit: usize) -> usize {
    if let Some(len) = T::FIXED_LEN {
        let fit = limit.checked_div(len).unwrap_or(records.len()).max(1);
        let taken = fit.min(records.len());
        T::encode_batch(&records[..taken], out);
        return taken;
    }
    for (index, record) in records.iter().enumerate() {
        record.encode(out);
        if out.len() >= limit {
            return index + 1;
        }
    }
    records.len()
}
