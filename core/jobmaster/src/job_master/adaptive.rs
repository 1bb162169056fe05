//! The parallelism of an adaptive job: with how many subtasks it begins, and when it is worth stopping it for another number.
//!
//! What is due is looked at after every event. While nothing runs, `begin_if_possible` waits for slots; while everything runs,
//! `rescale_if_better` compares what the job has with what it could have. In between nothing is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{CheckpointEvent, CheckpointJob, RequestOutcome};
use weir_model::{
    FailureKind, JobGraph, JobStatus, ParallelismBounds, ResourceRequirements, ScalingView, SlotWait, TaskFailure,
    VertexId,
};
use weir_scheduler::{Event, ExecutionGraph, SlotSharing, fitting_parallelism, slots_desired, slots_required};

use super::tasks::TaskTable;
use super::timers::{Timer, Timers};
use super::{JobMaster, Outbox};
use crate::{AdaptiveOptions, JobMasterEffect, RescaleError};

/// The checkpoint that is taken before the job is rescaled; nobody else asks under this number.
pub(super) const OWN_REQUEST: u64 = u64::MAX;

/// After a checkpoint has failed, until the next one is tried.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(1);

/// Of so many vertices it is said how their parallelism changes.
const MAX_DESCRIBED: usize = 5;

/// What is known of the job's parallelism.
#[derive(Debug)]
pub(super) struct Adaptive {
    options: AdaptiveOptions,
    requirements: ResourceRequirements,
    /// Slots the job could use.
    pub(super) desired: u32,
    /// Slots it cannot do without.
    pub(super) required: u32,
    /// While nothing runs and slots are awaited.
    awaiting: Option<Awaiting>,
    /// Set where it was stopped because there are slots: it begins with those.
    at_once: bool,
    /// When it last began to run; `None` if it never did.
    began: Option<Duration>,
    /// Whether somebody has asked for other requirements since.
    asked: bool,
    /// Since when it could have another parallelism than it has.
    changed_since: Option<Duration>,
    /// Set from when it is to be rescaled until it is.
    checkpoint: Option<CheckpointBefore>,
    rescales: u32,
    /// For when a timer is set.
    wake: Option<Duration>,
}

#[derive(Debug)]
struct Awaiting {
    since: Duration,
    /// Since when there are slots with which it could run.
    enough_since: Option<Duration>,
    /// What else stands in the way.
    obstacle: Option<String>,
}

/// The checkpoint from which the job goes on with another parallelism.
#[derive(Debug)]
struct CheckpointBefore {
    /// When the first one was asked for.
    since: Duration,
    failures: u32,
    state: CheckpointState,
}

#[derive(Debug, PartialEq, Eq)]
enum CheckpointState {
    UnderWay,
    RetryAt(Duration),
    Complete,
}

impl Adaptive {
    pub(super) fn new(options: AdaptiveOptions, graph: &JobGraph) -> Self {
        let requirements = ResourceRequirements::of(graph);
        Self {
            options,
            desired: slots_desired(graph, &requirements),
            required: slots_required(graph, &requirements),
            requirements,
            awaiting: None,
            at_once: false,
            began: None,
            asked: false,
            changed_since: None,
            checkpoint: None,
            rescales: 0,
            wake: None,
        }
    }

    /// A timer has rung.
    pub(super) fn rang(&mut self) {
        self.wake = None;
    }

    fn wake_at(&mut self, at: Duration, timers: &mut Timers, out: &mut Outbox) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            timers.set(Timer::Resources, at, out);
        }
    }

    /// Nothing is to be rescaled now.
    fn leave_alone(&mut self) {
        self.changed_since = None;
        self.checkpoint = None;
    }
}

impl JobMaster {
    /// Does what the slots there are allow for.
    pub(super) fn adapt(&mut self, out: &mut Outbox) {
        if self.ended.is_some() || self.adaptive.is_none() {
            return;
        }
        let runs = self.scheduler.status() == JobStatus::Running && self.checkpoints.all_run();
        if self.scheduler.awaits_resources() {
            self.begin_if_possible(out);
        } else if runs && !self.scheduler.is_committing() {
            self.rescale_if_better(out);
        } else if let Some(adaptive) = &mut self.adaptive {
            adaptive.leave_alone();
        }
        let surplus = self.slots.take_surplus();
        self.release(surplus, out);
    }

    /// With how many subtasks the job could run now; `None` if there are too few slots.
    fn fitting(&self) -> Option<Vec<u32>> {
        let requirements = &self.adaptive.as_ref()?.requirements;
        fitting_parallelism(&self.spec.graph, requirements, self.slots.granted())
    }

    pub(super) fn lacks_indispensable_slots(&self) -> bool {
        self.scheduler.awaits_resources() && self.fitting().is_none()
    }

    // ---- while nothing runs ----

    fn begin_if_possible(&mut self, out: &mut Outbox) {
        let (fitting, granted, last) = (self.fitting(), self.slots.granted(), self.graph.parallelism());
        let Some(adaptive) = &mut self.adaptive else { return };
        let awaiting = adaptive.awaiting.get_or_insert(Awaiting { since: out.now, enough_since: None, obstacle: None });
        let deadline = awaiting.since.saturating_add(adaptive.options.wait_timeout);
        let Some(parallelism) = fitting else {
            awaiting.enough_since = None;
            return self.wait_for_slots(deadline, out);
        };
        let enough_since = *awaiting.enough_since.get_or_insert(out.now);
        // What it had is good enough: whoever waits for more then does so while it runs.
        let as_before = adaptive.began.is_some() && parallelism == last;
        let at_once = adaptive.at_once || as_before || granted >= adaptive.desired;
        let stable = enough_since.saturating_add(adaptive.options.stabilization);
        let due = stable.min(deadline);
        if !at_once && out.now < due {
            return adaptive.wake_at(due, &mut self.timers, out);
        }
        match self.restorable(parallelism) {
            Ok(parallelism) => self.begin(&parallelism, out),
            Err(obstacle) => {
                if let Some(awaiting) = self.adaptive.as_mut().and_then(|adaptive| adaptive.awaiting.as_mut()) {
                    awaiting.obstacle = Some(obstacle);
                }
                self.wait_for_slots(deadline, out);
            }
        }
    }

    fn wait_for_slots(&mut self, deadline: Duration, out: &mut Outbox) {
        let Some(adaptive) = &mut self.adaptive else { return };
        if out.now < deadline {
            return adaptive.wake_at(deadline, &mut self.timers, out);
        }
        let timeout = adaptive.options.wait_timeout;
        let obstacle = adaptive.awaiting.as_mut().and_then(|awaiting| awaiting.obstacle.take());
        let needed = adaptive.required;
        let option = "jobmanager.adaptive-scheduler.submission.resource-wait-timeout";
        let text = match obstacle {
            Some(obstacle) => {
                format!("the slots that the job needs did not come within {timeout:?} ({option}): {obstacle}")
            }
            None => self.explain_lack(needed, timeout, option),
        };
        self.tell(Event::FatalFailure(TaskFailure::new(FailureKind::Job, text)), out);
    }

    /// This parallelism, or the last one if state can only go on with that; or what stands in the way.
    fn restorable(&self, parallelism: Vec<u32>) -> Result<Vec<u32>, String> {
        let Some(error) = self.not_restorable(&parallelism) else { return Ok(parallelism) };
        let last = self.graph.parallelism();
        let fits = SlotSharing::of(self.scheduler.graph()).slots_needed() <= self.slots.granted();
        if fits && self.not_restorable(&last).is_none() {
            return Ok(last);
        }
        Err(format!(
            "it has slots enough for another parallelism, but it must go on from an unaligned checkpoint: {error}"
        ))
    }

    fn not_restorable(&self, parallelism: &[u32]) -> Option<String> {
        self.checkpoints
            .not_for(&self.checkpoint_job(&self.spec.graph.at_parallelism(parallelism)))
            .map(|error| error.to_string())
    }

    fn checkpoint_job(&self, graph: &JobGraph) -> CheckpointJob {
        CheckpointJob::new(self.spec.id, graph, self.spec.states.nodes())
    }

    /// Has the job run with this parallelism.
    fn begin(&mut self, parallelism: &[u32], out: &mut Outbox) {
        let graph = self.spec.graph.at_parallelism(parallelism);
        let execution = match ExecutionGraph::new(&graph) {
            Ok(execution) => execution,
            Err(error) => {
                let message =
                    format!("no plan can be made for the parallelism {parallelism:?} ({error}): this is a bug of Weir");
                return self.tell(Event::FatalFailure(TaskFailure::new(FailureKind::Job, message)), out);
            }
        };
        debug_assert!(self.deployments.is_empty(), "{:?}", self.deployments);
        let Some(adaptive) = &mut self.adaptive else { return };
        let first = adaptive.began.replace(out.now).is_none();
        let changed = *parallelism != self.graph.parallelism();
        adaptive.rescales += u32::from(changed && !first);
        (adaptive.awaiting, adaptive.at_once, adaptive.asked) = (None, false, false);
        adaptive.leave_alone();
        if changed {
            let slots = self.slots.granted();
            let changes = describe_changes(&self.graph, parallelism);
            out.push(JobMasterEffect::Note(format!("the job runs with {slots} slots: {changes}")));
        }
        self.checkpoints.rescale(self.checkpoint_job(&graph), first);
        self.sharing = SlotSharing::of(&execution);
        self.tasks = TaskTable::new(execution.task_count());
        self.slots.resize(self.sharing.slots_needed());
        self.graph = Arc::new(graph);
        self.tell(Event::ResourcesReady(Box::new(execution)), out);
    }

    // ---- while everything runs ----

    fn rescale_if_better(&mut self, out: &mut Outbox) {
        let (fitting, granted, current) = (self.fitting(), self.slots.granted(), self.graph.parallelism());
        let Some(adaptive) = &mut self.adaptive else { return };
        // With fewer slots than it cannot do without it goes on as it is: stopping would help nobody.
        let Some(target) = fitting.filter(|target| *target != current) else {
            return adaptive.leave_alone();
        };
        let bounds = adaptive.requirements.in_step(&self.spec.graph);
        let outside =
            current.iter().zip(&bounds).any(|(current, bounds)| !(bounds.lower..=bounds.upper).contains(current));
        let all_there = granted >= adaptive.desired;
        let total = |parallelism: &[u32]| parallelism.iter().map(|&subtasks| u64::from(subtasks)).sum::<u64>();
        let grows_enough = total(&target) >= total(&current) + u64::from(adaptive.options.min_increase);
        if !outside && !all_there && !grows_enough {
            return adaptive.leave_alone();
        }
        let changed_since = *adaptive.changed_since.get_or_insert(out.now);
        if !(outside || adaptive.asked && all_there) {
            let pause = if all_there { Duration::ZERO } else { adaptive.options.running_stabilization };
            let rested = adaptive.began.unwrap_or_default().saturating_add(adaptive.options.cooldown);
            let due = rested.max(changed_since.saturating_add(pause));
            if out.now < due {
                return adaptive.wake_at(due, &mut self.timers, out);
            }
        }
        self.rescale_from_checkpoint(&target, out);
    }

    /// Stops the job with a checkpoint, if it takes any.
    fn rescale_from_checkpoint(&mut self, target: &[u32], out: &mut Outbox) {
        if self.checkpoints.is_stopping() {
            return;
        }
        // Without checkpoints it begins where it began, unless that fits the present parallelism only.
        if self.spec.checkpointing.interval.is_none() && self.not_restorable(target).is_none() {
            return self.rescale(target, out);
        }
        let Some(adaptive) = &mut self.adaptive else { return };
        let retry = match &adaptive.checkpoint {
            None => true,
            Some(CheckpointBefore { state: CheckpointState::RetryAt(at), .. }) => *at <= out.now,
            Some(CheckpointBefore { state: CheckpointState::UnderWay | CheckpointState::Complete, .. }) => false,
        };
        let before = adaptive.checkpoint.get_or_insert(CheckpointBefore {
            since: out.now,
            failures: 0,
            state: CheckpointState::UnderWay,
        });
        if before.state == CheckpointState::Complete {
            return self.rescale(target, out);
        }
        let too_late = adaptive.options.max_delay.map(|delay| before.since.saturating_add(delay));
        let too_often = before.failures >= adaptive.options.max_checkpoint_failures.max(1);
        if (too_often || too_late.is_some_and(|at| at <= out.now)) && self.not_restorable(target).is_none() {
            let reason =
                "no checkpoint was complete in time before the job is rescaled, so it goes on from an earlier one";
            out.push(JobMasterEffect::Warning(reason.to_owned()));
            return self.rescale(target, out);
        }
        let Some(adaptive) = &mut self.adaptive else { return };
        let Some(before) = &mut adaptive.checkpoint else { return };
        if let CheckpointState::RetryAt(at) = before.state
            && !retry
        {
            adaptive.wake_at(at, &mut self.timers, out);
        }
        if let Some(at) = too_late.filter(|at| *at > out.now) {
            adaptive.wake_at(at, &mut self.timers, out);
        }
        if retry {
            if let Some(before) = &mut adaptive.checkpoint {
                before.state = CheckpointState::UnderWay;
            }
            // Records in flight could only go on with the same parallelism.
            let request = CheckpointEvent::CheckpointRequested { request: OWN_REQUEST, full: false, aligned: true };
            self.tell_checkpoints(request, out);
            // It may have been refused, or be complete, already.
            self.adapt_to_checkpoint(target, out);
        }
    }

    fn adapt_to_checkpoint(&mut self, target: &[u32], out: &mut Outbox) {
        let Some(adaptive) = &mut self.adaptive else { return };
        match adaptive.checkpoint.as_ref().map(|before| &before.state) {
            Some(CheckpointState::RetryAt(at)) => {
                let at = *at;
                adaptive.wake_at(at, &mut self.timers, out);
            }
            Some(CheckpointState::Complete) => self.rescale(target, out),
            Some(CheckpointState::UnderWay) | None => {}
        }
    }

    /// A checkpoint that was to be the last one before the job is rescaled.
    pub(super) fn on_checkpoint_before_rescaling(&mut self, result: Result<RequestOutcome, String>, now: Duration) {
        // Otherwise it is not to be rescaled any more.
        let Some(before) = self.adaptive.as_mut().and_then(|adaptive| adaptive.checkpoint.as_mut()) else { return };
        before.state = match result {
            Ok(_) => CheckpointState::Complete,
            Err(_) => {
                before.failures += 1;
                CheckpointState::RetryAt(now.saturating_add(CHECKPOINT_RETRY))
            }
        };
    }

    /// Stops all tasks; when they have, the job begins with the slots there are.
    fn rescale(&mut self, target: &[u32], out: &mut Outbox) {
        let changes = describe_changes(&self.graph, target);
        out.push(JobMasterEffect::Note(format!("the job is rescaled: {changes}")));
        if !self.checkpoints.has_complete() {
            out.push(JobMasterEffect::Warning(
                "the job has no complete checkpoint, so it starts from the beginning with its new parallelism; with \
                 `execution.checkpointing.interval` it would go on"
                    .to_owned(),
            ));
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.at_once = true;
            adaptive.leave_alone();
        }
        self.tell(Event::Rescale, out);
    }

    // ---- what people ask and see ----

    /// Sets between which numbers of subtasks each vertex runs, and does what follows from it. All vertices must be named.
    ///
    /// # Errors
    /// Nothing has changed; the error says what to ask for instead.
    pub fn set_requirements(
        &mut self,
        bounds: &BTreeMap<VertexId, ParallelismBounds>,
        now: Duration,
    ) -> Result<Vec<JobMasterEffect>, RescaleError> {
        let status = self.scheduler.status();
        if matches!(status, JobStatus::Failing | JobStatus::Cancelling) || status.is_terminal() {
            return Err(RescaleError::Ended(status));
        }
        let Some(adaptive) = &mut self.adaptive else { return Err(RescaleError::NotAdaptive) };
        let vertices = &self.spec.graph.vertices;
        if let Some(id) = bounds.keys().find(|id| vertices.iter().all(|vertex| vertex.id != **id)) {
            return Err(RescaleError::UnknownVertex(*id));
        }
        let of = |vertex: &weir_model::JobVertex| {
            let missing = || RescaleError::MissingVertex { id: vertex.id, name: vertex.name.clone() };
            bounds.get(&vertex.id).copied().ok_or_else(missing)
        };
        let requirements = ResourceRequirements(vertices.iter().map(of).collect::<Result<_, _>>()?);
        requirements.validate(&self.spec.graph)?;
        adaptive.desired = slots_desired(&self.spec.graph, &requirements);
        adaptive.required = slots_required(&self.spec.graph, &requirements);
        adaptive.requirements = requirements;
        adaptive.asked = true;
        if let Some(awaiting) = &mut adaptive.awaiting {
            // It is another wait.
            *awaiting = Awaiting { since: now, enough_since: None, obstacle: None };
        }
        self.slots.want(adaptive.desired);
        let mut out = Outbox { now, effects: Vec::new(), later: Default::default() };
        if self.declared {
            self.declare_requirements(&mut out);
        }
        self.settle(&mut out);
        Ok(out.effects)
    }

    pub(super) fn scaling_view(&self) -> Option<ScalingView> {
        let adaptive = self.adaptive.as_ref()?;
        let (requirements, rescales) = (adaptive.requirements.clone(), adaptive.rescales);
        Some(ScalingView { requirements, built: self.spec.graph.parallelism(), rescales })
    }

    /// Why the job waits for slots, if it does.
    pub(super) fn slot_wait(&self) -> Option<SlotWait> {
        let Some(adaptive) = &self.adaptive else { return self.waiting.clone().filter(|_| self.waits_for_slots()) };
        let reason = self.why_it_waits(adaptive)?;
        let mut wait = self.waiting.clone().unwrap_or_default();
        (wait.needed, wait.granted) = (adaptive.required.max(wait.needed), self.slots.granted());
        wait.reasons.insert(0, reason);
        Some(wait)
    }

    fn why_it_waits(&self, adaptive: &Adaptive) -> Option<String> {
        let required = adaptive.required;
        let slots = if required == 1 { "slot" } else { "slots" };
        let lacks = self.slots.granted() < required;
        if self.ended.is_some() {
            return None;
        }
        let Some(awaiting) = adaptive.awaiting.as_ref().filter(|_| self.scheduler.awaits_resources()) else {
            return (lacks && self.scheduler.status() == JobStatus::Running).then(|| {
                format!(
                    "the job's requirements ask for {required} {slots} at least; until they are there it goes on with the \
                     parallelism it has"
                )
            });
        };
        if let Some(obstacle) = &awaiting.obstacle {
            return Some(obstacle.clone());
        }
        Some(if lacks {
            let timeout = adaptive.options.wait_timeout;
            format!(
                "the job needs {required} {slots} at least, by the lower bounds of its requirements; it fails if they are \
                 not there within {timeout:?} (jobmanager.adaptive-scheduler.submission.resource-wait-timeout)"
            )
        } else {
            format!(
                "the job could run, and waits for more of the {} slots it could use for {:?} \
                 (jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout)",
                adaptive.desired, adaptive.options.stabilization
            )
        })
    }
}

/// `Source 1 -> 4, Count 2 -> 4`.
fn describe_changes(graph: &JobGraph, target: &[u32]) -> String {
    let vertices = graph.vertices.iter().zip(target);
    let changed = vertices.filter(|(vertex, target)| vertex.parallelism != **target);
    let mut changes: Vec<String> =
        changed.map(|(vertex, target)| format!("{:?} {} -> {target}", vertex.name, vertex.parallelism)).collect();
    if changes.len() > MAX_DESCRIBED {
        let more = changes.split_off(MAX_DESCRIBED).len();
        changes.push(format!("and {more} more"));
    }
    changes.join(", ")
}
