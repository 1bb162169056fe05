//! Random interleavings of everything that can happen, against a model of tasks, storage and sinks.
//!
//! Tasks process records, one by one; each task's sinks prepare every record. Barriers reach tasks in any order that channels allow,
//! acknowledgements travel, tasks finish, fail and start again, storage refuses to write, commits fail or their outcome is lost.
//! What is checked after every step stands in `World::check`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::{CheckpointMetadata, StopMode};

const PIPELINES: u32 = 2;

/// A seeded sequence that looks random.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A task of the model. Its state is the number of records it has processed; it refers to a shared file that it replaces from time
/// to time.
#[derive(Debug, Clone, Default)]
struct Task {
    up: bool,
    finished: bool,
    processed: u32,
    /// Prepared and not handed over: records.
    prepared: Vec<u32>,
    deployment: u32,
    /// Barriers that will come to it, in order.
    barriers: VecDeque<Barrier>,
    /// Its shared file in each checkpoint it has a part in.
    files: BTreeMap<u64, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Barrier {
    checkpoint: u64,
    base: Option<u64>,
    directory: String,
}

struct World {
    seed: u64,
    dice: Dice,
    bench: Bench,
    tasks: Vec<Task>,
    deployment: u32,
    /// On their way to the coordinator, by task, in order; each with the deployment it is of.
    messages: Vec<VecDeque<CheckpointEvent>>,
    /// Barriers to begin, on their way to tasks, by task, in order.
    notices: Vec<VecDeque<Barrier>>,
    /// Asked of the coordinator process and of storage, in order.
    io: VecDeque<CheckpointEffect>,
    enumerating: VecDeque<u64>,
    files: BTreeSet<String>,
    metadata: BTreeMap<String, Vec<u8>>,
    /// Records that became visible: task, record, deployment of the attempt that prepared it; and how often they were committed.
    visible: BTreeMap<(u32, u32, u32), u32>,
    /// Numbers of complete checkpoints, in the order they completed.
    completed: Vec<u64>,
    begun: u64,
    /// Folders of complete savepoints.
    savepoints: BTreeSet<String>,
    /// Whether files have changed since they were last looked at.
    changed: bool,
    stopped: bool,
    ended: bool,
    restores: u32,
    failed_commits: u32,
    requests: BTreeSet<u64>,
    next_request: u64,
    next_file: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let job = job(&[PIPELINES, PIPELINES], &[(0, 1, Partitioner::Forward)]);
        let options = CheckpointOptions {
            max_concurrent: 1 + dice.below(3) as u32,
            retained: 1 + dice.below(2) as u32,
            tolerable_failures: if dice.one_in(2) { None } else { Some(1) },
            min_pause: Duration::from_secs(dice.below(2) as u64),
            interval: Some(Duration::from_secs(2)),
            timeout: Duration::from_secs(20),
            ..options()
        };
        let bench = Bench::running_job(job, options);
        let count = bench.tasks.len();
        Self {
            seed,
            dice,
            tasks: vec![Task { up: true, ..Task::default() }; count],
            deployment: 0,
            messages: vec![VecDeque::new(); count],
            notices: vec![VecDeque::new(); count],
            io: VecDeque::new(),
            enumerating: VecDeque::new(),
            files: BTreeSet::new(),
            metadata: BTreeMap::new(),
            visible: BTreeMap::new(),
            completed: Vec::new(),
            begun: 0,
            savepoints: BTreeSet::new(),
            changed: false,
            stopped: false,
            ended: false,
            restores: 0,
            failed_commits: 0,
            requests: BTreeSet::new(),
            next_request: 0,
            next_file: 0,
            bench,
        }
    }

    fn write_shared_file(&mut self) -> String {
        self.next_file += 1;
        let file = shared(&format!("{}", self.next_file));
        self.files.insert(file.clone());
        file
    }

    fn tell(&mut self, event: CheckpointEvent) {
        let effects = self.bench.tell(event);
        for effect in effects {
            self.perform(effect);
        }
        self.check();
    }

    fn perform(&mut self, effect: CheckpointEffect) {
        match effect {
            CheckpointEffect::SnapshotEnumerators { checkpoint } => {
                assert!(checkpoint > self.begun, "numbers only grow");
                self.begun = checkpoint;
                self.enumerating.push_back(checkpoint);
            }
            CheckpointEffect::Trigger { trigger, tasks } => {
                for task in tasks {
                    let index = self.index(task);
                    let directory = trigger.directory.clone().expect("all have folders");
                    let barrier = Barrier { checkpoint: trigger.checkpoint, base: trigger.base, directory };
                    self.notices[index].push_back(barrier);
                }
            }
            CheckpointEffect::Completed { checkpoint } => {
                self.completed.push(checkpoint);
            }
            // Tasks may take their part in it nonetheless.
            CheckpointEffect::Aborted { .. } => {}
            CheckpointEffect::WriteMetadata { .. }
            | CheckpointEffect::Commit { .. }
            | CheckpointEffect::Remove { .. } => {
                self.io.push_back(effect);
            }
            CheckpointEffect::FailJob { .. } => self.interrupt(None),
            CheckpointEffect::RequestDone { request, result } => {
                let path = result.ok().and_then(|outcome| outcome.path);
                self.savepoints.extend(path.filter(|path| path.contains("savepoint-")));
                assert!(self.requests.remove(&request), "seed {}: answered twice", self.seed);
            }
            CheckpointEffect::Stopped { .. } => self.stopped = true,
            CheckpointEffect::ScheduleTimer { .. } => {}
        }
    }

    fn index(&self, task: TaskId) -> usize {
        (task.vertex * PIPELINES + task.subtask) as usize
    }

    fn task_id(&self, index: usize) -> TaskId {
        self.bench.tasks[index]
    }

    /// One thing happens.
    fn step(&mut self) {
        let task = self.dice.below(self.tasks.len());
        match self.dice.below(100) {
            0..15 => self.process(task),
            15..40 => self.notice(task),
            40..62 => self.barrier(task),
            62..82 => self.deliver(task),
            82..88 => self.perform_io(),
            88..93 => self.enumerate(),
            93..96 => {
                self.bench.now += Duration::from_secs(1);
                self.tell(CheckpointEvent::Timer { generation: u64::MAX });
            }
            96 => match self.dice.below(6) {
                0..3 => self.request(),
                3 => self.finish(task),
                _ => {}
            },
            97 => match self.dice.below(10) {
                0 => self.interrupt(None),
                1 => self.interrupt(Some(task as u32 % PIPELINES)),
                _ => {}
            },
            _ => self.restart(),
        }
    }

    fn process(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        if task.up && !task.finished && !self.stopped {
            task.processed += 1;
            task.prepared.push(task.processed);
        }
    }

    fn notice(&mut self, index: usize) {
        let Some(barrier) = self.notices[index].pop_front() else { return };
        if !self.tasks[index].up || self.tasks[index].finished {
            return;
        }
        self.send_barrier(index, barrier);
    }

    fn send_barrier(&mut self, index: usize, barrier: Barrier) {
        let barriers = &mut self.tasks[index].barriers;
        if !barriers.contains(&barrier) {
            barriers.push_back(barrier);
        }
    }

    /// The next barrier reaches a task: it snapshots, and sends the barrier on.
    fn barrier(&mut self, index: usize) {
        if !self.tasks[index].up || self.tasks[index].finished {
            return;
        }
        let Some(barrier) = self.tasks[index].barriers.pop_front() else { return };
        let task = self.task_id(index);
        if task.vertex == 0 {
            self.send_barrier(self.index(TaskId { vertex: 1, ..task }), barrier.clone());
        }
        let Barrier { checkpoint, base, directory } = barrier;
        let (committables, deployment) = (self.hand_over(index), self.tasks[index].deployment);
        if self.dice.one_in(40) {
            let cause = if self.dice.one_in(2) { DeclineCause::Failed } else { DeclineCause::NotReady };
            let reason = "cannot".to_owned();
            let declined = CheckpointEvent::Declined { checkpoint, task, deployment, cause, reason, committables };
            return self.messages[index].push_back(declined);
        }
        let own = format!("{directory}/{}-{}", task.vertex, task.subtask);
        self.files.insert(own.clone());
        let mut files = vec![own];
        if !directory.contains("savepoint-") {
            // The file of its base may be referred to again; anything else is written anew.
            let old =
                base.and_then(|base| self.tasks[index].files.get(&base).cloned()).filter(|_| !self.dice.one_in(3));
            let file = old.unwrap_or_else(|| self.write_shared_file());
            self.tasks[index].files.insert(checkpoint, file.clone());
            files.push(file);
        }
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let mut snapshot = snapshot_in(task, &files);
        let count = self.tasks[index].processed;
        snapshot.operators[0].lists.push(ListSnapshot {
            name: "processed".to_owned(),
            schema: Schema::Unsigned(32),
            redistribution: Redistribution::Split,
            lengths: vec![4],
            location: Location::Inline(count.to_le_bytes().to_vec()),
            items: 0..1,
        });
        self.messages[index].push_back(CheckpointEvent::Acknowledged(Box::new(Acknowledgement {
            checkpoint,
            task,
            deployment,
            snapshot: snapshot.encode(),
            committables,
            metrics: SnapshotMetrics::default(),
        })));
    }

    fn hand_over(&mut self, index: usize) -> Vec<Committable> {
        let node = self.task_id(index).vertex;
        let deployment = self.tasks[index].deployment;
        let prepared = std::mem::take(&mut self.tasks[index].prepared);
        let payload = |record: u32| [index as u32, record, deployment].map(u32::to_le_bytes).concat();
        prepared.into_iter().map(|record| Committable { node, payload: payload(record) }).collect()
    }

    fn finish(&mut self, index: usize) {
        let id = self.task_id(index);
        let producer_runs = id.vertex == 1 && !self.tasks[self.index(TaskId { vertex: 0, ..id })].finished;
        // A consumer ends behind its producer and all barriers it has sent.
        if !self.tasks[index].up || self.tasks[index].finished || producer_runs {
            return;
        }
        if id.vertex == 1 && !self.tasks[index].barriers.is_empty() {
            return;
        }
        self.tasks[index].finished = true;
        let committables = self.hand_over(index);
        let deployment = self.tasks[index].deployment;
        self.messages[index].push_back(CheckpointEvent::TaskFinished { task: id, deployment, committables });
    }

    fn deliver(&mut self, index: usize) {
        if let Some(message) = self.messages[index].pop_front() {
            self.tell(message);
        }
    }

    fn enumerate(&mut self) {
        let Some(checkpoint) = self.enumerating.pop_front() else { return };
        let result = if self.dice.one_in(20) { Err("gone".to_owned()) } else { Ok(vec![(0, Vec::new())]) };
        self.tell(CheckpointEvent::EnumeratorsSnapshotted { checkpoint, result });
    }

    fn perform_io(&mut self) {
        let Some(effect) = self.io.pop_front() else { return };
        match effect {
            CheckpointEffect::WriteMetadata { checkpoint, uri, bytes } => {
                // A refusal may come although the file is there.
                let refused = self.dice.one_in(15);
                self.changed = true;
                if !refused || self.dice.one_in(2) {
                    self.metadata.insert(uri, bytes.to_vec());
                }
                let result = if refused { Err("refused".to_owned()) } else { Ok(()) };
                self.tell(CheckpointEvent::MetadataWritten { checkpoint, result });
            }
            CheckpointEffect::Commit { checkpoint, committables } => {
                let refused = self.dice.one_in(30);
                let count = if refused { self.dice.below(committables.len() + 1) } else { committables.len() };
                self.failed_commits += u32::from(refused);
                self.commit(&committables[..count]);
                let result = if refused { Err("refused".to_owned()) } else { Ok(()) };
                self.tell(CheckpointEvent::Committed { checkpoint, result });
            }
            CheckpointEffect::Remove { removal, items } => {
                let refused = self.dice.one_in(12);
                self.changed = true;
                for item in items.iter().take(if refused { items.len() / 2 } else { items.len() }) {
                    self.remove(item);
                }
                let result = if refused { Err("refused".to_owned()) } else { Ok(()) };
                self.tell(CheckpointEvent::Removed { removal, result });
            }
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, committables: &[Committable]) {
        for committable in committables {
            let number = |at: usize| u32::from_le_bytes(committable.payload[at..at + 4].try_into().unwrap());
            *self.visible.entry((number(0), number(4), number(8))).or_default() += 1;
        }
    }

    fn remove(&mut self, item: &Removal) {
        match item {
            Removal::File(uri) => {
                self.files.remove(uri);
                self.metadata.remove(uri);
            }
            Removal::Directory(uri) => {
                let inside = format!("{uri}/");
                self.files.retain(|file| !file.starts_with(&inside));
                self.metadata.retain(|file, _| !file.starts_with(&inside));
            }
        }
    }

    fn request(&mut self) {
        self.next_request += 1;
        let request = self.next_request;
        self.requests.insert(request);
        let event = match self.dice.below(4) {
            0 => CheckpointEvent::CheckpointRequested {
                request,
                full: self.dice.one_in(2),
                aligned: self.dice.one_in(4),
            },
            1 => CheckpointEvent::SavepointRequested { request, directory: None, stop: Some(StopMode::Suspend) },
            _ => CheckpointEvent::SavepointRequested { request, directory: None, stop: None },
        };
        self.tell(event);
    }

    /// Everything fails, or one of the pipelines, which are regions.
    fn interrupt(&mut self, pipeline: Option<u32>) {
        if pipeline.is_some() && self.tasks.iter().any(|task| !task.up) {
            return;
        }
        let mut tasks = Vec::new();
        for index in 0..self.tasks.len() {
            let task = self.task_id(index);
            if pipeline.is_some_and(|pipeline| pipeline != task.subtask) {
                continue;
            }
            tasks.push(task);
            self.tasks[index].up = false;
            // Some of what was on its way still comes.
            if self.dice.one_in(2) {
                self.messages[index].clear();
            }
            self.notices[index].clear();
        }
        self.tell(CheckpointEvent::Interrupted { tasks, reason: "killed".to_owned() });
    }

    fn restart(&mut self) {
        let down: Vec<_> = (0..self.tasks.len()).filter(|&index| !self.tasks[index].up).collect();
        if down.is_empty() {
            return;
        }
        let all = down.len() == self.tasks.len();
        self.deployment += 1;
        self.restores += 1;
        if all {
            // The coordinator process starts over as well: what it had not done yet it perhaps never will.
            if self.dice.one_in(2) {
                self.io.retain(|effect| !matches!(effect, CheckpointEffect::Commit { .. }));
            }
            self.enumerating.clear();
        }
        let point = self.bench.coordinator.restore_point();
        let tasks = down.iter().map(|&index| self.task_id(index)).collect();
        self.tell(CheckpointEvent::Redeployed { deployment: self.deployment, tasks });
        let mut metadata = None;
        let mut restored = Vec::new();
        if let RestorePoint::Checkpoint { checkpoint, committables } = &point {
            metadata = Some(self.readable(checkpoint));
            restored = committables.clone();
        }
        // It may be lost again before anything runs, with some of the output committed.
        let lost = self.dice.one_in(3);
        let count = if lost { self.dice.below(restored.len() + 1) } else { restored.len() };
        if all {
            self.commit(&restored[..count]);
        }
        if lost {
            return;
        }
        for index in down {
            let restored = metadata.as_ref().map(|metadata| self.state_in(metadata, index));
            let (processed, file, finished) = restored.unwrap_or_default();
            let files = metadata.iter().map(|metadata| metadata.checkpoint).zip(file).collect();
            self.tasks[index] = Task { up: true, processed, files, deployment: self.deployment, ..Task::default() };
            if finished {
                self.finish_restored(index);
            }
        }
        self.stopped = false;
        self.tell(CheckpointEvent::AllRunning);
    }

    fn finish_restored(&mut self, index: usize) {
        self.tasks[index].finished = true;
        let (task, deployment) = (self.task_id(index), self.deployment);
        self.messages[index].push_back(CheckpointEvent::TaskFinished { task, deployment, committables: Vec::new() });
    }

    /// Reads a checkpoint as a restore does: metadata and every file must be there.
    fn readable(&self, checkpoint: &crate::CompletedCheckpoint) -> CheckpointMetadata {
        let directory = checkpoint.directory.as_deref().expect("all have folders");
        let seed = self.seed;
        let bytes = self.metadata.get(&format!("{directory}/_metadata"));
        let bytes = bytes.unwrap_or_else(|| panic!("seed {seed}: {directory} has no metadata"));
        let metadata = CheckpointMetadata::decode(bytes, directory).unwrap();
        assert_eq!(metadata, *checkpoint.metadata, "seed {seed}");
        for file in metadata.files() {
            assert!(self.files.contains(&*file), "seed {seed}: {directory} refers to {file}, which was removed");
        }
        metadata
    }

    /// Records processed, shared file, and whether it had finished.
    fn state_in(&self, metadata: &CheckpointMetadata, index: usize) -> (u32, Option<String>, bool) {
        let task = self.task_id(index);
        let operator = &metadata.operators[task.vertex as usize];
        let finished = operator.finished.contains(&task.subtask);
        let Some(state) = operator.subtasks.iter().find(|state| state.subtask == task.subtask) else {
            assert!(finished, "seed {}", self.seed);
            // It will not process anything any more.
            return (self.tasks[index].processed, None, true);
        };
        let mut processed = 0;
        let file = state.lists.iter().find_map(|list| shared_file(&list.location));
        for list in &state.lists {
            if let Location::Inline(bytes) = &list.location {
                processed = u32::from_le_bytes(bytes[..].try_into().unwrap());
            }
        }
        (processed, file, finished)
    }

    /// What must hold after every step.
    fn check(&mut self) {
        let seed = self.seed;
        assert!(self.completed.is_sorted_by(|a, b| a < b), "seed {seed}: {:?}", self.completed);
        // Nothing is committed again unless something failed in between.
        if self.restores == 0 && self.failed_commits == 0 {
            assert!(self.visible.values().all(|&count| count == 1), "seed {seed}: committed twice");
        }
        if !std::mem::take(&mut self.changed) || self.ended {
            return;
        }
        // Every checkpoint the job could go on from is there as a whole, the newest above all.
        if let RestorePoint::Checkpoint { checkpoint, .. } = self.bench.coordinator.restore_point() {
            assert_eq!(Some(&checkpoint.metadata.checkpoint), self.completed.last(), "seed {seed}");
            self.readable(&checkpoint);
        } else {
            assert_eq!(self.completed, [], "seed {seed}: a complete checkpoint was forgotten");
        }
    }

    /// Everything settles, all tasks finish: every record any task has processed must be visible, and nothing else.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.restart();
            (0..self.tasks.len()).for_each(|index| {
                self.notice(index);
                self.barrier(index);
                self.deliver(index);
            });
            self.enumerate();
            self.perform_io();
        }
        self.stopped = false;
        while self.tasks.iter().any(|task| !task.finished || !task.up) || !self.io.is_empty() {
            self.restart();
            for index in 0..self.tasks.len() {
                self.notice(index);
                self.barrier(index);
                self.finish(index);
                while !self.messages[index].is_empty() {
                    self.deliver(index);
                }
            }
            self.enumerate();
            self.perform_io();
        }
        (0..self.tasks.len()).for_each(|index| {
            while !self.messages[index].is_empty() {
                self.deliver(index)
            }
        });
        let rest = self.bench.coordinator.take_uncommitted();
        self.commit(&rest);
        self.tell_end();
    }

    fn tell_end(&mut self) {
        let effects = self.bench.end(JobStatus::Finished);
        self.ended = true;
        effects.into_iter().for_each(|effect| self.perform(effect));
        while !self.io.is_empty() {
            self.perform_io();
        }
        let seed = self.seed;
        assert!(self.requests.is_empty(), "seed {seed}: never answered: {:?}", self.requests);
        for (index, task) in (0u32..).zip(&self.tasks) {
            // Each record once, of whichever attempt.
            let mine = self.visible.range((index, 0, 0)..=(index, u32::MAX, u32::MAX));
            let mine: Vec<_> = mine.map(|(&(_, record, _), _)| record).collect();
            let expect: Vec<_> = (1..=task.processed).collect();
            assert_eq!(mine, expect, "seed {seed}: task {index}");
        }
        for directory in &self.savepoints {
            let bytes = self.metadata.get(&format!("{directory}/_metadata"));
            let bytes = bytes.unwrap_or_else(|| panic!("seed {seed}: {directory} has no metadata"));
            let files = CheckpointMetadata::decode(bytes, directory).unwrap().files();
            let own = files.iter().all(|file| file.starts_with(directory) && self.files.contains(&**file));
            assert!(own, "seed {seed}: {directory} is not self-contained: {files:?}");
        }
    }
}

fn shared_file(location: &Location) -> Option<String> {
    match location {
        Location::File(slice) if slice.uri.contains("/shared/") => Some(slice.uri.to_string()),
        Location::File(_) | Location::Inline(_) | Location::Sorted => None,
    }
}

#[test]
fn no_interleaving_loses_a_checkpoint_a_file_or_output() {
    let (mut completed, mut restores, mut savepoints) = (0, 0, 0);
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        (0..500).for_each(|_| world.step());
        world.settle();
        completed += world.completed.len();
        restores += world.restores;
        savepoints += world.savepoints.len();
    }
    // Otherwise nothing would have been tested.
    let enough = completed > 4_000 && restores > 2_000 && savepoints > 500;
    assert!(enough, "{completed} checkpoints, {restores} restarts, {savepoints} savepoints");
}
