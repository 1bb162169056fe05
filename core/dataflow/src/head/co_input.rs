//! The head of a chain that starts with two inputs.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use weir_model::CheckpointKind;

use super::{feed, pass_on};
use crate::channel::{Gate, GateEvent};
use crate::declaration::{ChainState, OperatorState};
use crate::element::{Control, EventTime};
use crate::failure::{OperatorGuard, TaskError};
use crate::gate::{GateAction, GateState};
use crate::in_flight::Overtaken;
use crate::metrics::Gauge;
use crate::operator::{Chain, CoOperator, Collector, OfTwo, OpStage, OperatorContext, Pulse, Stage};
use crate::plan::TaskContext;
use crate::record::Record;
use crate::snapshot::{Progress, Released, TaskCheckpoints};

/// A chain that starts with two inputs of different types.
#[derive(Debug)]
pub struct CoInput<A, B, Op> {
    /// The operator over both inputs.
    pub op: Op,
    /// Its node in the StreamGraph.
    pub node: u32,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, Op> CoInput<A, B, Op> {
    /// A head running `op`.
    pub fn new(op: Op, node: u32) -> Self {
        CoInput { op, node, records: PhantomData }
    }
}

impl<A, B, Op: Clone> Clone for CoInput<A, B, Op> {
    fn clone(&self) -> Self {
        CoInput::new(self.op.clone(), self.node)
    }
}

impl<A: Record, B: Record, Op: CoOperator<A, B>> Chain for CoInput<A, B, Op> {
    type Out = Op::Out;

    fn run<D: Stage<Op::Out>>(self, down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        let (first, second) = (task.gate::<A>(0), task.gate::<B>(1));
        let mut stage = OpStage::new(self.op, self.node, down);
        if task.had_finished() {
            return stage.close(task);
        }
        task.check_in_flight(2)?;
        stage.open(task)?;
        task.report_running();
        CoRun::new(task, self.node, stage).feed_both(first, second)
    }

    fn declare(&mut self, state: &mut ChainState) {
        let mut own = OperatorState::default();
        let guard = OperatorGuard(self.node);
        self.op.declare(&mut own);
        std::mem::forget(guard);
        state.push((self.node, own));
    }
}

/// What became of an element of one of two inputs.
enum Fed {
    Nothing,
    Something,
    /// Both inputs have ended.
    Ended,
}

/// The loop over two inputs.
struct CoRun<'t, A, B, Op, D> {
    task: &'t TaskContext,
    stage: OpStage<Op, D>,
    records: PhantomData<fn(A, B)>,
    /// The inputs of whose end the operator knows.
    told_of_end: [bool; 2],
    pulse: Pulse,
    checkpoints: TaskCheckpoints,
    /// The two gates are the two channels of a third one: it merges their watermarks and aligns their barriers.
    both: GateState,
    /// An input that delivered a barrier is not read until the other one has.
    blocked: [bool; 2],
    blocked_since: Option<Instant>,
    /// Bytes that inputs processed while they aligned the checkpoint that blocks them.
    processed: u64,
    /// Show the watermark of each input.
    watermarks: [Gauge; 2],
}

impl<'t, A: Record, B: Record, Op: CoOperator<A, B>, D: Stage<Op::Out>> CoRun<'t, A, B, Op, D> {
    fn new(task: &'t TaskContext, node: u32, stage: OpStage<Op, D>) -> Self {
        let metrics = OperatorContext { task, node }.metrics();
        let watermarks = ["currentInput1Watermark", "currentInput2Watermark"].map(|name| metrics.gauge(name));
        watermarks.iter().for_each(|gauge| gauge.set(EventTime::MIN as f64));
        CoRun {
            task,
            stage,
            records: PhantomData,
            told_of_end: [false; 2],
            pulse: Pulse::new(task),
            checkpoints: TaskCheckpoints::new(task),
            both: GateState::new(2),
            blocked: [false; 2],
            blocked_since: None,
            processed: 0,
            watermarks,
        }
    }

    fn feed_both(mut self, mut first: Gate<A>, mut second: Gate<B>) -> Result<(), TaskError> {
        let shared = self.task.shared().clone();
        first.begin_with(self.task.restored_in_flight(0)?);
        second.begin_with(self.task.restored_in_flight(1)?);
        loop {
            shared.check_canceled()?;
            if self.checkpoints.read_mail(&mut self.stage)? == Progress::Stop {
                self.checkpoints.wait_for_writers();
                return Ok(());
            }
            if self.checkpoints.is_stopping() {
                self.checkpoints.idle(None, &mut self.stage)?;
                continue;
            }
            let inputs: &mut [&mut dyn Overtaken] = &mut [&mut first, &mut second, &mut self.both];
            if let Some(Released) = self.checkpoints.look(inputs, &mut self.stage)? {
                self.release();
            }
            let a = self.feed_one(0, &mut first, Op::prepare_first, OfTwo::First)?;
            let b = self.feed_one(1, &mut second, Op::prepare_second, OfTwo::Second)?;
            if matches!(a, Fed::Ended) || matches!(b, Fed::Ended) {
                self.checkpoints.take_recorded(&mut [&mut first, &mut second])?;
                if self.checkpoints.finish(&mut self.stage)? {
                    shared.metrics().set_input_time(Control::End);
                    self.stage.control(Control::End);
                }
                return Ok(());
            }
            if matches!((a, b), (Fed::Nothing, Fed::Nothing)) {
                self.pulse.on_idle(|why| self.stage.flush(why));
                self.checkpoints.idle(None, &mut self.stage)?;
            } else {
                self.pulse.on_batch(|why| self.stage.flush(why));
                self.checkpoints.timers(&mut self.stage);
                self.checkpoints.work(&mut self.stage);
            }
        }
    }

    /// Takes the next element of one input.
    fn feed_one<T: Record>(
        &mut self,
        input: usize,
        gate: &mut Gate<T>,
        prepare: impl Fn(&mut Op, &[T]),
        of_two: impl Fn(T) -> OfTwo<A, B>,
    ) -> Result<Fed, TaskError> {
        if gate.is_ended() || self.blocked[input] {
            return Ok(Fed::Nothing);
        }
        match gate.poll()? {
            GateEvent::Empty => return Ok(Fed::Nothing),
            GateEvent::Action(action) => {
                if action == GateAction::End {
                    self.end_of(input);
                }
                self.merge(input, action, gate.alignment(), gate.processed());
            }
            event => {
                let CoRun { stage, pulse, .. } = self;
                let prepare = |stage: &mut OpStage<Op, D>, records: &[T]| {
                    stage.guarded(|op, _| prepare(op, records));
                };
                let push = |stage: &mut OpStage<Op, D>, record| stage.push(of_two(record));
                feed(event, gate, pulse, stage, prepare, push, Stage::flush)?;
            }
        }
        Ok(if self.both.is_ended() { Fed::Ended } else { Fed::Something })
    }

    /// Tells the operator once that an input has ended.
    fn end_of(&mut self, input: usize) {
        if !std::mem::replace(&mut self.told_of_end[input], true) {
            self.stage.push(if input == 0 { OfTwo::FirstEnded } else { OfTwo::SecondEnded });
        }
    }

    /// Passes a change of watermark or idleness down the chain. The loop looks for the end itself; alignment is settled where it is
    /// known which input was blocked.
    fn settle(&mut self, action: GateAction) {
        pass_on(action, self.task.shared(), &mut self.stage);
    }

    /// Passes on what else has become true: a watermark may be followed by a change of idleness.
    fn advance(&mut self) {
        loop {
            match self.both.advance() {
                GateAction::None => return,
                action => self.settle(action),
            }
        }
    }

    /// The inputs may be read again, unless another checkpoint is being aligned.
    fn release(&mut self) {
        if !self.both.is_aligning() {
            self.blocked = [false; 2];
            self.blocked_since = None;
            self.processed = 0;
        }
    }

    fn merge(&mut self, input: usize, action: GateAction, alignment: Duration, processed: u64) {
        let control = match action {
            GateAction::Watermark(time) => Control::Watermark(time),
            GateAction::Idle(idle) => Control::Idle(idle),
            GateAction::Aligned(barrier) => Control::Barrier(barrier),
            GateAction::End => Control::End,
            GateAction::None | GateAction::Block | GateAction::BlockAnew => return,
        };
        match control {
            Control::Watermark(time) => self.watermarks[input].set(time as f64),
            Control::End => self.watermarks[input].set(EventTime::MAX as f64),
            Control::Barrier(_) | Control::Idle(_) => {}
        }
        let wait = !self.task.options().at_least_once;
        match self.both.on_control(input, control) {
            GateAction::Aligned(barrier) => {
                self.blocked = [false; 2];
                let waited = self.blocked_since.take().map_or(Duration::ZERO, |since| since.elapsed());
                let processed = std::mem::take(&mut self.processed) + processed;
                if barrier.kind == CheckpointKind::Drain {
                    self.end_of(0);
                    self.end_of(1);
                }
                self.checkpoints.aligned(barrier, alignment + waited, processed, &mut self.stage);
                self.advance();
            }
            GateAction::Block => {
                self.blocked_since.get_or_insert_with(Instant::now);
                self.blocked[input] = wait;
                self.processed += processed;
            }
            GateAction::BlockAnew => {
                self.blocked_since = Some(Instant::now());
                self.blocked = [false; 2];
                self.blocked[input] = wait;
                self.processed = processed;
            }
            watermark @ GateAction::Watermark(_) if !matches!(control, Control::Watermark(_)) => {
                self.settle(watermark);
                self.advance();
            }
            other => self.settle(other),
        }
    }
}
