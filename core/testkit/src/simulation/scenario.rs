//! What is simulated: the cluster, its jobs and what goes wrong, drawn from the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::CheckpointOptions;
use weir_jobmaster::{AdaptiveOptions, FailoverStrategy, JobMasterOptions, RestartStrategy};
use weir_model::{JobEdge, JobGraph, JobId, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, VertexId};

use super::random::Random;

/// A cluster, its jobs and its troubles.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Slots of the TaskManagers that people start.
    pub(crate) by_hand: Vec<u32>,
    /// Resource providers, in order of preference.
    pub(crate) providers: Vec<ProviderScenario>,
    pub(crate) jobs: Vec<JobScenario>,
    /// When the last fault happens.
    pub(crate) calm_from: Duration,
    /// Mean time between faults of each kind; `None`: there are none.
    pub(crate) faults: FaultRates,
    /// Slots of a TaskManager that a provider starts.
    pub(crate) slots_per_worker: u32,
    pub(crate) redundant: u32,
    pub(crate) max_slots: Option<u32>,
    pub(crate) spread: bool,
    /// Whether the machines of the JobManager are told at once what concerns them, or have loops of their own.
    pub(crate) in_step: bool,
    /// How many of 1000 worker processes do not start, or die while they run.
    pub(crate) broken_workers: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct ProviderScenario {
    pub(crate) name: String,
    pub(crate) max_workers: Option<u32>,
    pub(crate) min_workers: u32,
    /// How many of 1000 starts fail.
    pub(crate) failing: u32,
    /// How many of 1000 starts take minutes.
    pub(crate) slow: u32,
    pub(crate) recovers: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct JobScenario {
    pub(crate) id: JobId,
    pub(crate) graph: Arc<JobGraph>,
    pub(crate) options: JobMasterOptions,
    pub(crate) checkpointing: CheckpointOptions,
    pub(crate) submit_at: Duration,
    pub(crate) cancel_at: Option<Duration>,
    /// When somebody asks for other numbers of subtasks.
    pub(crate) rescale_at: Vec<Duration>,
    /// Splits of all its sources together; without end for unbounded ones.
    pub(crate) splits: u32,
    /// Milliseconds that a task takes for a split at most.
    pub(crate) longest_split: u64,
    /// How many of 1000 attempts of tasks fail by themselves.
    pub(crate) failing: u32,
    /// How many of 1000 tasks do not stop when asked to.
    pub(crate) stubborn: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FaultRates {
    pub(crate) cut_connection: Option<Duration>,
    pub(crate) crash_task_manager: Option<Duration>,
    pub(crate) freeze_task_manager: Option<Duration>,
    pub(crate) kill_worker: Option<Duration>,
    pub(crate) kill_coordinator: Option<Duration>,
    pub(crate) provider_trouble: Option<Duration>,
    pub(crate) crash_job_manager: Option<Duration>,
    pub(crate) freeze_job_manager: Option<Duration>,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let by_hand = (0..random.between(0, 4)).map(|_| random.between(1, 4)).collect::<Vec<_>>();
        let least = u32::from(by_hand.is_empty());
        let providers = (0..random.between(least, 2)).map(|number| provider(random, number)).collect();
        let calm_from = random.millis(60_000, 600_000);
        let jobs = (1..=random.between(1, 6)).map(|number| job(random, number as u8, calm_from)).collect();
        Self {
            by_hand,
            providers,
            jobs,
            calm_from,
            faults: FaultRates::draw(random),
            slots_per_worker: random.between(1, 4),
            redundant: u32::from(random.chance(200)),
            max_slots: random.chance(200).then(|| random.between(4, 16)),
            spread: !random.chance(200),
            in_step: random.chance(500),
            broken_workers: *random.pick(&[0, 0, 20, 100]),
        }
    }

    /// Slots of TaskManagers that people start: those that are there when nothing goes wrong.
    pub(crate) fn standing_slots(&self) -> u32 {
        self.by_hand.iter().sum()
    }
}

fn provider(random: &mut Random, number: u32) -> ProviderScenario {
    ProviderScenario {
        name: ["first", "second"][number as usize].to_owned(),
        max_workers: random.chance(500).then(|| random.between(1, 6)),
        min_workers: if random.chance(200) { random.between(1, 2) } else { 0 },
        failing: *random.pick(&[0, 50, 300]),
        slow: *random.pick(&[0, 0, 50]),
        recovers: !random.chance(200),
    }
}

impl FaultRates {
    fn draw(random: &mut Random) -> Self {
        // A tenth of all seeds is spared, so that what goes wrong without faults is seen as such.
        if random.chance(100) {
            return Self::default();
        }
        let mut rate = |per_mille: u32| random.chance(per_mille).then(|| random.millis(2_000, 90_000));
        Self {
            cut_connection: rate(500),
            crash_task_manager: rate(500),
            freeze_task_manager: rate(400),
            kill_worker: rate(500),
            kill_coordinator: rate(400),
            provider_trouble: rate(400),
            crash_job_manager: rate(200),
            freeze_job_manager: rate(150),
        }
    }
}

fn job(random: &mut Random, number: u8, calm_from: Duration) -> JobScenario {
    let bounded = random.chance(750);
    let graph = graph(random, number, bounded);
    let cancels = !bounded || random.chance(150);
    JobScenario {
        id: JobId::from_bytes([number; 16]),
        graph: Arc::new(graph),
        options: options(random),
        checkpointing: checkpointing(random),
        submit_at: random.millis(0, calm_from.as_millis() as u64 * 8 / 10),
        cancel_at: cancels.then(|| random.millis(10_000, 900_000)),
        rescale_at: (0..random.between(0, 4)).map(|_| random.millis(1_000, 600_000)).collect(),
        splits: random.between(0, 30),
        longest_split: *random.pick(&[500, 5_000, 5_000, 30_000]),
        failing: *random.pick(&[0, 0, 30, 150]),
        stubborn: *random.pick(&[0, 0, 100]),
    }
}

fn options(random: &mut Random) -> JobMasterOptions {
    let second = Duration::from_secs(1);
    let strategies = [
        RestartStrategy::None,
        RestartStrategy::FixedDelay { attempts: random.between(1, 10), delay: second },
        RestartStrategy::FixedDelay { attempts: random.between(5, 20), delay: random.millis(0, 100) },
        RestartStrategy::FailureRate { max_failures_per_interval: 4, interval: 60 * second, delay: second },
        RestartStrategy::EXPONENTIAL_DELAY,
        RestartStrategy::EXPONENTIAL_DELAY,
    ];
    JobMasterOptions {
        restart_strategy: random.pick(&strategies).clone(),
        failover: if random.chance(800) { FailoverStrategy::Region } else { FailoverStrategy::Full },
        cancellation_timeout: (!random.chance(100)).then(|| random.millis(5_000, 180_000)),
        slot_request_timeout: random.millis(30_000, 300_000),
        seed: random.next(),
        adaptive: random.chance(400).then(|| adaptive(random)),
        ..JobMasterOptions::default()
    }
}

fn adaptive(random: &mut Random) -> AdaptiveOptions {
    AdaptiveOptions {
        wait_timeout: random.millis(30_000, 600_000),
        stabilization: random.millis(0, 20_000),
        cooldown: random.millis(0, 40_000),
        running_stabilization: random.millis(0, 60_000),
        min_increase: random.between(0, 3),
        max_checkpoint_failures: random.between(0, 3),
        max_delay: random.chance(300).then(|| random.millis(0, 30_000)),
    }
}

fn checkpointing(random: &mut Random) -> CheckpointOptions {
    let timeout = random.millis(2_000, 60_000);
    CheckpointOptions {
        interval: random.chance(700).then(|| random.millis(300, 20_000)),
        timeout,
        min_pause: if random.chance(200) { random.millis(0, 5_000) } else { Duration::ZERO },
        max_concurrent: *random.pick(&[1, 1, 3]),
        tolerable_failures: *random.pick(&[Some(0), Some(3), None]),
        retained: random.between(1, 2),
        directory: random.chance(500).then(|| "file:///checkpoints".to_owned()),
        after_tasks_finish: !random.chance(200),
        ..CheckpointOptions::default()
    }
}

fn graph(random: &mut Random, number: u8, bounded: bool) -> JobGraph {
    let wide = random.between(1, 5);
    let narrow = random.between(1, wide);
    let (parallelisms, edges): (Vec<u32>, Vec<(u32, u32, Partitioner)>) = match random.below(7) {
        0 => (vec![wide], vec![]),
        1 => (vec![wide, wide], vec![(0, 1, Partitioner::Forward)]),
        2 => (vec![narrow, wide], vec![(0, 1, Partitioner::Hash)]),
        3 => (vec![narrow, wide, narrow], vec![(0, 1, Partitioner::Rescale), (1, 2, Partitioner::Rescale)]),
        4 => (vec![narrow, wide, 1], vec![(0, 1, Partitioner::Rebalance), (1, 2, Partitioner::Global)]),
        5 => (vec![wide, narrow, wide, narrow], vec![(0, 2, Partitioner::Forward), (1, 3, Partitioner::Forward)]),
        _ => (
            vec![wide, narrow, wide, 1],
            vec![(0, 2, Partitioner::Forward), (1, 2, Partitioner::Hash), (2, 3, Partitioner::Hash)],
        ),
    };
    let mut graph = job_graph(&format!("job {number}"), &parallelisms, &edges, bounded);
    if random.chance(250)
        && let Some(last) = graph.vertices.last_mut()
    {
        last.slot_sharing_group = "other".to_owned();
    }
    graph
}

/// A graph of vertices `V0`, `V1`, … with these parallelisms and edges.
pub(crate) fn job_graph(
    name: &str,
    parallelisms: &[u32],
    edges: &[(u32, u32, Partitioner)],
    bounded: bool,
) -> JobGraph {
    let vertex = |(index, &parallelism): (usize, &u32)| {
        let name = format!("V{index}");
        let fed = edges.iter().any(|edge| edge.1 as usize == index);
        let feeds = edges.iter().any(|edge| edge.0 as usize == index);
        let source = (!fed).then_some(OperatorKind::Source { bounded });
        let sink = (!feeds).then_some(OperatorKind::Sink);
        let kinds: Vec<_> = match (source, sink) {
            (None, None) => vec![OperatorKind::Transform],
            (source, sink) => source.into_iter().chain(sink).collect(),
        };
        let operator = |(position, kind): (usize, OperatorKind)| OperatorInfo {
            id: OperatorId::from_seed(format!("{name}/{position}").as_bytes()),
            name: name.clone(),
            uid: None,
            kind,
        };
        let operators: Vec<_> = kinds.into_iter().enumerate().map(operator).collect();
        JobVertex {
            id: VertexId::from(operators[0].id),
            operators,
            name,
            parallelism,
            max_parallelism: 32_768,
            slot_sharing_group: "default".to_owned(),
        }
    };
    let edge = |(position, (source, target, partitioner)): (usize, &(u32, u32, Partitioner))| JobEdge {
        source: *source,
        source_port: 0,
        target: *target,
        target_input: edges[..position].iter().filter(|edge| edge.1 == *target).count() as u32,
        partitioner: partitioner.clone(),
        record_type: "u64".to_owned(),
    };
    JobGraph {
        name: name.to_owned(),
        vertices: parallelisms.iter().enumerate().map(vertex).collect(),
        edges: edges.iter().enumerate().map(edge).collect(),
        config: BTreeMap::new(),
    }
}
