//! What driver and worker processes tell each other, between the runtime's types and the protobuf messages.

use std::time::Duration;

use weir_dataflow::source::{NextSplit, SplitAnswer};
use weir_dataflow::worker::WorkerEvent;
use weir_model::TaskId;
use weir_proto::InvalidMessage;
use weir_proto::worker::{self as proto, split_response::Answer, to_driver, to_worker};

pub(super) fn to_driver(message: to_driver::Message) -> proto::ToDriver {
    proto::ToDriver { message: Some(message) }
}

pub(super) fn to_worker(message: to_worker::Message) -> proto::ToWorker {
    proto::ToWorker { message: Some(message) }
}

pub(super) fn event_to_message(event: WorkerEvent) -> to_driver::Message {
    match event {
        WorkerEvent::SplitRequested { task: TaskId { vertex, subtask } } => {
            to_driver::Message::SplitRequest(proto::SplitRequest { vertex, subtask })
        }
        // The metrics travel in a report of their own, before this.
        WorkerEvent::StateChanged { task, state, failure, committables, metrics: _ } => {
            to_driver::Message::TaskStateChanged(proto::TaskStateChanged {
                vertex: task.vertex,
                subtask: task.subtask,
                state: proto::ExecutionState::from(state).into(),
                failure: failure.map(Into::into),
                committables: committables.into_iter().map(Into::into).collect(),
            })
        }
        WorkerEvent::CheckpointAcknowledged(acknowledgement) => {
            to_driver::Message::CheckpointAcknowledged((*acknowledgement).into())
        }
        WorkerEvent::CheckpointDeclined(decline) => to_driver::Message::CheckpointDeclined((*decline).into()),
    }
}

pub(super) fn state_change(message: proto::TaskStateChanged) -> Result<WorkerEvent, InvalidMessage> {
    let (task, state) = (message.task(), message.execution_state()?);
    Ok(WorkerEvent::StateChanged {
        task,
        state,
        failure: message.failure.map(Into::into),
        committables: message.committables.into_iter().map(Into::into).collect(),
        metrics: None,
    })
}

pub(super) fn split_response(task: TaskId, answer: SplitAnswer) -> proto::SplitResponse {
    let answer = match answer {
        SplitAnswer::Next(NextSplit::Split(bytes)) => Answer::Split(bytes),
        SplitAnswer::Next(NextSplit::NotYet(wait)) => {
            Answer::NoneYet(proto::NoneYet { wait_nanos: wait.as_nanos() as u64 })
        }
        SplitAnswer::Next(NextSplit::Finished) => Answer::Finished(proto::NoMoreSplits {}),
        SplitAnswer::Failed(message) => Answer::Error(message),
    };
    proto::SplitResponse { vertex: task.vertex, subtask: task.subtask, answer: Some(answer) }
}

pub(super) fn split_answer(message: proto::SplitResponse) -> (TaskId, SplitAnswer) {
    let task = TaskId { vertex: message.vertex, subtask: message.subtask };
    let answer = match message.answer {
        Some(Answer::Split(bytes)) => SplitAnswer::Next(NextSplit::Split(bytes)),
        Some(Answer::NoneYet(wait)) => SplitAnswer::Next(NextSplit::NotYet(Duration::from_nanos(wait.wait_nanos))),
        Some(Answer::Finished(_)) => SplitAnswer::Next(NextSplit::Finished),
        Some(Answer::Error(message)) => SplitAnswer::Failed(message),
        None => SplitAnswer::Failed("the driver answered a split request with nothing this worker knows".into()),
    };
    (task, answer)
}
