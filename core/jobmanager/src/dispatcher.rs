//! The Dispatcher's loop: owns the machine, keeps records, starts JobMasters.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use weir_dispatcher::{Dispatcher, Effect, Event, JobRecord, SubmitError};
use weir_jobmaster::JobMasterEvent;
use weir_model::{JobId, JobView};

use crate::job_master::{self, PlannedJob};
use crate::shared::Shared;
use crate::timers::Timers;

/// The loop, from outside.
pub(crate) type DispatcherSender = UnboundedSender<DispatcherMessage>;

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum DispatcherMessage {
    /// Run a job that was built.
    Submit(Box<PlannedJob>, oneshot::Sender<Result<JobId, SubmitError>>),
    /// Something happened.
    Event(Event),
    /// Somebody wants the last view of a job that has ended.
    Archived(JobId, oneshot::Sender<Option<Arc<JobView>>>),
    /// Somebody wants those of all.
    AllArchived(oneshot::Sender<Vec<Arc<JobView>>>),
}

/// The Dispatcher.
pub(crate) struct DispatcherLoop {
    shared: Arc<Shared>,
    machine: Dispatcher,
    messages: UnboundedReceiver<DispatcherMessage>,
    timers: Timers,
    /// Jobs that are about to run, with whoever waits for the answer.
    submitted: BTreeMap<u64, Submission>,
    requests: u64,
}

struct Submission {
    job: JobId,
    /// `None` once it runs.
    planned: Option<Box<PlannedJob>>,
    answer: oneshot::Sender<Result<JobId, SubmitError>>,
}

impl DispatcherLoop {
    pub(crate) fn new(
        shared: Arc<Shared>,
        machine: Dispatcher,
        messages: UnboundedReceiver<DispatcherMessage>,
    ) -> DispatcherLoop {
        let (timers, submitted) = (Timers::default(), BTreeMap::new());
        DispatcherLoop { shared, machine, messages, timers, submitted, requests: 0 }
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            let clock = self.shared.clock;
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                id = self.timers.next(&clock) => self.on_event(Event::Timer { id }),
            }
        }
    }

    fn on_message(&mut self, message: DispatcherMessage) {
        // Whoever asked may have gone away meanwhile.
        match message {
            DispatcherMessage::Submit(planned, answer) => self.on_submit(planned, answer),
            DispatcherMessage::Event(event) => self.on_event(event),
            DispatcherMessage::Archived(id, answer) => drop(answer.send(self.machine.archived(id).cloned())),
            DispatcherMessage::AllArchived(answer) => {
                drop(answer.send(self.machine.archived_jobs().cloned().collect()));
            }
        }
    }

    fn on_submit(&mut self, planned: Box<PlannedJob>, answer: oneshot::Sender<Result<JobId, SubmitError>>) {
        self.requests += 1;
        let request = self.requests;
        let record = planned.record.clone();
        self.submitted.insert(request, Submission { job: record.id, planned: Some(planned), answer });
        self.on_event(Event::Submitted { request, record });
    }

    fn on_event(&mut self, event: Event) {
        let effects = self.machine.on_event(event, self.shared.clock.now());
        effects.into_iter().for_each(|effect| self.perform(effect));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(record) => self.persist(record),
            Effect::StartJobMaster(record) => self.start_job_master(&record),
            Effect::Answer { request, result } => self.answer(request, result),
            Effect::Archived(view) => self.on_archived(&view),
            Effect::Forget(job) => {
                let shared = self.shared.clone();
                self.shared.last_work.spawn(async move { shared.records.forget(job).await });
            }
            Effect::ReleaseArtifact(_) => {
                let shared = self.shared.clone();
                tokio::spawn(async move { shared.sweep_artifacts().await });
            }
            Effect::ScheduleTimer { id, at } => self.timers.replace(id, at),
        }
    }

    fn persist(&self, record: Arc<JobRecord>) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let job = record.id;
            let result = shared.records.keep(record).await;
            let _ = shared.dispatcher.send(DispatcherMessage::Event(Event::Persisted { job, result }));
        });
    }

    fn start_job_master(&mut self, record: &JobRecord) {
        let submission = self.submitted.values_mut().find(|submission| submission.job == record.id);
        match submission.and_then(|submission| submission.planned.take()) {
            Some(planned) => job_master::start(&self.shared, *planned),
            None => tracing::error!(job_id = %record.id, "a job is to run that nobody has built"),
        }
    }

    fn answer(&mut self, request: u64, result: Result<JobId, SubmitError>) {
        let Some(submission) = self.submitted.remove(&request) else { return };
        if let Some(planned) = submission.planned {
            // It does not run, so its coordinator is not needed.
            self.shared.last_work.spawn(planned.coordinator.shut_down());
        }
        if let Err(Ok(job)) = submission.answer.send(result) {
            // A job nobody knows the id of would run unseen, and a second time when it is submitted again.
            tracing::warn!(job_id = %job, "a job is withdrawn, because whoever submitted it did not wait for the answer");
            self.shared.jobs.tell(job, JobMasterEvent::CancelRequested);
        }
    }

    fn on_archived(&self, view: &JobView) {
        // From here on the archive answers for it.
        self.shared.jobs.remove(view.summary.id);
        let (status, name) = (view.summary.status, &view.summary.name);
        tracing::info!(job_id = %view.summary.id, %status, name, "a job has ended");
    }
}
