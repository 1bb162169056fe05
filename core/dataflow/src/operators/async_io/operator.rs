//! The operator of an asynchronous function.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use weir_checkpoint::Redistribution;

use super::answers::{Answer, Answers};
use super::asking;
use super::function::{AsyncContext, AsyncError, AsyncFunction};
use super::options::AsyncOptions;
use super::requests::{Ready, Requests};
use crate::declaration::OperatorState;
use crate::element::Control;
use crate::failure::{TaskError, raise};
use crate::operator::{Collector, Operator, OperatorContext, OwnStep};
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;
use crate::task::{TaskShared, Waiting};

/// The list of the records whose results have not gone on.
const REQUESTS: &str = "requests";

/// The operator of an [`AsyncFunction`].
pub struct AsyncOperator<In, F: AsyncFunction<In>> {
    function: F,
    options: AsyncOptions,
    /// Set while the operator is open.
    open: Option<Open<In, F>>,
}

impl<In, F: AsyncFunction<In>> AsyncOperator<In, F> {
    /// The operator of `function`.
    pub fn new(function: F, options: AsyncOptions) -> Self {
        AsyncOperator { function, options, open: None }
    }
}

impl<In, F: AsyncFunction<In>> Clone for AsyncOperator<In, F> {
    fn clone(&self) -> Self {
        AsyncOperator::new(self.function.clone(), self.options.clone())
    }
}

impl<In, F: AsyncFunction<In>> std::fmt::Debug for AsyncOperator<In, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AsyncOperator({:?})", self.options)
    }
}

struct Open<In, F: AsyncFunction<In>> {
    task: Arc<TaskShared>,
    runtime: Handle,
    function: Arc<F>,
    options: Arc<AsyncOptions>,
    requests: Requests<In, F::Output, AbortHandle>,
    answers: Arc<Answers<F::Output>>,
    taken: Vec<Answer<F::Output>>,
    /// Whether everything that was emitted has moved on.
    flushed: bool,
    /// The input has ended.
    ended: bool,
    closed: bool,
    /// A barrier is about to pass, which waits for nothing.
    passing: bool,
    /// The savepoint that stops the job and has passed: what is in flight is in it, so nothing of it must go on.
    stopped_by: Option<u64>,
}

impl<In, F> Open<In, F>
where
    In: Record + Clone,
    F: AsyncFunction<In>,
{
    /// Takes in what has been answered, and fails if one of the requests did.
    fn take_answers(&mut self) -> Result<(), TaskError> {
        self.answers.take(&mut self.taken);
        for (number, answer) in self.taken.drain(..) {
            self.requests.answer(number, answer?);
        }
        Ok(())
    }

    fn ask(&mut self) {
        let Open { runtime, function, options, answers, requests, .. } = self;
        requests.ask_for(|number, record| {
            let record = record.clone();
            let asking = asking::ask(function.clone(), options.clone(), record, answers.clone(), number);
            runtime.spawn(asking).abort_handle()
        });
    }

    /// Whether nothing can be done but to wait for an answer.
    fn must_wait(&self) -> bool {
        if self.ended {
            return !self.requests.is_empty();
        }
        self.requests.is_over_capacity() && !self.passing && !self.task.may_overdraw()
    }

    fn step<C: Collector<<F::Output as IntoIterator>::Item>>(&mut self, out: &mut C) -> Result<OwnStep, TaskError> {
        loop {
            self.take_answers()?;
            while let Some(ready) = self.requests.next_ready() {
                match ready {
                    Ready::Time(control) => return Ok(OwnStep::Time(control)),
                    Ready::Results(results) => {
                        self.flushed = false;
                        results.into_iter().for_each(|result| out.push(result));
                    }
                }
            }
            self.ask();
            if !self.must_wait() {
                break;
            }
            if !std::mem::replace(&mut self.flushed, true) {
                return Ok(OwnStep::Flush);
            }
            self.task.check_canceled()?;
            self.task.park(Waiting::Backpressure, None);
        }
        if self.ended && !std::mem::replace(&mut self.closed, true) {
            let function = self.function.clone();
            wait_for(&self.task, &self.runtime, async move { function.close().await })?;
        }
        Ok(OwnStep::Done)
    }
}

impl<In, F: AsyncFunction<In>> Drop for Open<In, F> {
    fn drop(&mut self) {
        self.requests.asked().for_each(AbortHandle::abort);
    }
}

/// Runs a future with the others, until it is done or the task is cancelled.
fn wait_for<R: Send + 'static>(
    task: &Arc<TaskShared>,
    runtime: &Handle,
    future: impl Future<Output = Result<R, AsyncError>> + Send + 'static,
) -> Result<R, TaskError> {
    let (answers, mut taken) = (Answers::new(task.clone()), Vec::new());
    let running = runtime.spawn({
        let answers = answers.clone();
        async move {
            let answer = asking::catch(future).await;
            answers.add(0, answer.and_then(|result| result.map_err(asking::failed)));
        }
    });
    loop {
        answers.take(&mut taken);
        if let Some((_, answer)) = taken.pop() {
            return answer;
        }
        if let Err(canceled) = task.check_canceled() {
            running.abort();
            return Err(canceled);
        }
        task.park(Waiting::Backpressure, None);
    }
}

impl<In, F> Operator<In> for AsyncOperator<In, F>
where
    In: Record + Clone,
    F: AsyncFunction<In>,
{
    type Out = <F::Output as IntoIterator>::Item;
    const OWN_STEPS: bool = true;

    fn declare(&mut self, state: &mut OperatorState) {
        state.list::<In>(REQUESTS, Redistribution::Split);
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        let (task, runtime) = (context.task.shared().clone(), context.task.runtime().async_runtime().handle()?);
        let about = AsyncContext { subtask: context.task.subtask(), parallelism: context.task.parallelism() };
        let mut function = self.function.clone();
        let opening = async move {
            function.open(&about).await?;
            Ok(function)
        };
        let function = Arc::new(wait_for(&task, &runtime, opening)?);
        let mut requests = Requests::new(self.options.order, self.options.capacity.get());
        for record in context.restored_list::<In>(REQUESTS)? {
            requests.add(record);
        }
        let mut open = Open {
            answers: Answers::new(task.clone()),
            task,
            runtime,
            function,
            options: Arc::new(self.options.clone()),
            requests,
            taken: Vec::new(),
            flushed: true,
            ended: false,
            closed: false,
            passing: false,
            stopped_by: None,
        };
        open.ask();
        self.open = Some(open);
        Ok(())
    }

    #[inline]
    fn process<C: Collector<Self::Out>>(&mut self, mut record: In, _out: &mut C) {
        // It may stay for long.
        record.detach();
        if let Some(open) = &mut self.open {
            open.requests.add(record);
        }
    }

    fn own_step<C: Collector<Self::Out>>(&mut self, out: &mut C) -> OwnStep {
        match &mut self.open {
            Some(open) if open.stopped_by.is_none() => open.step(out).unwrap_or_else(|error| raise(error)),
            _ => OwnStep::Done,
        }
    }

    fn upstream_time(&mut self, control: Control) -> Option<Control> {
        match &mut self.open {
            Some(open) => open.requests.time(control),
            None => Some(control),
        }
    }

    fn is_settled(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.requests.is_empty())
    }

    fn end<C: Collector<Self::Out>>(&mut self, _out: &mut C) {
        if let Some(open) = &mut self.open {
            open.ended = true;
        }
    }

    fn before_barrier<C: Collector<Self::Out>>(&mut self, _out: &mut C) {
        if let Some(open) = &mut self.open {
            open.passing = true;
        }
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        let Some(open) = &mut self.open else { return };
        open.passing = false;
        let barrier = snapshot.barrier();
        snapshot.list(REQUESTS, Redistribution::Split, open.requests.records());
        if barrier.kind.stops() {
            open.stopped_by = Some(barrier.checkpoint);
        }
    }

    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool) {
        if let Some(open) = self.open.as_mut().filter(|open| open.stopped_by == Some(checkpoint) && !completed) {
            open.stopped_by = None;
        }
    }
}
