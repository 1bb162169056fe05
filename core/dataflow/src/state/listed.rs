//! States of a subtask that are lists in snapshots, with their types erased.

use std::any::Any;
use std::fmt;

use crate::declaration::OperatorState;
use crate::failure::TaskError;
use crate::operator::OperatorContext;
use crate::snapshot::OperatorSnapshotter;

/// A state that is a list in snapshots.
pub(super) trait Listed: Any + Send {
    fn declare(&self, name: &str, state: &mut OperatorState);
    fn restore(&mut self, name: &str, context: &OperatorContext<'_>) -> Result<(), TaskError>;
    fn snapshot(&self, name: &str, snapshot: &mut OperatorSnapshotter<'_>);
}

/// States by the numbers that their handles hold.
#[derive(Default)]
pub(super) struct ListedStates {
    states: Vec<(String, Box<dyn Listed>)>,
}

impl fmt::Debug for ListedStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.states.iter().map(|(name, _)| name)).finish()
    }
}

impl ListedStates {
    /// Adds a state and returns its number. `kind` is for the message when there is one of this name already.
    pub(super) fn add(&mut self, kind: &str, name: &str, state: impl Listed) -> usize {
        assert!(
            self.states.iter().all(|(present, _)| present != name),
            "{kind} state `{name}` is declared twice; give each state of an operator its own name"
        );
        self.states.push((name.to_owned(), Box::new(state)));
        self.states.len() - 1
    }

    /// The state of this number; none if it is of another type.
    pub(super) fn get<S: Listed>(&self, number: usize) -> Option<&S> {
        let state: &dyn Any = self.states.get(number)?.1.as_ref();
        state.downcast_ref()
    }

    /// As [`get`](Self::get), to change it.
    pub(super) fn get_mut<S: Listed>(&mut self, number: usize) -> Option<&mut S> {
        let state: &mut dyn Any = self.states.get_mut(number)?.1.as_mut();
        state.downcast_mut()
    }

    pub(super) fn declare(&self, state: &mut OperatorState) {
        self.states.iter().for_each(|(name, own)| own.declare(name, state));
    }

    pub(super) fn restore(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.states.iter_mut().try_for_each(|(name, own)| own.restore(name, context))
    }

    pub(super) fn snapshot(&self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.states.iter().for_each(|(name, own)| own.snapshot(name, snapshot));
    }
}
