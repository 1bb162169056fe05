//! Checkpoints whose barriers overtake data.
//!
//! Each worker knows from its triggers when alignment has taken too long, and every task takes its snapshot then, whether a barrier
//! has reached it or not: what its channels deliver until their barriers come is recorded (see [`crate::in_flight`]). A barrier that
//! overtook data upstream makes a task do so even before. To come to its snapshot soon, a task stops between two records of a
//! batch, and its channels take somewhat more than they have room for: nothing else could overtake what a task is waiting to send.

use std::time::Instant;

use weir_model::{OperatorId, SnapshotMetrics};

use super::checkpoints::TaskCheckpoints;
use super::restore::in_flight_list;
use crate::element::Barrier;
use crate::failure::TaskError;
use crate::in_flight::Overtaken;
use crate::operator::Stage;

/// Why all channels of a task may be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Released;

impl TaskCheckpoints {
    /// Looks up from the records, if something asks for it: takes a snapshot whose barrier overtakes data, hands over what was
    /// recorded for one, tells the gates of checkpoints that were given up. `inputs`: the gates by input, and whatever merges them.
    #[inline]
    pub(crate) fn look<T>(
        &mut self,
        inputs: &mut [&mut dyn Overtaken],
        stage: &mut impl Stage<T>,
    ) -> Result<Option<Released>, TaskError> {
        if self.given_up.is_empty() && !self.task.is_urgent() {
            return Ok(None);
        }
        self.look_up(inputs, stage)
    }

    #[cold]
    fn look_up<T>(
        &mut self,
        inputs: &mut [&mut dyn Overtaken],
        stage: &mut impl Stage<T>,
    ) -> Result<Option<Released>, TaskError> {
        // First, so that whatever becomes urgent meanwhile is looked for again.
        self.calm_down();
        let mut released = None;
        for checkpoint in std::mem::take(&mut self.given_up) {
            inputs.iter_mut().for_each(|input| input.give_up(checkpoint));
            released = Some(Released);
        }
        if let Some(barrier) = self.overtaking(inputs) {
            let overtaken: Vec<_> = inputs.iter_mut().map(|input| input.overtake(barrier.checkpoint)).collect();
            let since = overtaken.iter().filter_map(|input| input.since).min().unwrap_or_else(Instant::now);
            let recording = overtaken.iter().filter(|input| input.records).count() as u32;
            let metrics = SnapshotMetrics { alignment: since.elapsed(), ..SnapshotMetrics::default() };
            self.begin(barrier, metrics, Some((since, recording)), stage);
            released = Some(Released);
        }
        self.take_recorded(inputs)?;
        Ok(released)
    }

    /// Takes over what has been recorded completely.
    pub(crate) fn take_recorded(&mut self, inputs: &mut [&mut dyn Overtaken]) -> Result<(), TaskError> {
        for (input, gate) in (0..).zip(inputs) {
            let Some(data) = gate.take_recorded()? else { continue };
            if let Some(head) = self.head()
                && let Some(current) = &mut self.current
                && current.barrier().checkpoint == data.checkpoint
            {
                current.add_in_flight(head, in_flight_list(input), data);
            }
        }
        self.finish_if_complete();
        Ok(())
    }

    /// The barrier that overtakes data now: one that has come as such, or whose checkpoint has taken too long.
    fn overtaking(&self, inputs: &[&mut dyn Overtaken]) -> Option<Barrier> {
        if self.is_stopping() || self.runtime.plan().options.at_least_once || self.head().is_none() {
            return None;
        }
        let triggers = self.runtime.triggers();
        let announced = inputs.iter().filter_map(|input| input.announced());
        let announced =
            announced.filter(|barrier| barrier.checkpoint > self.last && !triggers.is_over(barrier.checkpoint));
        let overdue = triggers.overtaking(self.last).map(|trigger| Barrier {
            checkpoint: trigger.checkpoint,
            timestamp: trigger.timestamp,
            aligned: false,
            kind: trigger.kind,
        });
        let barrier = announced.chain(overdue).max_by_key(|barrier| barrier.checkpoint)?;
        inputs.iter().all(|input| input.may_overtake(barrier.checkpoint)).then_some(barrier)
    }

    /// The operator whose state the data in flight counts as.
    fn head(&self) -> Option<OperatorId> {
        self.runtime.head_operator(self.task.id())
    }

    /// Nothing is urgent until a barrier comes that overtakes data, or one begins to.
    pub(super) fn calm_down(&mut self) {
        self.task.calm_down();
        if !self.runtime.plan().options.at_least_once
            && let Some(at) = self.runtime.triggers().next_overtaking(self.last)
        {
            self.task.hurry(at);
        }
    }
}
