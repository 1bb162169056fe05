//! What waits to be written to one peer, and in which order it goes: pure code, no sockets.
//!
//! Grants and credits go first (they are tiny and others wait for them); then the channels that have something queued take
//! turns, one frame each.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::frame::{FRAGMENT_BYTES, Head};
use crate::element::Control;

/// A channel's number among the senders of a connection.
pub(super) type Lane = u32;

/// One frame ready to be written.
#[derive(Debug)]
pub(super) struct OutFrame {
    pub(super) head: Head,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    None,
    Whole(Vec<u8>),
    Part(Arc<Vec<u8>>, Range<usize>),
}

impl OutFrame {
    /// The frame's bytes in the two pieces they lie in.
    pub(super) fn pieces(&self) -> [&[u8]; 2] {
        let body: &[u8] = match &self.body {
            Body::None => &[],
            Body::Whole(bytes) => bytes,
            Body::Part(bytes, range) => &bytes[range.clone()],
        };
        [self.head.as_bytes(), body]
    }

    pub(super) fn len(&self) -> usize {
        self.pieces().iter().map(|p| p.len()).sum()
    }

    /// The buffer, once nothing of it remains to be written.
    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        match self.body {
            Body::None => None,
            Body::Whole(bytes) => Some(bytes),
            // Buffers of batches longer than a fragment are not worth keeping.
            Body::Part(..) => None,
        }
    }
}

#[derive(Debug)]
enum Queued {
    Batch {
        bytes: Vec<u8>,
        records: u32,
    },
    /// A batch longer than a fragment, of which the bytes before `from` are on their way.
    Rest {
        bytes: Arc<Vec<u8>>,
        from: usize,
        records: u32,
    },
    Control(Control),
}

#[derive(Debug, Default)]
struct LaneState {
    /// The channel's number at the receiver; until it is known nothing can be sent.
    slot: Option<u32>,
    queue: VecDeque<Queued>,
}

/// The queues of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lanes: Vec<LaneState>,
    /// Lanes with a slot and something queued, each once, in the order of their turns.
    ready: VecDeque<Lane>,
    urgent: VecDeque<Head>,
    /// Elements queued over all lanes.
    queued: usize,
}

impl Outbox {
    /// A place for one more channel, whose number at the receiver is not known yet.
    pub(super) fn add_lane(&mut self) -> Lane {
        self.lanes.push(LaneState::default());
        (self.lanes.len() - 1) as Lane
    }

    /// From now on the lane's frames can be sent.
    pub(super) fn open_lane(&mut self, lane: Lane, slot: u32) {
        let state = &mut self.lanes[lane as usize];
        debug_assert!(state.slot.is_none(), "lane {lane} was opened twice");
        state.slot = Some(slot);
        if !state.queue.is_empty() {
            self.ready.push_back(lane);
        }
    }

    pub(super) fn push_batch(&mut self, lane: Lane, bytes: Vec<u8>, records: u32) {
        self.push(lane, Queued::Batch { bytes, records });
    }

    pub(super) fn push_control(&mut self, lane: Lane, control: Control) {
        self.push(lane, Queued::Control(control));
    }

    /// Queues a grant or credit.
    pub(super) fn push_urgent(&mut self, head: Head) {
        self.urgent.push_back(head);
    }

    fn push(&mut self, lane: Lane, element: Queued) {
        let state = &mut self.lanes[lane as usize];
        if state.queue.is_empty() && state.slot.is_some() {
            self.ready.push_back(lane);
        }
        state.queue.push_back(element);
        self.queued += 1;
    }

    /// Whether everything queued was taken, also what waits for its channel to be opened.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0 && self.urgent.is_empty()
    }

    /// Forgets everything queued.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.urgent.clear();
        self.lanes.iter_mut().for_each(|lane| lane.queue.clear());
        self.queued = 0;
    }

    /// The next frame to be written.
    pub(super) fn pop(&mut self) -> Option<OutFrame> {
        if let Some(head) = self.urgent.pop_front() {
            return Some(OutFrame { head, body: Body::None });
        }
        let lane = self.ready.pop_front()?;
        let state = &mut self.lanes[lane as usize];
        let slot = state.slot.expect("a ready lane has a slot");
        let element = state.queue.pop_front().expect("a ready lane has something queued");
        let (frame, rest) = cut(slot, element);
        match rest {
            Some(rest) => state.queue.push_front(rest),
            None => self.queued -= 1,
        }
        if !state.queue.is_empty() {
            self.ready.push_back(lane);
        }
        Some(frame)
    }
}

/// The first frame of `element` and what remains of it.
fn cut(slot: u32, element: Queued) -> (OutFrame, Option<Queued>) {
    let (bytes, from, records) = match element {
        Queued::Control(control) => return (OutFrame { head: Head::control(slot, control), body: Body::None }, None),
        Queued::Batch { bytes, records } if bytes.len() <= FRAGMENT_BYTES => {
            return (OutFrame { head: Head::batch(slot, bytes.len(), records), body: Body::Whole(bytes) }, None);
        }
        Queued::Batch { bytes, records } => (Arc::new(bytes), 0, records),
        Queued::Rest { bytes, from, records } => (bytes, from, records),
    };
    let to = bytes.len().min(from + FRAGMENT_BYTES);
    let body = Body::Part(bytes.clone(), from..to);
    if to == bytes.len() {
        (OutFrame { head: Head::batch(slot, to - from, records), body }, None)
    } else {
        (OutFrame { head: Head::fragment(slot, to - from), body }, Some(Queued::Rest { bytes, from: to, records }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(outbox: &mut Outbox, slot: u32) -> Lane {
        let lane = outbox.add_lane();
        outbox.open_lane(lane, slot);
        lane
    }

    /// The slot and payload length of all frames, in order.
    fn drain(outbox: &mut Outbox) -> Vec<(u32, usize)> {
        std::iter::from_fn(|| outbox.pop())
            .map(|frame| {
                let [head, body] = frame.pieces();
                (u32::from_le_bytes(head[4..8].try_into().unwrap()), body.len())
            })
            .collect()
    }

    #[test]
    fn channels_take_turns() {
        let mut outbox = Outbox::default();
        let (a, b) = (open(&mut outbox, 0), open(&mut outbox, 1));
        (1..=3).for_each(|n| outbox.push_batch(a, vec![0; n], 1));
        outbox.push_batch(b, vec![0; 9], 1);
        assert_eq!(drain(&mut outbox), [(0, 1), (1, 9), (0, 2), (0, 3)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_long_batch_lets_others_in_between_its_fragments() {
        let mut outbox = Outbox::default();
        let (a, b) = (open(&mut outbox, 0), open(&mut outbox, 1));
        outbox.push_batch(a, vec![0; 2 * FRAGMENT_BYTES + 1], 1);
        outbox.push_control(a, Control::End);
        outbox.push_batch(b, vec![0; 9], 1);
        let expect = [(0, FRAGMENT_BYTES), (1, 9), (0, FRAGMENT_BYTES), (0, 1), (0, 0)];
        assert_eq!(drain(&mut outbox), expect);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_channel_without_a_number_waits_and_credits_go_first() {
        let mut outbox = Outbox::default();
        let lane = outbox.add_lane();
        outbox.push_control(lane, Control::End);
        assert!(outbox.pop().is_none());
        assert!(!outbox.is_empty());
        outbox.open_lane(lane, 5);
        outbox.push_urgent(Head::credit(9, 1));
        assert_eq!(drain(&mut outbox), [(9, 0), (5, 0)]);
    }
}
