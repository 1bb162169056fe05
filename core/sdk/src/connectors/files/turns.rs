//! Which of a reader's splits it reads.

use weir_dataflow::operator::Collector;

/// The splits of a reader that reads them one after the other, by number in the order in which it got them.
///
/// Collectors are told of all that it has got, so that event time waits for those whose turn comes later.
#[derive(Debug, Default)]
pub(in super::super) struct Turns {
    got: u64,
    begun: u64,
    /// How many collectors have been told of.
    told: u64,
    /// Whether collectors know which one is read.
    known: bool,
}

impl Turns {
    /// There is one more.
    pub(in super::super) fn add(&mut self) {
        self.got += 1;
    }

    /// The next one is read from now on.
    pub(in super::super) fn begin(&mut self) {
        self.begun += 1;
        self.known = false;
    }

    /// Tells a collector what has changed, before it gets records of the split that is read.
    #[inline]
    pub(in super::super) fn tell<T>(&mut self, out: &mut impl Collector<T>) {
        if self.known && self.told == self.got {
            return;
        }
        (self.told + 1..=self.got).filter(|split| *split != self.begun).for_each(|split| out.enter_split(split));
        out.enter_split(self.begun);
        (self.told, self.known) = (self.got, true);
    }

    /// All of the split that is read has been read.
    pub(in super::super) fn end<T>(&mut self, out: &mut impl Collector<T>) {
        out.leave_split(self.begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Vec<i64>);

    impl Collector<()> for Told {
        fn push(&mut self, _record: ()) {
            self.0.push(0);
        }
        fn enter_split(&mut self, split: u64) {
            self.0.push(split as i64);
        }
        fn leave_split(&mut self, split: u64) {
            self.0.push(-(split as i64));
        }
    }

    #[test]
    fn collectors_know_of_splits_before_their_turn() {
        let (mut turns, mut out) = (Turns::default(), Told::default());
        turns.add();
        turns.add();
        turns.begin();
        turns.tell(&mut out);
        turns.tell(&mut out);
        out.push(());
        turns.add();
        turns.tell(&mut out);
        turns.end(&mut out);
        turns.begin();
        turns.tell(&mut out);
        assert_eq!(out.0, [2, 1, 0, 3, 1, -1, 2]);
    }
}
