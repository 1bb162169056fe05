//! Windows that give records which come too late to a side output; the records themselves cross the exchange.

use std::hash::Hash;

use super::operator::{Clock, WindowTable};
use super::{TimeOf, WindowLogic, WindowOptions};
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::operator::{Collector, Flush, Operator, OperatorContext};
use crate::operators::KeyOf;
use crate::process::{OutputTag, SideOutputs, WithSideOutputs};
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;

/// Keeps windows of records and fires them; those that come too late go to a side output.
pub struct LateWindowOperator<In, K, F, T, L: WindowLogic<K, In>> {
    key_of: F,
    time_of: T,
    table: WindowTable<In, K, L>,
    late: OutputTag<In>,
    sides: SideOutputs,
    /// If windows are of the clock's time.
    clock: Option<Clock>,
}

impl<In, K, F, T, L> LateWindowOperator<In, K, F, T, L>
where
    K: Record + Clone + Eq + Hash,
    T: TimeOf<In>,
    L: WindowLogic<K, In>,
{
    /// Computes `logic` over the windows of `options`; what comes too late goes to `late`.
    pub fn new(key_of: F, time_of: T, logic: L, options: WindowOptions, late: OutputTag<In>) -> Self {
        let clock = T::PROCESSING.then(Clock::default);
        let table = WindowTable::new(logic, options);
        LateWindowOperator { key_of, time_of, table, late, sides: SideOutputs::default(), clock }
    }
}

impl<In, K, F, T, L> Clone for LateWindowOperator<In, K, F, T, L>
where
    K: Record + Clone + Eq + Hash,
    F: Clone,
    T: TimeOf<In>,
    L: WindowLogic<K, In>,
{
    fn clone(&self) -> Self {
        let WindowTable { logic, options, .. } = &self.table;
        let table = WindowTable::new(logic.clone(), *options);
        LateWindowOperator {
            key_of: self.key_of.clone(),
            time_of: self.time_of.clone(),
            table,
            late: self.late.clone(),
            sides: self.sides.clone(),
            clock: self.clock.clone(),
        }
    }
}

impl<In, K, F, T, L: WindowLogic<K, In>> WithSideOutputs for LateWindowOperator<In, K, F, T, L> {
    fn sides(&mut self) -> &mut SideOutputs {
        &mut self.sides
    }
}

impl<In, K, F, T, L> Operator<In> for LateWindowOperator<In, K, F, T, L>
where
    In: Record,
    K: Record + Clone + Eq + Hash,
    F: KeyOf<In, K>,
    T: TimeOf<In>,
    L: WindowLogic<K, In>,
{
    type Out = L::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        WindowTable::<In, K, L>::declare(state);
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.sides.open(context.task)?;
        self.table.open(context)
    }

    #[inline(always)]
    fn process<C: Collector<L::Out>>(&mut self, record: In, out: &mut C) {
        let key = (self.key_of)(&record);
        let time = match &mut self.clock {
            Some(clock) => clock.now(&mut self.table),
            None => self.time_of.time(&record),
        };
        if self.table.is_late(&key, time) {
            self.sides.push(&self.late, record);
            return;
        }
        let part = self.table.logic.first(record);
        self.table.add(key, time, part, out);
    }

    fn watermark<C: Collector<L::Out>>(&mut self, time: EventTime, out: &mut C) {
        if self.clock.is_none() {
            self.table.advance(time, out);
        }
    }

    fn processing_time<C: Collector<L::Out>>(&mut self, now: EventTime, out: &mut C) -> EventTime {
        self.table.measure(now);
        let Some(clock) = &mut self.clock else { return EventTime::MAX };
        clock.fire(now, &mut self.table, out)
    }

    fn flush<C: Collector<L::Out>>(&mut self, _why: Flush, _out: &mut C) {
        if let Some(clock) = &mut self.clock {
            clock.pause();
        }
    }

    fn end<C: Collector<L::Out>>(&mut self, out: &mut C) {
        self.table.end(out);
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.table.snapshot(snapshot);
    }

    fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        self.table.snapshot_step(snapshot)
    }

    fn checkpoint_ended(&mut self, checkpoint: u64, _completed: bool) {
        self.table.checkpoint_ended(checkpoint);
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.sides)
    }
}
