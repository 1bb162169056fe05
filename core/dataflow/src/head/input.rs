//! The head of a chain that starts with one input.

use std::marker::PhantomData;

use super::{feed, pass_on};
use crate::channel::GateEvent;
use crate::declaration::ChainState;
use crate::element::Control;
use crate::failure::TaskError;
use crate::gate::GateAction;
use crate::operator::{Chain, Pulse, Stage};
use crate::plan::TaskContext;
use crate::record::Record;
use crate::snapshot::{Progress, TaskCheckpoints};

/// A chain that starts with one input, of any number of channels and edges.
#[derive(Debug)]
pub struct Input<T> {
    record: PhantomData<fn(T)>,
}

impl<T> Default for Input<T> {
    fn default() -> Self {
        Input { record: PhantomData }
    }
}

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        Input::default()
    }
}

impl<T: Record> Chain for Input<T> {
    type Out = T;

    fn declare(&mut self, _state: &mut ChainState) {}

    fn run<D: Stage<T>>(self, mut down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        let mut gate = task.gate::<T>(0);
        if task.had_finished() {
            return down.close(task);
        }
        task.check_in_flight(1)?;
        down.open(task)?;
        task.report_running();
        let shared = task.shared().clone();
        let mut pulse = Pulse::new(task);
        let mut checkpoints = TaskCheckpoints::new(task);
        gate.begin_with(task.restored_in_flight(0)?);
        loop {
            shared.check_canceled()?;
            if checkpoints.read_mail(&mut down)? == Progress::Stop {
                checkpoints.wait_for_writers();
                return Ok(());
            }
            if checkpoints.is_stopping() {
                // Nothing more comes; producers that hear of the end of the job earlier may leave earlier.
                checkpoints.idle(None, &mut down)?;
                continue;
            }
            checkpoints.look(&mut [&mut gate], &mut down)?;
            match gate.poll()? {
                GateEvent::Empty => {
                    pulse.on_idle(|why| down.flush(why));
                    checkpoints.idle(None, &mut down)?;
                }
                GateEvent::Action(GateAction::End) => {
                    checkpoints.take_recorded(&mut [&mut gate])?;
                    if checkpoints.finish(&mut down)? {
                        shared.metrics().set_input_time(Control::End);
                        down.control(Control::End);
                    }
                    return Ok(());
                }
                GateEvent::Action(GateAction::Aligned(barrier)) => {
                    checkpoints.aligned(barrier, gate.alignment(), gate.processed(), &mut down);
                }
                GateEvent::Action(action) => pass_on(action, &shared, &mut down),
                event => {
                    feed(event, &mut gate, &mut pulse, &mut down, D::prepare, D::push, D::flush)?;
                    pulse.on_batch(|why| down.flush(why));
                    checkpoints.timers(&mut down);
                    checkpoints.work(&mut down);
                }
            }
        }
    }
}
