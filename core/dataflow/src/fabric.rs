//! The channels of one worker: makes the two ends of each edge meet, whether in this process or over the network.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use weir_model::{DistributionPattern, JobEdge, JobGraph, Placement};

use crate::channel::{ChannelWriter, Inbox};
use crate::net::{ChannelId, Network};
use crate::record::Record;
use crate::task::{TaskId, TaskShared};

type InboxKey = (TaskId, u32);

/// How channels are dimensioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Batches a channel inside the process holds before its producer waits.
    pub capacity: usize,
    /// A batch leaves when its records, or for another process their encoding, take about this many bytes.
    pub batch_bytes: usize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        ChannelOptions { capacity: 4, batch_bytes: 32 * 1024 }
    }
}

/// The workers that exchange data with worker `own`.
///
/// # Errors
/// The placement takes one end of a channel into the deployment and not the other; the message names the edge.
pub fn peers_of(graph: &JobGraph, placement: &Placement, own: u32) -> Result<BTreeSet<u32>, String> {
    let mut peers = BTreeSet::new();
    for edge in &graph.edges {
        let sources = placement.workers_of_vertex(edge.source);
        let targets = placement.workers_of_vertex(edge.target);
        let cut = || {
            let name = |vertex: u32| &graph.vertices[vertex as usize].name;
            format!(
                "the deployment holds only a part of what {:?} and {:?} exchange",
                name(edge.source),
                name(edge.target)
            )
        };
        peers_over(edge, sources, targets, own, &mut peers).ok_or_else(cut)?;
    }
    peers.remove(&own);
    Ok(peers)
}

/// Adds the peers over one edge; `None` if the placement cuts a channel.
fn peers_over(edge: &JobEdge, sources: &[u32], targets: &[u32], own: u32, peers: &mut BTreeSet<u32>) -> Option<()> {
    let absent = |worker: &u32| *worker == Placement::ABSENT;
    let pattern = edge.partitioner.pattern();
    if pattern == DistributionPattern::AllToAll {
        let ends = || sources.iter().chain(targets);
        if ends().any(absent) {
            return ends().all(absent).then_some(());
        }
        for (here, there) in [(sources, targets), (targets, sources)] {
            if here.contains(&own) {
                peers.extend(there);
            }
        }
        return Some(());
    }
    for (producer, source) in (0u32..).zip(sources) {
        for consumer in pattern.consumers(producer, sources.len() as u32, targets.len() as u32) {
            let target = &targets[consumer as usize];
            match (absent(source), absent(target)) {
                (true, true) => {}
                (false, false) if *source == own => drop(peers.insert(*target)),
                (false, false) if *target == own => drop(peers.insert(*source)),
                (false, false) => {}
                (true, false) | (false, true) => return None,
            }
        }
    }
    Some(())
}

/// All channels that start or end in one worker.
pub struct Fabric {
    graph: Arc<JobGraph>,
    placement: Placement,
    own: u32,
    network: Option<Network>,
    tasks: HashMap<TaskId, Arc<TaskShared>>,
    channels: ChannelOptions,
    /// Made by whichever end comes first; the record type of an edge is the same at both ends.
    inboxes: Mutex<HashMap<InboxKey, Arc<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fabric of worker {} ({} tasks)", self.own, self.tasks.len())
    }
}

impl Fabric {
    /// The channels of worker `own` for the `tasks` placed there. `network` is needed when there are other workers.
    pub fn new(
        graph: Arc<JobGraph>,
        placement: Placement,
        own: u32,
        network: Option<Network>,
        tasks: HashMap<TaskId, Arc<TaskShared>>,
        channels: ChannelOptions,
    ) -> Fabric {
        Fabric { graph, placement, own, network, tasks, channels, inboxes: Mutex::default() }
    }

    /// The tasks of this worker.
    pub fn tasks(&self) -> &HashMap<TaskId, Arc<TaskShared>> {
        &self.tasks
    }

    /// The inbox of input `input` of a task of this worker.
    pub fn inbox<T: Record>(&self, task: TaskId, input: u32) -> Arc<Inbox<T>> {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = inboxes.entry((task, input)).or_insert_with(|| self.make_inbox::<T>(task, input)).clone();
        drop(inboxes);
        inbox.downcast::<Inbox<T>>().unwrap_or_else(|_| unreachable!("both ends of an edge have the same record type"))
    }

    /// One writer for each consumer that producer `subtask` of `edge` is connected with.
    pub fn writers<T: Record>(&self, edge: u32, subtask: u32) -> Vec<ChannelWriter<T>> {
        let e = &self.graph.edges[edge as usize];
        let (producers, consumers) = (self.parallelism(e.source), self.parallelism(e.target));
        let pattern = e.partitioner.pattern();
        let writer = |consumer| {
            let task = TaskId { vertex: e.target, subtask: consumer };
            let worker = self.placement.worker_of(task);
            if worker != self.own {
                let id = ChannelId { edge, producer: subtask, consumer };
                let remote = self.network().sender(id, worker);
                return ChannelWriter::Remote(remote.with_batch_bytes(self.channels.batch_bytes));
            }
            let before = self.channels_before(edge, consumer);
            let first = pattern.producers(consumer, producers, consumers).start;
            ChannelWriter::local(self.inbox(task, e.target_input), before + subtask - first)
        };
        pattern.consumers(subtask, producers, consumers).map(writer).collect()
    }

    fn make_inbox<T: Record>(&self, task: TaskId, input: u32) -> Arc<dyn Any + Send + Sync> {
        let channels: u32 =
            self.edges_into(task.vertex, input).map(|e| self.producers_of(e, task.subtask).len() as u32).sum();
        let capacity = self.capacity_for(channels);
        let inbox = Inbox::<T>::new(channels as usize, capacity, self.tasks[&task].clone());
        let mut channel = 0;
        for edge in self.edges_into(task.vertex, input) {
            for producer in self.producers_of(edge, task.subtask) {
                let source = TaskId { vertex: self.graph.edges[edge as usize].source, subtask: producer };
                let worker = self.placement.worker_of(source);
                if worker != self.own {
                    let id = ChannelId { edge, producer, consumer: task.subtask };
                    let credit =
                        self.network().receiver(id, worker, inbox.clone(), channel, self.credits_for(channels));
                    inbox.set_credit_return(channel, credit);
                }
                channel += 1;
            }
        }
        inbox
    }

    /// Wide fan-in needs fewer batches per channel for the same flow; two keep a producer and a consumer busy at once.
    fn capacity_for(&self, channels: u32) -> usize {
        const BATCHES_PER_INBOX: usize = 512;
        (BATCHES_PER_INBOX / channels.max(1) as usize).clamp(2, self.channels.capacity.max(2))
    }

    /// Batches a producer in another process may have under way: eight times as many, to ride out the consumer's sleeps (32
    /// measured about twice as fast as 8), fewer where a wide fan-in has many producers anyway.
    fn credits_for(&self, channels: u32) -> u32 {
        const CREDITS_PER_INBOX: u32 = 1024;
        (CREDITS_PER_INBOX / channels.max(1)).clamp(2, (self.channels.capacity as u32).saturating_mul(8).max(2))
    }

    fn edges_into(&self, vertex: u32, input: u32) -> impl Iterator<Item = u32> + '_ {
        let into = move |e: &weir_model::JobEdge| e.target == vertex && e.target_input == input;
        self.graph.edges.iter().enumerate().filter(move |(_, e)| into(e)).map(|(i, _)| i as u32)
    }

    fn producers_of(&self, edge: u32, consumer: u32) -> std::ops::Range<u32> {
        let e = &self.graph.edges[edge as usize];
        e.partitioner.pattern().producers(consumer, self.parallelism(e.source), self.parallelism(e.target))
    }

    /// Number of the consumer's channels that belong to earlier edges of the same input.
    fn channels_before(&self, edge: u32, consumer: u32) -> u32 {
        let e = &self.graph.edges[edge as usize];
        self.edges_into(e.target, e.target_input)
            .take_while(|&other| other != edge)
            .map(|other| self.producers_of(other, consumer).len() as u32)
            .sum()
    }

    fn parallelism(&self, vertex: u32) -> u32 {
        self.graph.vertices[vertex as usize].parallelism
    }

    fn network(&self) -> &Network {
        self.network.as_ref().expect("a job with several workers has a network")
    }
}
