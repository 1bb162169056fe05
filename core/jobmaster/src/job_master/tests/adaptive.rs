//! Jobs whose parallelism follows the slots there are.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_checkpoint::{CheckpointOptions, TaskSnapshot};
use weir_model::{
    CheckpointAcknowledgement, ExecutionState, FromTaskManager, JobStatus, ParallelismBounds, Partitioner,
    SnapshotMetrics, TaskId, ToResourceManager, ToTaskManager, VertexId,
};

use super::harness::*;
use crate::testing::chain;
use crate::{
    AdaptiveOptions, FromCoordinator, JobMaster, JobMasterEffect, JobMasterOptions, JobSpec, RescaleError,
    ToCoordinator,
};

const STABILIZATION: Duration = Duration::from_secs(10);
const COOLDOWN: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(300);

fn options() -> JobMasterOptions {
    JobMasterOptions { adaptive: Some(AdaptiveOptions::default()), ..fixed_delay(9) }
}

/// Two vertices built for four subtasks each, without checkpoints.
fn job() -> Harness {
    Harness::new(chain(&[4, 4], Partitioner::Hash), options()).waiting()
}

fn job_with_checkpoints(options: JobMasterOptions) -> Harness {
    let interval = Some(Duration::from_secs(3600));
    let checkpointing =
        CheckpointOptions { interval, unaligned: true, tolerable_failures: None, ..CheckpointOptions::default() };
    let spec = JobSpec { checkpointing, ..spec(chain(&[4, 4], Partitioner::Hash)) };
    Harness::of(JobMaster::new(spec, options, NOW).unwrap()).waiting()
}

fn parallelism(job: &Harness) -> Vec<u32> {
    job.master.view().graph.parallelism()
}

fn notes(effects: &[JobMasterEffect]) -> Vec<&str> {
    let mut texts = Vec::new();
    for effect in effects {
        if let JobMasterEffect::Note(text) | JobMasterEffect::Warning(text) = effect {
            texts.push(text.as_str());
        }
    }
    texts
}

impl Harness {
    /// The tasks of a deployment run, subtask i of each vertex in the slot that was granted as number i.
    fn run(&mut self, of: u32, task_managers: &[u32]) {
        for &number in task_managers {
            self.ready(of, number);
        }
        for task in self.tasks() {
            let number = self.place(task);
            self.change(of, number, task, ExecutionState::Running);
        }
        let running = self.master.summary().tasks[ExecutionState::Running as usize];
        assert_eq!(running as usize, self.tasks().len(), "{:?}", self.status());
    }

    fn tasks(&self) -> Vec<TaskId> {
        let vertices = self.master.view().vertices;
        (0..)
            .zip(&vertices)
            .flat_map(|(vertex, of)| (0..of.len() as u32).map(move |subtask| task(vertex, subtask)))
            .collect()
    }

    /// The number of the TaskManager that runs a task.
    fn place(&self, task: TaskId) -> u32 {
        let view = self.master.view();
        let id = view.vertices[task.vertex as usize][task.subtask as usize].task_manager.clone().unwrap();
        id.as_str().trim_start_matches("tm-").parse().unwrap()
    }

    /// All tasks stop as they were told to; what the last of them brings.
    fn stop(&mut self, of: u32) -> Vec<JobMasterEffect> {
        let mut effects = Vec::new();
        for task in self.tasks() {
            effects.extend(self.change(of, self.place(task), task, ExecutionState::Canceled));
        }
        effects.extend(self.pass(Duration::ZERO));
        effects
    }

    fn acknowledge_all(&mut self, of: u32, checkpoint: u64) -> Vec<JobMasterEffect> {
        let mut effects =
            self.coordinator(FromCoordinator::EnumeratorsSnapshotted { checkpoint, result: Ok(Vec::new()) });
        for task in self.tasks() {
            let acknowledgement = Box::new(CheckpointAcknowledgement {
                checkpoint,
                task,
                snapshot: TaskSnapshot { operators: Vec::new(), finished: false }.encode(),
                committables: Vec::new(),
                metrics: SnapshotMetrics::default(),
            });
            let message = FromTaskManager::CheckpointAcknowledged { deployment: deployment(of), acknowledgement };
            effects.extend(self.from(self.place(task), message));
        }
        effects
    }

    /// Asks for these bounds of each vertex.
    fn ask(&mut self, lower: u32, upper: u32) -> Result<Vec<JobMasterEffect>, RescaleError> {
        let bounds = self.vertices().into_iter().map(|id| (id, ParallelismBounds { lower, upper })).collect();
        self.ask_for(&bounds)
    }

    fn ask_for(
        &mut self,
        bounds: &BTreeMap<VertexId, ParallelismBounds>,
    ) -> Result<Vec<JobMasterEffect>, RescaleError> {
        let effects = self.master.set_requirements(bounds, self.now)?;
        self.note_timers(&effects);
        Ok(effects)
    }

    fn vertices(&self) -> Vec<VertexId> {
        self.master.view().graph.vertices.iter().map(|vertex| vertex.id).collect()
    }
}

fn declared(slots: u32, at_least: u32) -> ToResourceManager {
    ToResourceManager::DeclareRequirements { job: job_id(), name: "test".to_owned(), slots, at_least }
}

#[test]
fn a_job_says_what_it_could_use_and_what_it_cannot_do_without() {
    let mut job = Harness::new(chain(&[4, 2], Partitioner::Hash), options());
    job.send(crate::JobMasterEvent::Start);
    let effects = job.coordinator(FromCoordinator::Opened(Ok(())));
    assert_eq!(to_resources(&effects), [declared(4, 1)]);
    assert_eq!(job.status(), JobStatus::Created, "nothing can run yet");
    assert_eq!(parallelism(&job), [4, 2]);
}

#[test]
fn with_all_slots_there_a_job_begins_at_once() {
    let mut job = job();
    let effects = job.grant(&[(1, 0), (1, 1), (2, 0), (2, 1)]);
    assert_eq!(to_task_managers(&effects), ["tm-1 start 0 [0, 1]", "tm-2 start 0 [0, 1]"]);
    assert_eq!((statuses(&effects), to_coordinator(&effects)), (vec![JobStatus::Running], vec![]));
}

#[test]
fn with_fewer_slots_a_job_begins_with_those_after_a_while() {
    let mut job = job();
    assert_eq!(to_task_managers(&job.grant(&[(1, 0)])), Vec::<String>::new());
    let wait = job.master.view().waiting.unwrap();
    assert_eq!((wait.needed, wait.granted), (1, 1));
    assert!(wait.reasons[0].contains("could run, and waits for more of the 4 slots"), "{:?}", wait.reasons);
    job.pass(STABILIZATION / 2);
    // Another one does not prolong the wait.
    job.grant(&[(2, 0)]);
    let effects = job.pass(STABILIZATION / 2);
    assert_eq!(to_task_managers(&effects), ["tm-1 start 0 [0]", "tm-2 start 0 [0]"]);
    // Sources divide their input among as many readers as there are.
    let reset = ToCoordinator::ResetTasks { tasks: Vec::new(), restored: None };
    assert_eq!(to_coordinator(&effects), [ToCoordinator::SetParallelism(vec![2, 2]), reset]);
    assert_eq!((parallelism(&job), job.status()), (vec![2, 2], JobStatus::Running));
    assert!(notes(&effects)[0].contains("runs with 2 slots: \"V0\" 4 -> 2"), "{:?}", notes(&effects));
    job.ready(0, 1);
    let effects = job.ready(0, 2);
    assert_eq!(to_task_managers(&effects), Vec::<String>::new(), "the coordinator has not answered");
    let effects = job.coordinator(FromCoordinator::TasksReset(Ok(())));
    let JobMasterEffect::TaskManager { message: ToTaskManager::Deploy { plan, .. }, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!((plan.placement.parallelism(), plan.job_graph_hash), (vec![2, 2], 42));
    assert!(job.master.view().waiting.is_none());
}

#[test]
fn a_job_that_does_not_get_what_it_cannot_do_without_says_so_and_fails_in_the_end() {
    let mut job = job();
    job.ask(2, 4).unwrap();
    job.grant(&[(1, 0)]);
    job.pass(WAIT - Duration::from_secs(1));
    let wait = job.master.view().waiting.unwrap();
    assert_eq!((wait.needed, wait.granted), (2, 1));
    assert!(wait.reasons[0].contains("needs 2 slots at least"), "{:?}", wait.reasons);
    let effects = job.pass(Duration::from_secs(1));
    let failure = report(&effects).failure.unwrap().failure.message;
    assert!(failure.contains("the job needs 2 and got 1") && failure.contains("resource-wait-timeout"), "{failure}");
}

/// Running with two of four slots, one on each of TaskManagers 1 and 2.
fn half(mut job: Harness) -> Harness {
    job.grant(&[(1, 0), (2, 0)]);
    job.pass(STABILIZATION);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    job.run(0, &[1, 2]);
    job
}

#[test]
fn a_job_grows_when_it_has_run_for_a_while_and_all_it_could_use_is_there() {
    let mut job = half(job());
    job.grant(&[(3, 0), (3, 1)]);
    assert_eq!(to_task_managers(&job.pass(COOLDOWN - Duration::from_secs(1))), Vec::<String>::new());
    let effects = job.pass(Duration::from_secs(1));
    assert_eq!(to_task_managers(&effects), ["tm-1 cancel 0 all", "tm-2 cancel 0 all"]);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert!(
        notes(&effects)[1].contains("no complete checkpoint, so it starts from the beginning"),
        "{:?}",
        notes(&effects)
    );
    let effects = job.stop(0);
    assert_eq!(statuses(&effects), [JobStatus::Running]);
    assert!(to_task_managers(&effects).iter().any(|message| message == "tm-3 start 1 [0, 1]"), "{effects:?}");
    assert_eq!(to_coordinator(&effects)[0], ToCoordinator::SetParallelism(vec![4, 4]));
    let view = job.master.view();
    assert_eq!((view.graph.parallelism(), view.restarts, view.scaling.unwrap().rescales), (vec![4, 4], 1, 1));
    assert!(view.failures.is_empty(), "it is no failure");
}

#[test]
fn with_a_part_of_what_it_could_use_a_running_job_waits_for_the_rest() {
    let mut job = half(job());
    job.pass(COOLDOWN);
    job.grant(&[(3, 0)]);
    assert_eq!(to_task_managers(&job.pass(Duration::from_secs(59))), Vec::<String>::new());
    let effects = job.pass(Duration::from_secs(1));
    assert_eq!(to_task_managers(&effects).len(), 2, "{effects:?}");
    job.stop(0);
    assert_eq!(parallelism(&job), [3, 3]);
}

#[test]
fn a_growth_that_is_too_small_is_not_worth_a_restart() {
    let adaptive = Some(AdaptiveOptions { min_increase: 3, ..AdaptiveOptions::default() });
    let mut job =
        half(Harness::new(chain(&[4, 4], Partitioner::Hash), JobMasterOptions { adaptive, ..options() }).waiting());
    job.grant(&[(3, 0)]);
    assert_eq!(job.pass(Duration::from_secs(1000)), []);
    job.grant(&[(3, 1)]);
    assert_eq!(job.status(), JobStatus::Restarting, "now it can have everything");
}

#[test]
fn a_job_that_takes_checkpoints_is_rescaled_from_an_aligned_one() {
    let mut job = half(job_with_checkpoints(options()));
    job.pass(COOLDOWN);
    let effects = job.grant(&[(3, 0), (3, 1)]);
    assert_eq!(to_coordinator(&effects), [ToCoordinator::SnapshotEnumerators { checkpoint: 1 }]);
    assert_eq!(job.status(), JobStatus::Running);
    let effects = job.acknowledge_all(0, 1);
    let alignments: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            JobMasterEffect::TaskManager { message: ToTaskManager::TriggerCheckpoint { trigger, .. }, .. } => {
                Some(trigger.alignment)
            }
            _ => None,
        })
        .collect();
    assert_eq!(alignments, [weir_checkpoint::Alignment::Aligned; 2]);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert!(notes(&effects)[0].contains("is rescaled: \"V0\" 2 -> 4"), "{:?}", notes(&effects));
    assert_eq!(notes(&effects).len(), 1, "nothing is lost: {effects:?}");
    let effects = job.stop(0);
    let ToCoordinator::ResetTasks { restored: Some(restored), .. } = to_coordinator(&effects).pop().unwrap() else {
        panic!("{effects:?}")
    };
    assert_eq!(restored.checkpoint, 1);
}

#[test]
fn a_job_whose_checkpoints_fail_is_rescaled_from_an_earlier_one_in_the_end() {
    let mut job = half(job_with_checkpoints(options()));
    job.pass(COOLDOWN);
    job.grant(&[(3, 0), (3, 1)]);
    let fail = |job: &mut Harness, checkpoint| {
        let result = Err("busy".to_owned());
        job.coordinator(FromCoordinator::EnumeratorsSnapshotted { checkpoint, result })
    };
    assert_eq!(statuses(&fail(&mut job, 1)), []);
    let effects = job.pass(Duration::from_secs(1));
    assert_eq!(to_coordinator(&effects), [ToCoordinator::SnapshotEnumerators { checkpoint: 2 }]);
    let effects = fail(&mut job, 2);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert!(notes(&effects)[0].contains("no checkpoint was complete in time"), "{:?}", notes(&effects));
}

#[test]
fn a_checkpoint_that_takes_too_long_is_not_waited_for() {
    let adaptive = AdaptiveOptions { max_delay: Some(Duration::from_secs(20)), ..AdaptiveOptions::default() };
    let mut job = half(job_with_checkpoints(JobMasterOptions { adaptive: Some(adaptive), ..options() }));
    job.pass(COOLDOWN);
    job.grant(&[(3, 0), (3, 1)]);
    assert_eq!(statuses(&job.pass(Duration::from_secs(19))), []);
    assert_eq!(statuses(&job.pass(Duration::from_secs(1))), [JobStatus::Restarting]);
}

#[test]
fn a_job_that_loses_a_task_manager_goes_on_with_what_is_left() {
    let mut job = half(job());
    let effects = job.lose(2);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    job.change(0, 1, task(0, 0), ExecutionState::Canceled);
    job.change(0, 1, task(1, 0), ExecutionState::Canceled);
    job.pass(Duration::ZERO);
    assert_eq!((job.status(), parallelism(&job)), (JobStatus::Restarting, vec![2, 2]));
    let effects = job.pass(STABILIZATION);
    assert_eq!(
        (statuses(&effects), to_task_managers(&effects)),
        (vec![JobStatus::Running], vec!["tm-1 start 1 [0]".to_owned()])
    );
    assert_eq!(parallelism(&job), [1, 1]);
}

#[test]
fn a_job_that_fails_begins_again_with_the_slots_it_has() {
    let mut job = half(job());
    job.fail(0, 1, task(0, 0));
    job.stop(0);
    let effects = job.pass(DELAY);
    assert_eq!(statuses(&effects), [JobStatus::Running], "there is nothing to wait for");
    assert_eq!(parallelism(&job), [2, 2]);
}

#[test]
fn what_somebody_asks_for_takes_effect_at_once() {
    let mut job = half(job());
    let effects = job.ask(1, 1).unwrap();
    assert_eq!(to_resources(&effects), [declared(1, 1)]);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    let effects = job.stop(0);
    assert_eq!(parallelism(&job), [1, 1]);
    let released: Vec<_> = to_resources(&effects);
    assert!(
        matches!(&released[..], [ToResourceManager::ReleaseSlots { slots, .. }] if slots.len() == 1),
        "{released:?}"
    );
    // More than there is: it grows as slots come.
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    job.run(1, &[job.place(task(0, 0))]);
    assert_eq!(to_resources(&job.ask(1, 3).unwrap()), [declared(3, 1)]);
    assert_eq!(job.status(), JobStatus::Running);
    let effects = job.grant(&[(4, 0), (4, 1)]);
    assert_eq!(statuses(&effects), [JobStatus::Restarting], "it was asked for, so it does not rest");
}

#[test]
fn a_job_that_runs_goes_on_if_what_is_asked_for_cannot_be_had() {
    let mut job = half(job());
    let effects = job.ask(3, 4).unwrap();
    assert_eq!(statuses(&effects), []);
    let wait = job.master.view().waiting.unwrap();
    assert!(wait.reasons[0].contains("3 slots at least; until they are there it goes on"), "{:?}", wait.reasons);
    let effects = job.grant(&[(3, 0)]);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    job.stop(0);
    assert_eq!(parallelism(&job), [3, 3]);
}

#[test]
fn requirements_that_cannot_be_are_refused_and_change_nothing() {
    let mut job = half(job());
    let before = job.master.view();
    let bounds = ParallelismBounds { lower: 1, upper: 1 };
    let [first, second] = job.vertices()[..] else { panic!() };
    let unknown = VertexId::from_seed(b"nobody");
    let check = |job: &mut Harness, of: &[VertexId], expect: &str| {
        let error = job.ask_for(&of.iter().map(|id| (*id, bounds)).collect()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&mut job, &[first], "nothing is said about the vertex");
    check(&mut job, &[first, second, unknown], &format!("has no vertex {unknown}"));
    assert!(job.ask(2, 1).unwrap_err().to_string().contains("must not be less than"));
    assert!(job.ask(1, 40_000).unwrap_err().to_string().contains("above its max-parallelism"));
    assert_eq!(job.master.view(), before);
    job.send(crate::JobMasterEvent::CancelRequested);
    assert_eq!(job.ask(1, 1).unwrap_err(), RescaleError::Ended(JobStatus::Cancelling));
    let mut fixed = harness(Partitioner::Hash, fixed_delay(9)).running();
    assert_eq!(fixed.ask(1, 1).unwrap_err(), RescaleError::NotAdaptive);
}

#[test]
fn a_job_is_canceled_while_it_waits_for_slots() {
    let mut never_run = job();
    let effects = never_run.send(crate::JobMasterEvent::CancelRequested);
    assert_eq!(report(&effects).status, JobStatus::Canceled);
    assert!(to_resources(&effects).contains(&declared(0, 0)));
    let mut lost = half(job());
    lost.lose(1);
    lost.lose(2);
    lost.pass(Duration::ZERO);
    assert_eq!(lost.status(), JobStatus::Restarting);
    assert!(lost.master.view().waiting.is_some());
    assert_eq!(report(&lost.send(crate::JobMasterEvent::CancelRequested)).status, JobStatus::Canceled);
}
