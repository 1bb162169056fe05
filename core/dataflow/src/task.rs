//! One task: its mailbox, its metric cells, and how its thread waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use weir_model::CheckpointTrigger;
pub use weir_model::TaskId;

use crate::element::{Control, EventTime};
use crate::failure::TaskError;
use crate::metrics::Registry;
use crate::sink::Committable;
use crate::source::SplitAnswer;

/// A letter to a task from outside its thread.
#[derive(Debug)]
pub enum Mail {
    /// The enumerator's answer to the task's split request.
    Split(SplitAnswer),
    /// The task begins the barrier of a checkpoint.
    TriggerCheckpoint(Arc<CheckpointTrigger>),
    /// A checkpoint is over.
    CheckpointEnded {
        /// Its number.
        checkpoint: u64,
        /// Whether it is complete; otherwise nothing will become of it.
        completed: bool,
    },
}

/// What a task's thread is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiting {
    /// Input, a timer, the next moment of a rate limit.
    Idle = 1,
    /// A consumer to return credit.
    Backpressure = 2,
}

/// Metric cells of one task. Written by the task's thread only (plain load and store, no read-modify-write), read by anybody.
#[derive(Debug)]
pub struct TaskMetrics {
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    idle_nanos: AtomicU64,
    backpressured_nanos: AtomicU64,
    started_nanos: AtomicU64,
    ended_nanos: AtomicU64,
    /// `EventTime::MIN`: none yet.
    input_watermark: AtomicI64,
    output_watermark: AtomicI64,
    state_bytes: AtomicU64,
    state_keys: AtomicU64,
}

impl Default for TaskMetrics {
    fn default() -> Self {
        let (zero, none) = (AtomicU64::default, || AtomicI64::new(EventTime::MIN));
        TaskMetrics {
            records_in: zero(),
            records_out: zero(),
            bytes_in: zero(),
            bytes_out: zero(),
            idle_nanos: zero(),
            backpressured_nanos: zero(),
            started_nanos: zero(),
            ended_nanos: zero(),
            input_watermark: none(),
            output_watermark: none(),
            state_bytes: zero(),
            state_keys: zero(),
        }
    }
}

pub use weir_model::MetricsSnapshot;

#[inline]
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

/// At the end of its input a stream is at the end of time.
fn set_time(cell: &AtomicI64, control: Control) {
    match control {
        Control::Watermark(time) => cell.store(time, Ordering::Relaxed),
        Control::End => cell.store(EventTime::MAX, Ordering::Relaxed),
        Control::Barrier(_) | Control::Idle(_) => {}
    }
}

impl TaskMetrics {
    /// Counts records taken in. Task thread only.
    #[inline]
    pub fn add_records_in(&self, n: u64) {
        bump(&self.records_in, n);
    }

    /// Counts records handed on. Task thread only.
    #[inline]
    pub fn add_records_out(&self, n: u64) {
        bump(&self.records_out, n);
    }

    /// Counts encoded bytes taken in. Task thread only.
    #[inline]
    pub fn add_bytes_in(&self, n: u64) {
        bump(&self.bytes_in, n);
    }

    /// Counts encoded bytes sent. Task thread only.
    #[inline]
    pub fn add_bytes_out(&self, n: u64) {
        bump(&self.bytes_out, n);
    }

    /// The inputs have reached this watermark, or their end. Task thread only.
    pub(crate) fn set_input_time(&self, control: Control) {
        set_time(&self.input_watermark, control);
    }

    /// This watermark, or the end, has been passed on. Task thread only.
    pub(crate) fn set_output_time(&self, control: Control) {
        set_time(&self.output_watermark, control);
    }

    /// An operator's keyed state has changed from so many bytes and keys to so many. Task thread only.
    pub(crate) fn change_state(&self, from: (u64, u64), to: (u64, u64)) {
        for (cell, from, to) in [(&self.state_bytes, from.0, to.0), (&self.state_keys, from.1, to.1)] {
            let others = cell.load(Ordering::Relaxed).saturating_sub(from);
            cell.store(others.saturating_add(to), Ordering::Relaxed);
        }
    }
}

/// The face of a task that other threads hold: wake it, cancel it, write to it, read its metrics.
#[derive(Debug)]
pub struct TaskShared {
    id: TaskId,
    thread: OnceLock<Thread>,
    canceled: AtomicBool,
    /// Set when the task's loop has been left.
    over: AtomicBool,
    /// Set by whoever wakes the task, taken when it is about to wait for input. The thread's own unpark token is not enough:
    /// waiting for a consumer, or user code that blocks, uses it up.
    woken: AtomicBool,
    has_mail: AtomicBool,
    mail: Mutex<VecDeque<Mail>>,
    metrics: TaskMetrics,
    operator_metrics: Registry,
    origin: Instant,
    waiting: AtomicU8,
    waiting_since: AtomicU64,
    committables: Mutex<Vec<Committable>>,
    /// From when on the task should look up from its records, on the clock of [`now_nanos`](Self::now_nanos); `u64::MAX`: it need not.
    urgent_at: AtomicU64,
    /// Whether a barrier that overtakes data is being passed on. Task thread only.
    overtaking: AtomicBool,
}

/// How often a task that waits looks whether it may go on, after the time at which it should have looked up from its records.
const URGENT_LOOK: Duration = Duration::from_millis(1);

impl TaskShared {
    /// A task that has not started.
    pub fn new(id: TaskId) -> Arc<TaskShared> {
        Arc::new(TaskShared {
            id,
            thread: OnceLock::new(),
            canceled: AtomicBool::new(false),
            over: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            has_mail: AtomicBool::new(false),
            mail: Mutex::default(),
            metrics: TaskMetrics::default(),
            operator_metrics: Registry::default(),
            origin: Instant::now(),
            waiting: AtomicU8::new(0),
            waiting_since: AtomicU64::new(0),
            committables: Mutex::default(),
            urgent_at: AtomicU64::new(u64::MAX),
            overtaking: AtomicBool::new(false),
        })
    }

    /// Which subtask this is.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The task's metric cells.
    #[inline]
    pub fn metrics(&self) -> &TaskMetrics {
        &self.metrics
    }

    /// What its operators' code measures.
    pub(crate) fn operator_metrics(&self) -> &Registry {
        &self.operator_metrics
    }

    /// Makes the calling thread the task's thread and starts its clock. Once a task; until then nobody can wake it.
    pub fn start_here(&self) {
        let first = self.thread.set(thread::current()).is_ok();
        assert!(first, "task {:?} was started twice", self.id);
        self.metrics.started_nanos.store(self.now_nanos(), Ordering::Relaxed);
    }

    /// Stops the task's clock.
    pub(crate) fn stop_clock(&self) {
        self.waiting.store(0, Ordering::Relaxed);
        self.metrics.ended_nanos.store(self.now_nanos(), Ordering::Relaxed);
    }

    /// Makes the task look at its inputs, credits and mail. Any thread; cheap when the task is running.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// From `at` on the task should look up from its records: a barrier may have to overtake them. Any thread.
    pub(crate) fn hurry(&self, at: Instant) {
        let at = at.saturating_duration_since(self.origin).as_nanos() as u64 + 1;
        self.urgent_at.fetch_min(at, Ordering::AcqRel);
        self.wake();
    }

    /// As [`hurry`](Self::hurry), at once. Any thread.
    pub(crate) fn hurry_now(&self) {
        self.urgent_at.fetch_min(0, Ordering::AcqRel);
        self.wake();
    }

    /// Whether the task should look up from its records now. Costs a load while no checkpoint is under way.
    #[inline]
    pub(crate) fn is_urgent(&self) -> bool {
        let at = self.urgent_at.load(Ordering::Acquire);
        at != u64::MAX && (at == 0 || at <= self.now_nanos())
    }

    /// The task looks up: whatever makes it urgent from now on does so anew. Task thread only.
    pub(crate) fn calm_down(&self) {
        self.urgent_at.swap(u64::MAX, Ordering::AcqRel);
    }

    /// Whether a barrier that overtakes data is being passed on. Task thread only.
    pub(crate) fn set_overtaking(&self, overtaking: bool) {
        self.overtaking.store(overtaking, Ordering::Relaxed);
    }

    /// Whether what the task sends may exceed the room its consumers have, so that it comes to its barrier soon. Task thread only.
    pub(crate) fn may_overdraw(&self) -> bool {
        self.overtaking.load(Ordering::Relaxed) || self.is_urgent()
    }

    /// How long until the task should look up from its records.
    fn until_urgent(&self) -> Option<Duration> {
        let at = self.urgent_at.load(Ordering::Acquire);
        let left = || Duration::from_nanos(at.saturating_sub(self.now_nanos()));
        (at != u64::MAX).then(|| left().max(URGENT_LOOK))
    }

    /// Asks the task to stop at its next opportunity. Any thread.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[inline]
    pub fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }

    /// The task's loop has been left: what is still written for it is of no use, unless it was waited for before.
    pub(crate) fn set_over(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether the task was asked to stop, or its loop has been left.
    pub(crate) fn is_over(&self) -> bool {
        self.is_canceled() || self.over.load(Ordering::Acquire)
    }

    /// `Err(Canceled)` once the task is cancelled.
    #[inline]
    pub fn check_canceled(&self) -> Result<(), TaskError> {
        if self.is_canceled() { Err(TaskError::Canceled) } else { Ok(()) }
    }

    /// Leaves a letter for the task and wakes it. Any thread.
    pub fn post(&self, mail: Mail) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push_back(mail);
        self.has_mail.store(true, Ordering::Release);
        self.wake();
    }

    /// Takes the oldest letter. Task thread only.
    pub fn take_mail(&self) -> Option<Mail> {
        if !self.has_mail.load(Ordering::Acquire) {
            return None;
        }
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let letter = mail.pop_front();
        self.has_mail.store(!mail.is_empty(), Ordering::Release);
        letter
    }

    /// Parks the task's thread until it is woken or `timeout` passes, and accounts the time. Task thread only.
    ///
    /// When it waits for input, a wake since the last such wait ends it at once, whatever happened in between.
    pub fn park(&self, waiting: Waiting, timeout: Option<Duration>) {
        if waiting == Waiting::Idle && self.woken.swap(false, Ordering::Acquire) {
            return;
        }
        let before = self.now_nanos();
        let timeout = timeout.into_iter().chain(self.until_urgent()).min();
        self.waiting_since.store(before, Ordering::Relaxed);
        self.waiting.store(waiting as u8, Ordering::Release);
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
        let cell = match waiting {
            Waiting::Idle => &self.metrics.idle_nanos,
            Waiting::Backpressure => &self.metrics.backpressured_nanos,
        };
        // Before the mark is taken off: a reader in between may count the wait twice for a moment, never as work.
        bump(cell, self.now_nanos().saturating_sub(before));
        self.waiting.store(0, Ordering::Release);
    }

    /// Adds what a sink wants committed when the job finishes. Task thread only.
    pub fn add_committables(&self, more: impl IntoIterator<Item = Committable>) {
        self.committables.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    /// Takes everything the task's sinks prepared.
    pub fn take_committables(&self) -> Vec<Committable> {
        std::mem::take(&mut self.committables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The task's metrics now; a wait that is still going on is counted up to now.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let m = &self.metrics;
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let time = |cell: &AtomicI64| Some(cell.load(Ordering::Relaxed)).filter(|&time| time != EventTime::MIN);
        let started = read(&m.started_nanos);
        let ended = read(&m.ended_nanos);
        let now = if ended > 0 { ended } else { self.now_nanos() };
        let total = if started > 0 { now.saturating_sub(started) } else { 0 };
        let (mut idle, mut backpressured) = (read(&m.idle_nanos), read(&m.backpressured_nanos));
        let waited = now.saturating_sub(self.waiting_since.load(Ordering::Relaxed));
        match self.waiting.load(Ordering::Acquire) {
            1 => idle += waited,
            2 => backpressured += waited,
            _ => {}
        }
        MetricsSnapshot {
            records_in: read(&m.records_in),
            records_out: read(&m.records_out),
            bytes_in: read(&m.bytes_in),
            bytes_out: read(&m.bytes_out),
            busy_nanos: total.saturating_sub(idle + backpressured),
            idle_nanos: idle,
            backpressured_nanos: backpressured,
            input_watermark: time(&m.input_watermark),
            output_watermark: time(&m.output_watermark),
            state_bytes: read(&m.state_bytes),
            state_keys: read(&m.state_keys),
            operators: self.operator_metrics.values(),
        }
    }

    /// Nanoseconds since the task was created; never 0, so that 0 can mean "not yet".
    fn now_nanos(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64 + 1
    }
}
