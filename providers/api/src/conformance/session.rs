//! An open provider under observation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Setup;
use crate::{
    FinalStatus, OpenRequest, Provider, ProviderEvent, ProviderFactory, ProviderRequest, RecoveredWorker,
    TaskManagerId, WorkerSpec,
};

/// How long silence is listened to after Closed, and after what must have no consequence.
const SILENCE: Duration = Duration::from_millis(300);

/// What a check works with.
pub(super) struct Bench<'a> {
    pub(super) factory: &'a dyn ProviderFactory,
    pub(super) setup: &'a Setup,
    pub(super) check: &'static str,
}

/// Never the same twice on a machine, for clusters and workers.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Bench<'_> {
    /// A cluster nobody has heard of.
    pub(super) fn new_cluster(&self) -> String {
        format!("{}-{}", self.check, unique())
    }

    /// A worker that runs `command`.
    pub(super) fn worker(&self, command: &[String]) -> WorkerSpec {
        let id = TaskManagerId::new(format!("worker-{}", unique()));
        WorkerSpec { id, command: command.to_vec(), ..self.setup.template.clone() }
    }

    /// A worker that runs until it is stopped.
    pub(super) fn lasting_worker(&self) -> WorkerSpec {
        self.worker(&self.setup.template.command)
    }

    /// Opens the provider for `cluster` without asking it anything.
    pub(super) fn open_raw(&self, cluster: &str) -> Result<Session, String> {
        let watched = Arc::new(Watched::default());
        let sink = watched.clone();
        let request = OpenRequest {
            cluster_id: cluster.to_owned(),
            configuration: self.setup.configuration.clone(),
            state_dir: self.setup.state_dir.clone(),
        };
        let provider = self.factory.open(request, Arc::new(move |event| sink.on_event(event)));
        let provider = provider.map_err(|error| format!("it could not be opened: {error}"))?;
        Ok(Session {
            provider,
            watched,
            patience: self.setup.patience,
            request_limit: self.setup.request_limit,
            finished: false,
        })
    }

    /// Opens the provider for `cluster` and recovers what it has left.
    pub(super) fn open(&self, cluster: &str) -> Result<(Session, Vec<RecoveredWorker>), String> {
        let mut session = self.open_raw(cluster)?;
        session.request(ProviderRequest::RecoverWorkers)?;
        let recovered = session.wait("Recovered", |seen| seen.recovered.clone())?;
        Ok((session, recovered))
    }

    /// Opens the provider for a cluster of its own, which has no workers yet.
    pub(super) fn open_new(&self) -> Result<Session, String> {
        let (session, recovered) = self.open(&self.new_cluster())?;
        match recovered.as_slice() {
            [] => Ok(session),
            workers => Err(format!("it recovered workers of a cluster that never had any: {workers:?}")),
        }
    }
}

/// An open provider. Stops its workers when it is dropped.
pub(super) struct Session {
    provider: Box<dyn Provider>,
    watched: Arc<Watched>,
    patience: Duration,
    request_limit: Duration,
    finished: bool,
}

impl Session {
    pub(super) fn request(&mut self, request: ProviderRequest) -> Result<(), String> {
        match &request {
            ProviderRequest::StartWorker(spec) => self.watched.lock().asked(&spec.id),
            ProviderRequest::StopWorker(id) => self.watched.lock().asked(id),
            ProviderRequest::RecoverWorkers
            | ProviderRequest::DeclareDemand { .. }
            | ProviderRequest::Shutdown { .. } => {}
        }
        let text = format!("{request:?}");
        let before = Instant::now();
        self.provider.request(request);
        let took = before.elapsed();
        if took > self.request_limit {
            return Err(format!(
                "the request {text} kept its caller for {took:?}, but requests have to return at once"
            ));
        }
        Ok(())
    }

    pub(super) fn start(&mut self, spec: WorkerSpec) -> Result<TaskManagerId, String> {
        let id = spec.id.clone();
        self.request(ProviderRequest::StartWorker(spec))?;
        Ok(id)
    }

    /// Starts a worker and waits until it runs.
    pub(super) fn start_and_wait(&mut self, spec: WorkerSpec) -> Result<TaskManagerId, String> {
        let id = self.start(spec)?;
        self.wait_ready(&id)?;
        Ok(id)
    }

    pub(super) fn stop(&mut self, id: &TaskManagerId) -> Result<(), String> {
        self.request(ProviderRequest::StopWorker(id.clone()))
    }

    pub(super) fn wait_ready(&self, id: &TaskManagerId) -> Result<(), String> {
        self.wait(format!("Ready of {id}"), |seen| {
            let worker = seen.workers.get(id)?;
            match &worker.terminated {
                Some(reason) if !worker.ready => Some(Err(format!("{id} ended before it was ready: {reason}"))),
                Some(_) | None => worker.ready.then_some(Ok(())),
            }
        })?
    }

    /// Waits for the worker's end and gives the reason.
    pub(super) fn wait_terminated(&self, id: &TaskManagerId) -> Result<String, String> {
        let reason = self.wait(format!("Terminated of {id}"), |seen| seen.workers.get(id)?.terminated.clone())?;
        if reason.trim().is_empty() { Err(format!("{id} ended without a reason")) } else { Ok(reason) }
    }

    pub(super) fn wait<T>(
        &self,
        what: impl fmt::Display,
        mut look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + self.patience;
        let mut seen = self.watched.lock();
        loop {
            if let Some(found) = look(&seen) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (patience, events) = (self.patience, &seen.events);
                return Err(format!("no {what} came for {patience:?}; events so far: {events:#?}"));
            }
            seen = self.watched.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What was seen until now.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.watched.lock()
    }

    /// Whether the worker has not ended.
    pub(super) fn runs(&self, id: &TaskManagerId) -> bool {
        self.seen().workers.get(id).is_some_and(|worker| worker.ready && worker.terminated.is_none())
    }

    /// Leaves time for events that must not come.
    pub(super) fn listen_to_silence(&self) {
        std::thread::sleep(SILENCE);
    }

    /// Drops the provider as a JobManager that fails would, its workers left running.
    pub(super) fn abandon(mut self) {
        self.finished = true;
    }

    /// Closes the provider and its workers, and says what was wrong with the order of events.
    pub(super) fn finish(self) -> Result<(), String> {
        self.shut_down(true)
    }

    /// Closes the provider, with or without its workers, and says what was wrong with the order of events.
    pub(super) fn shut_down(mut self, stop_workers: bool) -> Result<(), String> {
        self.finished = true;
        self.request(shutdown(stop_workers))?;
        self.wait("Closed", |seen| seen.closed.then_some(()))?;
        let running: Vec<_> = self
            .seen()
            .workers
            .iter()
            .filter(|(_, worker)| worker.started && worker.terminated.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        if stop_workers && !running.is_empty() {
            return Err(format!("it closed before these workers had ended, which it was to stop: {running:?}"));
        }
        self.listen_to_silence();
        let seen = self.seen();
        match seen.violations.as_slice() {
            [] => Ok(()),
            violations => Err(format!("{}; all events: {:#?}", violations.join("; "), seen.events)),
        }
    }
}

fn shutdown(stop_workers: bool) -> ProviderRequest {
    let message = "the check is over".to_owned();
    ProviderRequest::Shutdown { stop_workers, status: FinalStatus::Succeeded, message }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.finished {
            // The check has failed; what it says matters more than how this goes.
            self.provider.request(shutdown(true));
            let _ = self.wait("Closed", |seen| seen.closed.then_some(()));
        }
    }
}

#[derive(Default)]
struct Watched {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_event(&self, event: ProviderEvent) {
        self.lock().on_event(event);
        self.changed.notify_all();
    }
}

/// What a provider has told, and what was wrong with the order in which it did.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) events: Vec<ProviderEvent>,
    pub(super) recovered: Option<Vec<RecoveredWorker>>,
    pub(super) workers: BTreeMap<TaskManagerId, SeenWorker>,
    /// The last capacity told: `Some(None)` is no limit.
    pub(super) capacity: Option<Option<u32>>,
    pub(super) closed: bool,
    asked: BTreeSet<TaskManagerId>,
    violations: Vec<String>,
}

#[derive(Default)]
pub(super) struct SeenWorker {
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) terminated: Option<String>,
}

impl Seen {
    fn asked(&mut self, id: &TaskManagerId) {
        self.asked.insert(id.clone());
    }

    fn on_event(&mut self, event: ProviderEvent) {
        if self.closed {
            self.violations.push(format!("{event:?} came after Closed"));
        }
        match &event {
            ProviderEvent::Recovered(workers) => self.on_recovered(workers),
            ProviderEvent::Started { id, .. } => {
                if self.worker(id, "Started").started {
                    self.violations.push(format!("{id} was Started twice"));
                }
                self.workers.entry(id.clone()).or_default().started = true;
            }
            ProviderEvent::Ready { id } => {
                let worker = self.worker(id, "Ready");
                let (started, ready) = (worker.started, worker.ready);
                worker.ready = true;
                if !started {
                    self.violations.push(format!("{id} was Ready before it was Started"));
                }
                if ready {
                    self.violations.push(format!("{id} was Ready twice"));
                }
            }
            ProviderEvent::Terminated { id, reason, .. } => {
                self.worker(id, "Terminated").terminated = Some(reason.clone());
            }
            ProviderEvent::Draining { id, .. } => {
                self.worker(id, "Draining");
            }
            ProviderEvent::Capacity { max_workers, .. } => self.capacity = Some(*max_workers),
            ProviderEvent::Failed { message, .. } => {
                self.violations.push(format!("it reported that it failed: {message}"));
            }
            ProviderEvent::Closed => self.closed = true,
        }
        self.events.push(event);
    }

    fn on_recovered(&mut self, workers: &[RecoveredWorker]) {
        if self.recovered.replace(workers.to_vec()).is_some() {
            self.violations.push("Recovered came twice".to_owned());
        }
        for RecoveredWorker { id, .. } in workers {
            self.asked(id);
            self.workers.insert(id.clone(), SeenWorker { started: true, ready: true, terminated: None });
        }
    }

    /// The worker an event is about, which must be known and not have ended.
    fn worker(&mut self, id: &TaskManagerId, event: &str) -> &mut SeenWorker {
        if !self.asked.contains(id) {
            self.violations.push(format!("{event} of {id} came, for which nobody had asked"));
        }
        let worker = self.workers.entry(id.clone()).or_default();
        if worker.terminated.is_some() {
            self.violations.push(format!("{event} of {id} came after it was Terminated"));
        }
        worker
    }
}
