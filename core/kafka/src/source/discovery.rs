//! Finds the partitions to be read, at the start and later on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Settings;
use super::split::PartitionSplit;
use crate::client::{Client, OffsetAt, TopicPartition};
use crate::error::KafkaError;

/// Which topics are read.
#[derive(Debug, Clone)]
pub(super) enum Subscription {
    Topics(Vec<String>),
    /// Of names, with `*`, `?` and `[...]`.
    Pattern(glob::Pattern),
}

impl Subscription {
    /// The partitions there are now.
    fn partitions(&self, client: &mut Client) -> Result<BTreeSet<TopicPartition>, KafkaError> {
        let topics = match self {
            Subscription::Topics(names) => client.topics(&names.iter().map(String::as_str).collect::<Vec<_>>())?,
            Subscription::Pattern(pattern) => {
                let mut topics = client.all_topics()?;
                topics.retain(|name, _| pattern.matches(name));
                topics
            }
        };
        let of_topic = |(name, partitions): (&String, &BTreeMap<i32, Option<i32>>)| {
            let name: Arc<str> = name.as_str().into();
            partitions.keys().map(|partition| TopicPartition::new(Arc::clone(&name), *partition)).collect::<Vec<_>>()
        };
        Ok(topics.iter().flat_map(of_topic).collect())
    }
}

/// The splits of partitions that are not in `known`. Those of the job's start begin where it was told to; those that appear later begin with
/// their first record, as nothing in them has been read.
pub(super) fn find(
    client: &mut Client,
    settings: &Settings,
    known: &BTreeSet<TopicPartition>,
    at_start: bool,
) -> Result<Vec<PartitionSplit>, KafkaError> {
    let there = settings.subscription.partitions(client)?;
    let new: Vec<TopicPartition> = there.difference(known).cloned().collect();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let start = if at_start { settings.start } else { OffsetAt::Earliest };
    let mut positions = client.offsets(&new, start, settings.committed)?;
    if at_start {
        for (partition, position) in &settings.start_at {
            match positions.get_mut(partition) {
                Some(found) => *found = *position,
                None if !known.contains(partition) => return Err(no_partition(partition, &there)),
                None => {}
            }
        }
    }
    let stops = match settings.until {
        Some(at) => client.offsets(&new, at, settings.committed)?,
        None => BTreeMap::new(),
    };
    let split = |(id, position): (TopicPartition, i64)| PartitionSplit {
        stop: stops.get(&id).copied(),
        topic: id.topic.to_string(),
        partition: id.partition,
        position,
    };
    Ok(positions.into_iter().map(split).collect())
}

fn no_partition(one: &TopicPartition, there: &BTreeSet<TopicPartition>) -> KafkaError {
    KafkaError::NoPartition {
        topic: one.topic.to_string(),
        partition: one.partition,
        partitions: there.iter().filter(|other| other.topic == one.topic).count(),
    }
}

/// A thread that looks for new partitions, until it is dropped.
#[derive(Debug)]
pub(super) struct Discovery {
    found: Arc<Mutex<Vec<PartitionSplit>>>,
    _stop: Sender<()>,
}

impl Discovery {
    pub(super) fn start(
        client: Client,
        settings: Settings,
        known: BTreeSet<TopicPartition>,
        interval: Duration,
    ) -> std::io::Result<Discovery> {
        let (stop, stopped) = channel();
        let found = Arc::default();
        let into = Arc::clone(&found);
        thread::Builder::new()
            .name("weir-kafka-discovery".to_owned())
            .spawn(move || discover(client, &settings, known, interval, &stopped, &into))?;
        Ok(Discovery { found, _stop: stop })
    }

    /// What was found since the last call.
    pub(super) fn take(&self) -> Vec<PartitionSplit> {
        std::mem::take(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn discover(
    mut client: Client,
    settings: &Settings,
    mut known: BTreeSet<TopicPartition>,
    interval: Duration,
    stopped: &Receiver<()>,
    into: &Mutex<Vec<PartitionSplit>>,
) {
    let mut failing = false;
    while matches!(stopped.recv_timeout(interval), Err(RecvTimeoutError::Timeout)) {
        match find(&mut client, settings, &known, false) {
            Ok(new) => {
                failing = false;
                known.extend(new.iter().map(PartitionSplit::id));
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
            }
            // Readers notice what keeps them from reading; new partitions can wait.
            Err(error) if !failing => {
                failing = true;
                eprintln!("looking for new partitions of {}: {error}; trying again", settings.describe());
            }
            Err(_) => {}
        }
    }
}
