//! List state of a subtask: for functions whose state belongs to no key.

use std::fmt;
use std::marker::PhantomData;

use weir_checkpoint::Redistribution;

use super::listed::{Listed, ListedStates};
use crate::declaration::OperatorState;
use crate::failure::TaskError;
use crate::operator::OperatorContext;
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;

/// The list states of a subtask.
#[derive(Debug, Default)]
pub struct OperatorStates(ListedStates);

struct Items<T> {
    items: Vec<T>,
    redistribution: Redistribution,
}

impl<T: Record> Listed for Items<T> {
    fn declare(&self, name: &str, state: &mut OperatorState) {
        state.list::<T>(name, self.redistribution);
    }
    fn restore(&mut self, name: &str, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.items = context.restored_list(name)?;
        Ok(())
    }
    fn snapshot(&self, name: &str, snapshot: &mut OperatorSnapshotter<'_>) {
        snapshot.list(name, self.redistribution, &self.items);
    }
}

/// Declares list states. Each has a name of its own, by which it is found again in checkpoints.
#[derive(Debug)]
pub struct OperatorStateDeclarer<'a>(pub(crate) &'a mut OperatorStates);

impl OperatorStateDeclarer<'_> {
    /// A list whose items are dealt out evenly when a job is restored with another number of subtasks.
    pub fn list<T: Record>(&mut self, name: &str) -> OperatorListState<T> {
        self.add(name, Redistribution::Split)
    }

    /// A list of which every subtask gets the items of all subtasks when a job is restored. Each keeps those it is to go on with: what it leaves in
    /// its list is there once more for every subtask after the next restore.
    pub fn union_list<T: Record>(&mut self, name: &str) -> OperatorListState<T> {
        self.add(name, Redistribution::Union)
    }

    fn add<T: Record>(&mut self, name: &str, redistribution: Redistribution) -> OperatorListState<T> {
        let items = Items::<T> { items: Vec::new(), redistribution };
        OperatorListState { number: self.0.0.add("list", name, items), item: PhantomData }
    }
}

impl OperatorStates {
    /// Adds what `declare` declares to what is known of the operator's state.
    pub(crate) fn describe(state: &mut OperatorState, declare: impl FnOnce(&mut OperatorStateDeclarer<'_>)) {
        let mut states = OperatorStates::default();
        declare(&mut OperatorStateDeclarer(&mut states));
        states.0.declare(state);
    }

    /// The states that `declare` declares, as the checkpoint has them that the task begins with.
    pub(crate) fn open(
        context: &OperatorContext<'_>,
        declare: impl FnOnce(&mut OperatorStateDeclarer<'_>),
    ) -> Result<OperatorStates, TaskError> {
        let mut states = OperatorStates::default();
        declare(&mut OperatorStateDeclarer(&mut states));
        states.0.restore(context)?;
        Ok(states)
    }

    pub(crate) fn snapshot(&self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.0.snapshot(snapshot);
    }
}

/// What gives access to the list states of a subtask.
pub trait OperatorStateAccess {
    /// The states.
    fn operator_states(&self) -> &OperatorStates;
    /// The states, to change them.
    fn operator_states_mut(&mut self) -> &mut OperatorStates;
}

/// A list that belongs to a subtask. All of it is written in the synchronous part of a checkpoint, so it should not be large.
pub struct OperatorListState<T> {
    number: usize,
    item: PhantomData<fn(T)>,
}

/// A handle of no state, until [`declare`](OperatorStateDeclarer::list) gives one.
impl<T> Default for OperatorListState<T> {
    fn default() -> Self {
        OperatorListState { number: usize::MAX, item: PhantomData }
    }
}

impl<T> Clone for OperatorListState<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OperatorListState<T> {}

impl<T> fmt::Debug for OperatorListState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorListState({})", self.number)
    }
}

const UNDECLARED: &str = "a handle of list state was used that this operator did not declare; declare it in `declare`";

impl<T: Record> OperatorListState<T> {
    /// The items.
    pub fn get<'c>(&self, context: &'c impl OperatorStateAccess) -> &'c [T] {
        let states = &context.operator_states().0;
        &states.get::<Items<T>>(self.number).expect(UNDECLARED).items
    }

    /// The items, to change them. What is put in should have [let go](Record::detach) of buffers it shares.
    pub fn get_mut<'c>(&self, context: &'c mut impl OperatorStateAccess) -> &'c mut Vec<T> {
        let states = &mut context.operator_states_mut().0;
        &mut states.get_mut::<Items<T>>(self.number).expect(UNDECLARED).items
    }

    /// Adds an item.
    pub fn push(&self, context: &mut impl OperatorStateAccess, mut item: T) {
        item.detach();
        self.get_mut(context).push(item);
    }
}
