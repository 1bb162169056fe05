//! The input gate as pure code: what the control elements of several channels mean for the task behind them.
//!
//! A task reads one gate per input. The gate takes the minimum of its channels' watermarks, leaves idle channels out of it,
//! aligns barriers and counts ends. It never touches records, threads or clocks, so every decision can be tested as a function.

use std::collections::BTreeSet;

use crate::element::{Barrier, Control, EventTime};

/// What the task has to do after a control element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateAction {
    /// Nothing changes for the task.
    None,
    /// The gate's watermark advanced to this time.
    Watermark(EventTime),
    /// The whole gate became idle (`true`) or active again (`false`).
    Idle(bool),
    /// The channel must not be read until [`GateAction::Aligned`]; others still owe the barrier.
    Block,
    /// As `Block`, but an older alignment was given up for this barrier: what it had blocked may be read again first.
    BlockAnew,
    /// Every channel delivered the barrier; all blocked channels may be read again.
    Aligned(Barrier),
    /// Every channel ended.
    End,
}

/// State of one channel as the gate sees it.
#[derive(Debug, Clone, Copy)]
struct ChannelView {
    watermark: EventTime,
    idle: bool,
    ended: bool,
    /// Whether the channel delivered the barrier being aligned.
    barrier: bool,
}

/// Merges the control elements of `n` channels.
#[derive(Debug, Clone)]
pub struct GateState {
    channels: Vec<ChannelView>,
    watermark: EventTime,
    idle: bool,
    open: usize,
    aligning: Option<Barrier>,
    arrived: usize,
    /// The last checkpoint whose barrier went on; later ones of it and of older ones mean nothing.
    passed: u64,
    /// Later checkpoints of which nothing will become; their barriers mean nothing either.
    given_up: BTreeSet<u64>,
}

impl GateState {
    /// A gate over `channels` channels, none of which has delivered anything.
    pub fn new(channels: usize) -> Self {
        let view = ChannelView { watermark: EventTime::MIN, idle: false, ended: false, barrier: false };
        GateState {
            channels: vec![view; channels],
            watermark: EventTime::MIN,
            idle: false,
            open: channels,
            aligning: None,
            arrived: 0,
            passed: 0,
            given_up: BTreeSet::new(),
        }
    }

    /// The minimum watermark over all channels that are neither idle nor ended.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Whether every channel ended.
    pub fn is_ended(&self) -> bool {
        self.open == 0
    }

    /// Takes one control element of `channel`.
    pub fn on_control(&mut self, channel: usize, control: Control) -> GateAction {
        debug_assert!(!self.channels[channel].ended, "channel {channel} delivered {control:?} after its end");
        match control {
            Control::Watermark(time) => self.on_watermark(channel, time),
            Control::Idle(idle) => self.on_idle(channel, idle),
            Control::Barrier(barrier) => self.on_barrier(channel, barrier),
            Control::End => self.on_end(channel),
        }
    }

    fn on_watermark(&mut self, channel: usize, time: EventTime) -> GateAction {
        let view = &mut self.channels[channel];
        // A channel's watermark never moves back; a watermark also says that the channel is active.
        view.watermark = view.watermark.max(time);
        view.idle = false;
        self.advance()
    }

    fn on_idle(&mut self, channel: usize, idle: bool) -> GateAction {
        self.channels[channel].idle = idle;
        self.advance()
    }

    /// How far any channel has come: that is what holds where none holds the others back any more. A channel at the end of all time
    /// says nothing about others.
    fn furthest(&self) -> Option<EventTime> {
        self.channels.iter().map(|c| c.watermark).filter(|time| *time < EventTime::MAX).max()
    }

    /// Recomputes watermark and idleness; if both change, the watermark goes first. To be asked again after [`GateAction::Aligned`]: an
    /// end can complete an alignment and free the watermark at once; and after a watermark that came of idleness or an end.
    pub fn advance(&mut self) -> GateAction {
        let active = self.channels.iter().filter(|c| !c.idle && !c.ended);
        let minimum = active.map(|c| c.watermark).min();
        let all_idle = minimum.is_none() && self.open > 0;
        match if all_idle { self.furthest() } else { minimum } {
            Some(time) if time > self.watermark => {
                self.watermark = time;
                self.idle &= all_idle;
                GateAction::Watermark(time)
            }
            _ if all_idle != self.idle => {
                self.idle = all_idle;
                GateAction::Idle(all_idle)
            }
            _ => GateAction::None,
        }
    }

    /// Whether a barrier waits for channels that owe it.
    pub fn is_aligning(&self) -> bool {
        self.aligning.is_some()
    }

    /// Whether the task's state is still one of this checkpoint: no channel that delivered its barrier was read further.
    pub fn may_overtake(&self, checkpoint: u64) -> bool {
        self.passed <= checkpoint
            && !self.given_up.contains(&checkpoint)
            && self.aligning.is_none_or(|aligning| aligning.checkpoint <= checkpoint)
    }

    /// The barrier of a checkpoint goes on although channels owe it: all blocked channels may be read again. Returns, by channel,
    /// which still owe it: what they deliver until then is part of the checkpoint. Only if [`may_overtake`](Self::may_overtake).
    pub fn overtake(&mut self, checkpoint: u64) -> Vec<bool> {
        debug_assert!(self.may_overtake(checkpoint));
        let passed = self.passed == checkpoint;
        let aligning = self.aligning.is_some_and(|aligning| aligning.checkpoint == checkpoint);
        self.aligning = None;
        self.passed = checkpoint;
        self.channels.iter().map(|c| !(passed || c.ended || (aligning && c.barrier))).collect()
    }

    /// Nothing will become of a checkpoint. Whether it was being aligned: all blocked channels may be read again.
    pub fn give_up(&mut self, checkpoint: u64) -> bool {
        self.given_up.retain(|&given_up| given_up > self.passed);
        self.given_up.insert(checkpoint);
        self.aligning.take_if(|aligning| aligning.checkpoint == checkpoint).is_some()
    }

    fn on_barrier(&mut self, channel: usize, barrier: Barrier) -> GateAction {
        if barrier.checkpoint <= self.passed || self.given_up.contains(&barrier.checkpoint) {
            return GateAction::None;
        }
        let gives_up = self.aligning.is_some_and(|current| current.checkpoint < barrier.checkpoint);
        match self.aligning {
            Some(current) if barrier.checkpoint < current.checkpoint => return GateAction::None,
            Some(current) if barrier.checkpoint == current.checkpoint => {}
            // The first barrier of a newer checkpoint abandons an alignment that can no longer complete.
            Some(_) | None => {
                self.aligning = Some(barrier);
                self.arrived = 0;
                self.channels.iter_mut().for_each(|c| c.barrier = false);
            }
        }
        let view = &mut self.channels[channel];
        if !view.barrier {
            view.barrier = true;
            self.arrived += 1;
        }
        let block = if gives_up { GateAction::BlockAnew } else { GateAction::Block };
        self.complete_alignment().unwrap_or(block)
    }

    /// Ended channels owe no barrier: what they delivered belongs to every later checkpoint.
    fn complete_alignment(&mut self) -> Option<GateAction> {
        let barrier = self.aligning?;
        let delivered = self.channels.iter().filter(|c| c.barrier || c.ended).count();
        (delivered == self.channels.len() && self.arrived > 0).then(|| {
            self.aligning = None;
            self.passed = barrier.checkpoint;
            GateAction::Aligned(barrier)
        })
    }

    fn on_end(&mut self, channel: usize) -> GateAction {
        self.channels[channel].ended = true;
        self.open -= 1;
        if self.open == 0 {
            return GateAction::End;
        }
        self.complete_alignment().unwrap_or_else(|| self.advance())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(checkpoint: u64) -> Control {
        Control::Barrier(Barrier {
            checkpoint,
            timestamp: 0,
            aligned: true,
            kind: weir_model::CheckpointKind::Checkpoint,
        })
    }

    /// Feeds `input` and compares the actions that are not `None`.
    fn check(channels: usize, input: &[(usize, Control)], expect: &[GateAction]) {
        let mut gate = GateState::new(channels);
        let got: Vec<_> =
            input.iter().map(|&(c, e)| gate.on_control(c, e)).filter(|a| *a != GateAction::None).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn the_watermark_is_the_minimum_of_all_channels() {
        use Control::Watermark as W;
        check(
            2,
            &[(0, W(5)), (1, W(3)), (1, W(9)), (0, W(7))],
            &[GateAction::Watermark(3), GateAction::Watermark(5), GateAction::Watermark(7)],
        );
    }

    #[test]
    fn a_watermark_never_moves_back() {
        use Control::Watermark as W;
        check(1, &[(0, W(5)), (0, W(2)), (0, W(6))], &[GateAction::Watermark(5), GateAction::Watermark(6)]);
    }

    #[test]
    fn an_idle_or_ended_channel_does_not_hold_the_watermark_back() {
        use Control::*;
        check(3, &[(0, Watermark(5)), (1, Idle(true)), (2, End)], &[GateAction::Watermark(5)]);
        check(
            2,
            &[(0, Idle(true)), (1, Idle(true)), (1, Idle(false))],
            &[GateAction::Idle(true), GateAction::Idle(false)],
        );
    }

    #[test]
    fn when_the_last_channel_falls_idle_time_has_come_as_far_as_any_of_them() {
        use Control::*;
        let mut gate = GateState::new(3);
        gate.on_control(0, Watermark(100));
        gate.on_control(1, Watermark(5));
        assert_eq!(gate.on_control(2, Watermark(7)), GateAction::Watermark(5));
        assert_eq!(gate.on_control(0, End), GateAction::None);
        assert_eq!(gate.on_control(1, Idle(true)), GateAction::Watermark(7));
        assert_eq!(gate.advance(), GateAction::None);
        assert_eq!(gate.on_control(2, Idle(true)), GateAction::Watermark(100));
        assert_eq!(gate.advance(), GateAction::Idle(true));
        assert_eq!(gate.on_control(1, Watermark(50)), GateAction::Idle(false));
        assert_eq!(gate.on_control(1, Watermark(120)), GateAction::Watermark(120));
    }

    #[test]
    fn barriers_align_over_all_open_channels() {
        let aligned = GateAction::Aligned(Barrier {
            checkpoint: 1,
            timestamp: 0,
            aligned: true,
            kind: weir_model::CheckpointKind::Checkpoint,
        });
        check(2, &[(0, barrier(1)), (1, barrier(1))], &[GateAction::Block, aligned]);
        check(2, &[(0, Control::End), (1, barrier(1))], &[aligned]);
        check(2, &[(0, barrier(1)), (1, Control::End)], &[GateAction::Block, aligned]);
        let mut gate = GateState::new(2);
        gate.on_control(0, Control::Watermark(7));
        gate.on_control(0, barrier(1));
        assert_eq!(gate.on_control(1, Control::End), aligned);
        assert_eq!(gate.advance(), GateAction::Watermark(7), "the end also freed the watermark");
    }

    #[test]
    fn a_newer_barrier_abandons_an_older_alignment() {
        let aligned = GateAction::Aligned(Barrier {
            checkpoint: 2,
            timestamp: 0,
            aligned: true,
            kind: weir_model::CheckpointKind::Checkpoint,
        });
        check(
            2,
            &[(0, barrier(1)), (1, barrier(2)), (0, barrier(2))],
            &[GateAction::Block, GateAction::BlockAnew, aligned],
        );
    }

    #[test]
    fn the_gate_ends_with_its_last_channel() {
        check(2, &[(0, Control::End), (1, Control::End)], &[GateAction::End]);
        let mut gate = GateState::new(1);
        assert!(!gate.is_ended());
        gate.on_control(0, Control::End);
        assert!(gate.is_ended());
    }

    #[test]
    fn a_barrier_that_overtakes_leaves_the_channels_that_owe_it() {
        let mut gate = GateState::new(4);
        gate.on_control(0, Control::End);
        assert_eq!(gate.on_control(1, barrier(1)), GateAction::Block);
        assert!(gate.may_overtake(1));
        assert_eq!(gate.overtake(1), [false, false, true, true]);
        assert!(!gate.is_aligning(), "what was blocked is read again");
        assert_eq!(gate.on_control(2, barrier(1)), GateAction::None, "it has gone on already");
        // The next one aligns, although a channel still owes the one before.
        assert_eq!(gate.on_control(2, barrier(2)), GateAction::Block);
        assert_eq!(gate.on_control(1, barrier(2)), GateAction::Block);
        assert_eq!(gate.on_control(3, barrier(1)), GateAction::None);
        assert!(matches!(gate.on_control(3, barrier(2)), GateAction::Aligned(_)));
    }

    #[test]
    fn no_barrier_overtakes_what_was_read_behind_it() {
        let mut gate = GateState::new(2);
        gate.on_control(0, barrier(1));
        gate.on_control(1, barrier(2));
        assert!(!gate.may_overtake(1), "the first channel goes on behind barrier 1 while 2 is aligned");
        assert!(gate.may_overtake(2));
        gate.on_control(0, barrier(2));
        assert!(!gate.may_overtake(1));
        assert_eq!(gate.overtake(2), [false, false], "a gate that has passed it owes nothing");
    }

    #[test]
    fn a_checkpoint_that_is_given_up_blocks_nothing_before_or_after() {
        let mut gate = GateState::new(2);
        gate.on_control(0, barrier(1));
        assert!(gate.give_up(1));
        assert!(!gate.may_overtake(1));
        assert_eq!(gate.on_control(1, barrier(1)), GateAction::None);
        assert_eq!(gate.on_control(1, barrier(2)), GateAction::Block);
        assert!(!gate.give_up(1), "another one is being aligned");
        assert!(matches!(gate.on_control(0, barrier(2)), GateAction::Aligned(_)));
    }
}
