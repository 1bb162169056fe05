//! The machine, event by event. `model.rs` has the same under random interleavings.

mod ends;
mod finished_tasks;
mod model;
mod output;
mod restarts;
mod retention;
mod savepoints;
mod triggering;

use std::time::Duration;

use weir_model::{Committable, DeclineCause, JobStatus, Partitioner, SnapshotMetrics, TaskId};

use super::CheckpointCoordinator;
use crate::testing::{JOB, job, operator, task};
use crate::{
    Acknowledgement, CheckpointEffect, CheckpointEvent, CheckpointJob, CheckpointOptions, CheckpointStatus, FileSlice,
    ListSnapshot, Location, OperatorSnapshot, Redistribution, Removal, RestorePoint, Schema, TaskSnapshot,
};

const DIRECTORY: &str = "file:///checkpoints";

/// A coordinator and its time.
struct Bench {
    coordinator: CheckpointCoordinator,
    now: Duration,
    deployment: u32,
    tasks: Vec<TaskId>,
}

fn options() -> CheckpointOptions {
    CheckpointOptions {
        interval: Some(Duration::from_secs(10)),
        directory: Some(DIRECTORY.to_owned()),
        savepoint_directory: Some("file:///savepoints".to_owned()),
        ..CheckpointOptions::default()
    }
}

/// Two sources, all connected with two sinks.
fn two_by_two() -> CheckpointJob {
    job(&[2, 2], &[(0, 1, Partitioner::Hash)])
}

impl Bench {
    /// All tasks run from time 1000 s.
    fn running(options: CheckpointOptions) -> Self {
        Self::running_job(two_by_two(), options)
    }

    fn running_job(job: CheckpointJob, options: CheckpointOptions) -> Self {
        options.validate().unwrap();
        let tasks = job.tasks().collect();
        let coordinator = CheckpointCoordinator::new(job, options);
        let mut bench = Self { coordinator, now: Duration::from_secs(1000), deployment: 0, tasks };
        bench.tell(CheckpointEvent::AllRunning);
        bench
    }

    fn tell(&mut self, event: CheckpointEvent) -> Vec<CheckpointEffect> {
        self.coordinator.on_event(event, self.now)
    }

    /// Lets time pass; the timer rings when it is due.
    fn wait(&mut self, seconds: u64) -> Vec<CheckpointEffect> {
        self.now += Duration::from_secs(seconds);
        self.tell(CheckpointEvent::Timer { generation: u64::MAX })
    }

    fn enumerated(&mut self, checkpoint: u64) -> Vec<CheckpointEffect> {
        self.tell(CheckpointEvent::EnumeratorsSnapshotted { checkpoint, result: Ok(vec![(0, vec![7])]) })
    }

    fn ack(&mut self, checkpoint: u64, task: TaskId) -> Vec<CheckpointEffect> {
        self.ack_with(checkpoint, task, &TaskSnapshot::default(), &[])
    }

    fn ack_with(
        &mut self,
        checkpoint: u64,
        task: TaskId,
        snapshot: &TaskSnapshot,
        output: &[u8],
    ) -> Vec<CheckpointEffect> {
        self.tell(CheckpointEvent::Acknowledged(Box::new(Acknowledgement {
            checkpoint,
            task,
            deployment: self.deployment,
            snapshot: snapshot.encode(),
            committables: prepared(task, output),
            metrics: SnapshotMetrics { state_size: 10, checkpointed_size: 4, ..SnapshotMetrics::default() },
        })))
    }

    fn decline(&mut self, checkpoint: u64, task: TaskId, cause: DeclineCause) -> Vec<CheckpointEffect> {
        self.decline_with(checkpoint, task, cause, &[])
    }

    fn decline_with(
        &mut self,
        checkpoint: u64,
        task: TaskId,
        cause: DeclineCause,
        output: &[u8],
    ) -> Vec<CheckpointEffect> {
        let (deployment, committables) = (self.deployment, prepared(task, output));
        let reason = "disk full".to_owned();
        self.tell(CheckpointEvent::Declined { checkpoint, task, deployment, cause, reason, committables })
    }

    fn finish(&mut self, task: TaskId, output: &[u8]) -> Vec<CheckpointEffect> {
        let (deployment, committables) = (self.deployment, prepared(task, output));
        self.tell(CheckpointEvent::TaskFinished { task, deployment, committables })
    }

    fn written(&mut self, checkpoint: u64) -> Vec<CheckpointEffect> {
        self.tell(CheckpointEvent::MetadataWritten { checkpoint, result: Ok(()) })
    }

    /// From its trigger to its metadata, with what each task prepared for output.
    fn acknowledge_all(&mut self, checkpoint: u64) -> Vec<CheckpointEffect> {
        self.enumerated(checkpoint);
        let tasks = self.tasks.clone();
        tasks.into_iter().flat_map(|task| self.ack(checkpoint, task)).collect()
    }

    /// A checkpoint by interval, from beginning to end.
    fn complete_next(&mut self) -> (u64, Vec<CheckpointEffect>) {
        self.wait(10);
        let checkpoint = self.coordinator.last_checkpoint();
        let effects = self.acknowledge_all(checkpoint);
        assert!(matches!(effects[..], [CheckpointEffect::WriteMetadata { .. }]), "{effects:?}");
        (checkpoint, self.written(checkpoint))
    }

    fn interrupt(&mut self, tasks: &[TaskId]) -> Vec<CheckpointEffect> {
        self.tell(CheckpointEvent::Interrupted { tasks: tasks.to_vec(), reason: "worker 3 was killed".to_owned() })
    }

    /// All tasks fail and run again.
    fn restart(&mut self) -> Vec<CheckpointEffect> {
        let effects = self.interrupt(&[]);
        self.deployment += 1;
        self.tell(CheckpointEvent::Redeployed { deployment: self.deployment, tasks: Vec::new() });
        self.tell(CheckpointEvent::AllRunning);
        effects
    }

    fn end(&mut self, status: JobStatus) -> Vec<CheckpointEffect> {
        self.tell(CheckpointEvent::Ended { status })
    }

    fn status(&self, checkpoint: u64) -> CheckpointStatus {
        let view = self.coordinator.view();
        view.history.into_iter().find(|view| view.id == checkpoint).expect("it began").status
    }
}

fn prepared(task: TaskId, output: &[u8]) -> Vec<Committable> {
    output.iter().map(|&byte| Committable { node: task.vertex, payload: vec![byte] }).collect()
}

/// A snapshot with state in these files.
fn snapshot_in(task: TaskId, files: &[&str]) -> TaskSnapshot {
    let list = |file: &&str| ListSnapshot {
        name: "positions".to_owned(),
        schema: Schema::Unsigned(8),
        redistribution: Redistribution::Split,
        lengths: vec![1],
        location: Location::File(FileSlice { uri: (*file).into(), offset: 0, length: 1, checksum: 0 }),
        items: 0..1,
    };
    let operator = OperatorSnapshot {
        operator: operator(task.vertex),
        tables: Vec::new(),
        lists: files.iter().map(list).collect(),
    };
    TaskSnapshot { operators: vec![operator], finished: false }
}

fn triggered(effects: &[CheckpointEffect]) -> Vec<(u64, Vec<TaskId>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            CheckpointEffect::Trigger { trigger, tasks } => Some((trigger.checkpoint, tasks.clone())),
            _ => None,
        })
        .collect()
}

/// Checkpoints whose enumerators are asked for: those that begin.
fn begun(effects: &[CheckpointEffect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            CheckpointEffect::SnapshotEnumerators { checkpoint } => Some(*checkpoint),
            _ => None,
        })
        .collect()
}

fn aborted(effects: &[CheckpointEffect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            CheckpointEffect::Aborted { checkpoint, .. } => Some(*checkpoint),
            _ => None,
        })
        .collect()
}

fn committed(effects: &[CheckpointEffect]) -> Vec<u8> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            CheckpointEffect::Commit { committables, .. } => Some(payloads(committables)),
            _ => None,
        })
        .flatten()
        .collect()
}

fn payloads(committables: &[Committable]) -> Vec<u8> {
    committables.iter().map(|committable| committable.payload[0]).collect()
}

fn removed(effects: &[CheckpointEffect]) -> Vec<Removal> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            CheckpointEffect::Remove { items, .. } => Some(items.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

fn failed_job(effects: &[CheckpointEffect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        CheckpointEffect::FailJob { reason } => Some(reason.clone()),
        _ => None,
    })
}

fn done(effects: &[CheckpointEffect], request: u64) -> Option<Result<Option<String>, String>> {
    effects.iter().find_map(|effect| match effect {
        CheckpointEffect::RequestDone { request: found, result } if *found == request => {
            Some(result.clone().map(|outcome| outcome.path))
        }
        _ => None,
    })
}

fn has(effects: &[CheckpointEffect], expect: &CheckpointEffect) -> bool {
    effects.contains(expect)
}

fn chk(checkpoint: u64) -> String {
    format!("{DIRECTORY}/{JOB}/chk-{checkpoint}")
}

fn shared(name: &str) -> String {
    format!("{DIRECTORY}/{JOB}/shared/{name}")
}

/// Number and output to commit of what the job would be restored from.
fn restore_point(bench: &Bench) -> (u64, Vec<u8>) {
    match bench.coordinator.restore_point() {
        RestorePoint::Checkpoint { checkpoint, committables } => {
            (checkpoint.metadata.checkpoint, payloads(&committables))
        }
        other => panic!("{other:?}"),
    }
}
