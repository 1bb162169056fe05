//! What a worker process and its TaskManager say to each other, as frames. What is only passed on is not decoded.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use weir_model::TaskId;
use weir_proto::MAX_FRAME_BYTES;
use weir_proto::worker::{self as proto, to_driver, to_worker};

use crate::state::{Greeting, WorkerEvent, WorkerMessage};

/// The number of `deploy` in `weir.worker.ToWorker`.
const DEPLOY: u32 = 1;
/// The number of `split_response` in `weir.worker.ToWorker`.
const SPLIT_RESPONSE: u32 = 2;

/// A message as a frame.
pub(super) fn frame(message: WorkerMessage) -> Bytes {
    let message = match message {
        WorkerMessage::Deploy(plan) => return wrapped(DEPLOY, &plan),
        WorkerMessage::SplitAnswer(answer) => return wrapped(SPLIT_RESPONSE, &answer),
        WorkerMessage::Cancel(tasks) => {
            let tasks = tasks.into_iter().map(|TaskId { vertex, subtask }| proto::TaskRef { vertex, subtask });
            to_worker::Message::Cancel(proto::Cancel { tasks: tasks.collect() })
        }
        WorkerMessage::Restore(tasks) => {
            let tasks = tasks.into_iter().map(|(task, snapshot)| proto::TaskRestore::new(task, snapshot));
            to_worker::Message::Restore(proto::Restore { tasks: tasks.collect() })
        }
        WorkerMessage::TriggerCheckpoint(trigger, tasks) => {
            to_worker::Message::TriggerCheckpoint(proto::TriggerCheckpoint::new(&trigger, &tasks))
        }
        WorkerMessage::CheckpointCompleted(checkpoint) => {
            to_worker::Message::CheckpointCompleted(proto::CheckpointCompleted { checkpoint })
        }
        WorkerMessage::CheckpointAborted(checkpoint) => {
            to_worker::Message::CheckpointAborted(proto::CheckpointAborted { checkpoint })
        }
        WorkerMessage::Shutdown => to_worker::Message::Shutdown(proto::Shutdown {}),
    };
    let envelope = proto::ToWorker { message: Some(message) };
    let mut frame = BytesMut::with_capacity(4 + envelope.encoded_len());
    frame.put_u32_le(envelope.encoded_len() as u32);
    envelope.encode(&mut frame).expect("a BytesMut grows as needed");
    frame.freeze()
}

/// An envelope around a message that is encoded already.
fn wrapped(tag: u32, content: &[u8]) -> Bytes {
    let length = key_len(tag) + encoded_len_varint(content.len() as u64) + content.len();
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.put_u32_le(length as u32);
    encode_key(tag, WireType::LengthDelimited, &mut frame);
    encode_varint(content.len() as u64, &mut frame);
    frame.put_slice(content);
    frame.freeze()
}

/// Takes the next frame out of what has arrived; `None` if it is not complete.
pub(super) fn next_frame(received: &mut BytesMut) -> Result<Option<proto::ToDriver>, String> {
    let Some(prefix) = received.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(format!(
            "it sent a frame of {length} bytes, more than the {MAX_FRAME_BYTES} allowed: a split or committable is far too large, or user \
             code writes to the connection of the job's runtime"
        ));
    }
    if received.len() < 4 + length {
        return Ok(None);
    }
    received.advance(4);
    let body = received.split_to(length);
    proto::ToDriver::decode(body.freeze())
        .map(Some)
        .map_err(|error| format!("it sent a frame of {length} bytes that is no message ({error})"))
}

/// Decodes all complete frames of what has arrived. What belongs together becomes one event.
pub(super) fn events(received: &mut BytesMut) -> Vec<WorkerEvent> {
    let mut events = Vec::new();
    loop {
        match next_frame(received) {
            Ok(Some(envelope)) => {
                if let Some(message) = envelope.message {
                    add(&mut events, message);
                }
            }
            Ok(None) => return events,
            Err(problem) => {
                // The position in the stream is lost.
                received.clear();
                events.push(WorkerEvent::Misbehaved { problem });
                return events;
            }
        }
    }
}

fn add(events: &mut Vec<WorkerEvent>, message: to_driver::Message) {
    let event = match message {
        to_driver::Message::Hello(hello) => WorkerEvent::Greeted(Greeting {
            protocol_version: hello.protocol_version,
            job_graph_hash: hello.job_graph_hash,
            data_address: hello.data_address,
            pid: hello.pid,
            vertices: hello.vertices.into_iter().map(|vertex| Arc::new(vertex.into())).collect(),
        }),
        to_driver::Message::TaskStateChanged(change) => match change.try_into() {
            Ok(change) => {
                if let Some(WorkerEvent::TasksChanged(changes)) = events.last_mut() {
                    changes.push(change);
                    return;
                }
                WorkerEvent::TasksChanged(vec![change])
            }
            Err(error) => WorkerEvent::Misbehaved { problem: format!("it sent a message that is not valid: {error}") },
        },
        to_driver::Message::SplitRequest(request) => {
            WorkerEvent::SplitRequested(TaskId { vertex: request.vertex, subtask: request.subtask })
        }
        to_driver::Message::MetricsReport(report) => {
            WorkerEvent::MetricsReported(report.tasks.iter().map(proto::TaskMetrics::snapshot).collect())
        }
        to_driver::Message::CheckpointAcknowledged(acknowledgement) => {
            WorkerEvent::CheckpointAcknowledged(Box::new(acknowledgement.into()))
        }
        to_driver::Message::CheckpointDeclined(decline) => WorkerEvent::CheckpointDeclined(Box::new(decline.into())),
    };
    events.push(event);
}

#[cfg(test)]
mod tests {
    use weir_model::{
        Alignment, CheckpointAcknowledgement, CheckpointDecline, CheckpointKind, CheckpointTrigger, DeclineCause,
        ExecutionState, MetricsSnapshot, SnapshotMetrics, TaskChange,
    };
    use weir_proto::{read_frame, write_frame};

    use super::*;

    #[test]
    fn messages_that_are_passed_on_arrive_as_if_they_were_encoded_here() {
        let plan = proto::Deploy { run_id: "x".repeat(300), deployment: 3, ..Default::default() };
        let answer = proto::SplitResponse { vertex: 1, subtask: 2, answer: None };
        let tasks = vec![TaskId { vertex: 4, subtask: 5 }];
        let check = |message, expect| {
            let envelope = read_frame::<proto::ToWorker>(&mut &frame(message)[..]).unwrap().unwrap();
            assert_eq!(envelope.message, Some(expect));
        };
        let bytes = Bytes::from(plan.encode_to_vec());
        check(WorkerMessage::Deploy(bytes), to_worker::Message::Deploy(plan));
        let bytes = Bytes::from(answer.encode_to_vec());
        check(WorkerMessage::SplitAnswer(bytes), to_worker::Message::SplitResponse(answer));
        let cancel = proto::Cancel { tasks: vec![proto::TaskRef { vertex: 4, subtask: 5 }] };
        check(WorkerMessage::Cancel(tasks), to_worker::Message::Cancel(cancel));
        check(WorkerMessage::Shutdown, to_worker::Message::Shutdown(proto::Shutdown {}));
        let task = TaskId { vertex: 4, subtask: 5 };
        let restore = proto::Restore { tasks: vec![proto::TaskRestore::new(task, vec![7; 9])] };
        check(WorkerMessage::Restore(vec![(task, vec![7; 9])]), to_worker::Message::Restore(restore));
        let trigger = Arc::new(CheckpointTrigger {
            checkpoint: 3,
            timestamp: -1,
            kind: CheckpointKind::Drain,
            alignment: Alignment::Aligned,
            base: None,
            directory: None,
            shared_directory: None,
        });
        let message = to_worker::Message::TriggerCheckpoint(proto::TriggerCheckpoint::new(&trigger, &[task]));
        check(WorkerMessage::TriggerCheckpoint(trigger, vec![task]), message);
        let completed = proto::CheckpointCompleted { checkpoint: 3 };
        check(WorkerMessage::CheckpointCompleted(3), to_worker::Message::CheckpointCompleted(completed));
        let aborted = proto::CheckpointAborted { checkpoint: 3 };
        check(WorkerMessage::CheckpointAborted(3), to_worker::Message::CheckpointAborted(aborted));
    }

    fn change(subtask: u32, state: ExecutionState) -> TaskChange {
        TaskChange { task: TaskId { vertex: 0, subtask }, state, failure: None, committables: Vec::new() }
    }

    #[test]
    fn what_arrives_together_is_told_together_and_in_order() {
        let mut bytes = Vec::new();
        let mut write = |message| write_frame(&mut bytes, &proto::ToDriver { message }).unwrap();
        let changes = [0, 1, 2].map(|subtask| change(subtask, ExecutionState::Running));
        for change in &changes[..2] {
            write(Some(to_driver::Message::TaskStateChanged(change.clone().into())));
        }
        write(None);
        let metrics = proto::TaskMetrics::new(TaskId { vertex: 0, subtask: 0 }, MetricsSnapshot::default());
        write(Some(to_driver::Message::MetricsReport(proto::MetricsReport {
            tasks: vec![metrics],
            ..Default::default()
        })));
        write(Some(to_driver::Message::TaskStateChanged(changes[2].clone().into())));
        let mut received = BytesMut::new();
        let mut found = Vec::new();
        // In two pieces, cut inside the last frame.
        let (head, tail) = bytes.split_at(bytes.len() - 3);
        for piece in [head, tail] {
            received.extend_from_slice(piece);
            found.extend(events(&mut received));
        }
        let task = TaskId { vertex: 0, subtask: 0 };
        assert_eq!(
            found,
            [
                WorkerEvent::TasksChanged(changes[..2].to_vec()),
                WorkerEvent::MetricsReported(vec![(task, MetricsSnapshot::default())]),
                WorkerEvent::TasksChanged(changes[2..].to_vec()),
            ]
        );
        assert!(received.is_empty());
    }

    #[test]
    fn what_tasks_say_of_checkpoints_keeps_its_place_between_what_they_say_of_themselves() {
        let (task, committables) = (TaskId { vertex: 1, subtask: 2 }, Vec::new());
        let acknowledgement = CheckpointAcknowledgement {
            checkpoint: 3,
            task,
            snapshot: vec![1; 10],
            committables: committables.clone(),
            metrics: SnapshotMetrics { state_size: 10, ..SnapshotMetrics::default() },
        };
        let reason = "disk full".to_owned();
        let decline = CheckpointDecline { checkpoint: 4, task, cause: DeclineCause::Failed, reason, committables };
        let running = change(0, ExecutionState::Running);
        let finished = change(0, ExecutionState::Finished);
        let mut bytes = Vec::new();
        for message in [
            to_driver::Message::TaskStateChanged(running.clone().into()),
            to_driver::Message::CheckpointAcknowledged(acknowledgement.clone().into()),
            to_driver::Message::CheckpointDeclined(decline.clone().into()),
            to_driver::Message::TaskStateChanged(finished.clone().into()),
        ] {
            write_frame(&mut bytes, &proto::ToDriver { message: Some(message) }).unwrap();
        }
        assert_eq!(
            events(&mut BytesMut::from(&bytes[..])),
            [
                WorkerEvent::TasksChanged(vec![running]),
                WorkerEvent::CheckpointAcknowledged(Box::new(acknowledgement)),
                WorkerEvent::CheckpointDeclined(Box::new(decline)),
                WorkerEvent::TasksChanged(vec![finished]),
            ]
        );
    }

    #[test]
    fn what_is_no_message_is_reported_once() {
        let check = |bytes: &[u8], expect: &str| {
            let mut received = BytesMut::from(bytes);
            match &events(&mut received)[..] {
                [WorkerEvent::Misbehaved { problem }] => assert!(problem.contains(expect), "{problem}"),
                other => panic!("{other:?}"),
            }
            assert!(received.is_empty());
        };
        check(b"hello, I am a script\n", "frame of 1819043176 bytes, more than");
        check(&[2, 0, 0, 0, 0xff, 0xff, 1], "2 bytes that is no message");
    }
}
