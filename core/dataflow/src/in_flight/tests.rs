use std::sync::Arc;

use weir_model::CheckpointKind;

use super::*;
use crate::channel::{ChannelWriter, Gate, GateEvent, Inbox, RemoteElement, RemoteInbox};
use crate::gate::GateAction;
use crate::record::Record;
use crate::task::{TaskId, TaskShared};

/// What a producer sends.
#[derive(Debug, Clone, Copy)]
enum Sent {
    /// A batch of these records.
    Records(&'static [u32]),
    Barrier,
    End,
}

/// What each producer sends, and the records before and behind the barriers.
type Case = ([Vec<Sent>; 2], &'static [u32], &'static [u32]);

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The producer of this channel sends its next element.
    Send(usize),
    /// The task reads an element.
    Read,
    /// The task reads a batch, processes its first record and looks up.
    ReadOne,
    /// The task takes its snapshot.
    Overtake,
}

fn barrier(aligned: bool) -> Barrier {
    Barrier { checkpoint: 1, timestamp: 0, aligned, kind: CheckpointKind::Checkpoint }
}

fn task() -> Arc<TaskShared> {
    TaskShared::new(TaskId { vertex: 0, subtask: 0 })
}

/// A task with a local and a remote channel.
struct Run {
    inbox: Arc<Inbox<u32>>,
    local: ChannelWriter<u32>,
    gate: Gate<u32>,
    producer: Arc<TaskShared>,
    next: [usize; 2],
    processed: Vec<u32>,
    /// What had been processed at the snapshot, and whether its barrier overtook.
    snapshot: Option<(Vec<u32>, bool)>,
}

impl Run {
    fn new() -> Run {
        let inbox = Inbox::new(2, 16, task());
        let local = ChannelWriter::local(inbox.clone(), 0);
        let gate = Gate::new(inbox.clone(), false);
        Run { inbox, local, gate, producer: task(), next: [0; 2], processed: Vec::new(), snapshot: None }
    }

    fn step(&mut self, step: Step, input: &[Vec<Sent>; 2]) {
        match step {
            Step::Send(channel) => {
                let sent = input[channel][self.next[channel]];
                self.next[channel] += 1;
                self.send(channel, sent);
            }
            Step::Read => drop(self.read(usize::MAX)),
            Step::ReadOne => drop(self.read(1)),
            Step::Overtake => {
                if self.snapshot.is_none() && self.gate.may_overtake(1) {
                    self.gate.overtake(1);
                    self.snapshot = Some((self.processed.clone(), true));
                }
            }
        }
    }

    fn send(&mut self, channel: usize, sent: Sent) {
        let control = match sent {
            Sent::Records(records) if channel == 0 => {
                return drop(self.local.send_batch(records.to_vec(), &self.producer).unwrap());
            }
            Sent::Records(records) => {
                let mut bytes = Vec::new();
                u32::encode_batch(records, &mut bytes);
                let batch = EncodedBatch { bytes, records: records.len() as u32 };
                return self.inbox.deliver(1, RemoteElement::Batch(batch));
            }
            Sent::Barrier => Control::Barrier(barrier(true)),
            Sent::End => Control::End,
        };
        match channel {
            0 => self.local.send_control(control, &self.producer).unwrap(),
            _ => self.inbox.deliver(1, RemoteElement::Control(control)),
        }
    }

    /// Reads an element, of a batch at most so many records. False when there is nothing to read.
    fn read(&mut self, most: usize) -> bool {
        if self.gate.is_ended() {
            return false;
        }
        let mut records = match self.gate.poll().unwrap() {
            GateEvent::Batch(_, records) => records,
            GateEvent::Encoded(batch) => {
                let mut decoder = Decoder::new(&batch.bytes);
                (0..batch.records).map(|_| u32::decode(&mut decoder).unwrap()).collect()
            }
            GateEvent::Action(GateAction::Aligned(_)) => {
                assert!(self.snapshot.is_none(), "a second snapshot");
                self.snapshot = Some((self.processed.clone(), false));
                return true;
            }
            GateEvent::Action(_) => return true,
            GateEvent::Empty => return false,
        };
        let rest = records.split_off(most.min(records.len()));
        self.processed.extend(records);
        if !rest.is_empty() {
            self.gate.put_back(Element::Batch(rest));
        }
        true
    }
}

fn sorted(mut records: Vec<u32>) -> Vec<u32> {
    records.sort_unstable();
    records
}

/// Runs the steps, then whatever is left, and checks what a snapshot with its recorded data holds.
fn check(steps: &[Step], input: &[Vec<Sent>; 2], before: &[u32], behind: &[u32]) {
    let mut run = Run::new();
    steps.iter().for_each(|&step| run.step(step, input));
    for channel in 0..2 {
        while run.next[channel] < input[channel].len() {
            run.step(Step::Send(channel), input);
        }
    }
    let recorded = run.gate.take_recorded().unwrap();
    while run.read(usize::MAX) {}
    assert!(run.gate.take_recorded().unwrap().is_none(), "{steps:?}: recorded twice");
    let all = sorted([before, behind].concat());
    assert_eq!(sorted(run.processed.clone()), all, "{steps:?}: everything is processed once");
    let (mut held, overtook) = run.snapshot.unwrap_or_else(|| panic!("{steps:?}: no snapshot"));
    assert_eq!(recorded.is_some(), overtook, "{steps:?}");
    if let Some(InFlight { checkpoint, bytes, lengths, .. }) = recorded {
        assert_eq!((checkpoint, bytes.len()), (1, 4 * lengths.len()));
        let mut decoder = Decoder::new(&bytes);
        held.extend(lengths.iter().map(|_| u32::decode(&mut decoder).unwrap()));
    }
    assert_eq!(sorted(held), before, "{steps:?}: the snapshot holds what lies before the barriers, once");
}

/// All ways to interleave what is left to send with so many reads and a snapshot.
fn interleave(steps: &mut Vec<Step>, left: [usize; 2], reads: usize, overtaken: bool, visit: &mut impl FnMut(&[Step])) {
    if left == [0; 2] && reads == 0 && overtaken {
        return visit(steps);
    }
    let mut with = |step, left, reads, overtaken| {
        steps.push(step);
        interleave(steps, left, reads, overtaken, visit);
        steps.pop();
    };
    if left[0] > 0 {
        with(Step::Send(0), [left[0] - 1, left[1]], reads, overtaken);
    }
    if left[1] > 0 {
        with(Step::Send(1), [left[0], left[1] - 1], reads, overtaken);
    }
    if reads > 0 {
        with(Step::Read, left, reads - 1, overtaken);
        with(Step::ReadOne, left, reads - 1, overtaken);
    }
    if !overtaken {
        with(Step::Overtake, left, reads, true);
    }
}

#[test]
fn processed_and_recorded_records_are_those_before_the_barriers_in_every_order_of_events() {
    use Sent::*;
    let cases: [Case; 3] = [
        (
            [vec![Records(&[1, 2]), Barrier, Records(&[3])], vec![Records(&[4, 5]), Barrier, Records(&[6])]],
            &[1, 2, 4, 5],
            &[3, 6],
        ),
        ([vec![Records(&[1]), Records(&[2]), Barrier], vec![Records(&[3, 4]), End]], &[1, 2, 3, 4], &[]),
        ([vec![Barrier, Records(&[1, 2])], vec![Records(&[3]), Records(&[4]), Barrier, End]], &[3, 4], &[1, 2]),
    ];
    for (input, before, behind) in &cases {
        let mut count = 0;
        for reads in 0..=2 {
            let left = [input[0].len(), input[1].len()];
            interleave(&mut Vec::new(), left, reads, false, &mut |steps| {
                count += 1;
                check(steps, input, before, behind);
            });
        }
        assert!(count > 500, "only {count} orders");
    }
}

#[test]
fn records_of_changing_length_are_told_apart() {
    let texts = ["a".to_owned(), String::new(), "größer".to_owned()];
    let mut bytes = Vec::new();
    String::encode_batch(&texts[1..], &mut bytes);
    let mut recording = Recording::new(3, vec![true, false]);
    assert!(!recording.on_arrival(0, &Element::Batch(vec![texts[0].clone()])));
    assert!(!recording.on_arrival(1, &Element::Batch(vec!["behind the barrier".to_owned()])));
    assert!(!recording.on_arrival(0, &Element::<String>::Encoded(EncodedBatch { bytes, records: 2 })));
    let older = Control::Barrier(Barrier { checkpoint: 2, ..barrier(true) });
    assert!(!recording.on_arrival(0, &Element::<String>::Control(older)), "an older barrier ends nothing");
    assert!(recording.on_arrival(0, &Element::<String>::Control(Control::End)));
    let data = recording.into_data::<String>(7).unwrap();
    let mut decoder = Decoder::new(&data.bytes);
    let got: Vec<_> = data.lengths.iter().map(|_| String::decode(&mut decoder).unwrap()).collect();
    assert_eq!(got, texts);
    assert_eq!(data.lengths.iter().sum::<u32>() as usize, data.bytes.len());
}

#[test]
fn what_a_restored_task_begins_with_is_recorded_again_until_it_is_processed() {
    let mut run = Run::new();
    run.gate.begin_with((0..3_000).collect());
    assert!(run.read(10));
    run.gate.overtake(1);
    for channel in 0..2 {
        run.send(channel, Sent::Barrier);
    }
    let data = run.gate.take_recorded().unwrap().unwrap();
    assert_eq!(data.lengths.len(), 2_990);
    while run.read(usize::MAX) {}
    assert_eq!(run.processed, (0..3_000).collect::<Vec<_>>());
}

#[test]
fn a_full_channel_takes_the_barrier_that_overtakes_and_what_its_task_must_send_first() {
    let inbox = Inbox::<u32>::new(1, 2, task());
    let mut writer = ChannelWriter::local(inbox.clone(), 0);
    let producer = task();
    for n in 0..2 {
        writer.send_batch(vec![n], &producer).unwrap();
    }
    assert_eq!(writer.send_full_batch(vec![2], &producer), Err(vec![2]), "the channel is full");
    producer.set_overtaking(true);
    writer.send_batch(vec![2], &producer).unwrap();
    writer.send_control(Control::Barrier(barrier(false)), &producer).unwrap();
    producer.set_overtaking(false);
    assert_eq!(writer.send_full_batch(vec![3], &producer), Err(vec![3]));
    let mut gate = Gate::new(inbox, false);
    assert_eq!(gate.announced(), Some(barrier(false)), "it is known before it is read");
    gate.overtake(1);
    assert_eq!(gate.take_recorded().unwrap().unwrap().lengths.len(), 3);
}
