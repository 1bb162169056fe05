//! The driver's side of the source.

use weir::source::{EnumeratorContext, NextSplit, SourceError, SplitEnumerator};

use super::Settings;
use super::assignment::Assignment;
use super::discovery::{self, Discovery};
use super::split::KafkaSplit;
use crate::client::Client;

/// Finds partitions and hands them out.
#[derive(Debug)]
pub struct KafkaEnumerator {
    assignment: Assignment,
    discovery: Option<Discovery>,
}

impl KafkaEnumerator {
    pub(super) fn new(settings: &Settings, context: &EnumeratorContext) -> Result<KafkaEnumerator, SourceError> {
        let bounded = settings.until.is_some();
        let mut assignment = match &context.restored {
            None => Assignment::new(context.parallelism, bounded),
            Some(bytes) => Assignment::restore(bytes, context.parallelism, bounded).map_err(|reason| {
                SourceError::new(format!("{}: the state to be restored cannot be read: {reason}", settings.describe()))
            })?,
        };
        let mut client = Client::connect(&settings.cluster).map_err(SourceError::new)?;
        // A restored bounded source has all the partitions it will ever have.
        if context.restored.is_none() || !bounded {
            let at_start = context.restored.is_none();
            let found = discovery::find(&mut client, settings, &assignment.known(), at_start);
            assignment.add_new(found.map_err(SourceError::new)?);
        }
        let interval = settings.discovery_interval.filter(|_| !bounded);
        let start = |interval| Discovery::start(client, settings.clone(), assignment.known(), interval);
        let discovery = interval.map(start).transpose().map_err(|error| {
            SourceError::new(format!("a thread for finding Kafka partitions cannot be started: {error}"))
        })?;
        Ok(KafkaEnumerator { assignment, discovery })
    }
}

impl SplitEnumerator for KafkaEnumerator {
    type Split = KafkaSplit;

    fn next_split(&mut self, subtask: u32) -> Result<NextSplit<KafkaSplit>, SourceError> {
        if let Some(discovery) = &self.discovery {
            self.assignment.add_new(discovery.take());
        }
        Ok(self.assignment.next(subtask))
    }

    fn add_back(&mut self, splits: Vec<KafkaSplit>) {
        self.assignment.add_back(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        Ok(self.assignment.encode())
    }
}
