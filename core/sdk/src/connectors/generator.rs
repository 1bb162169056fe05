//! [`GeneratorSource`]: records computed from their number.

use std::fmt;
use std::time::{Duration, Instant};

use weir_dataflow::operator::Collector;
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
    SplitEnumerator,
};
use weir_derive::Record;

use super::snapshot;

/// Records emitted by one poll.
const POLL: u64 = 8192;

/// Numbers in one split without a rate: small enough that readers advance together, large enough that asking for the
/// next one does not show.
const BLOCK: std::ops::RangeInclusive<u64> = (1 << 13)..=(1 << 20);

/// A reader with a rate sleeps at least this long, so that a high rate does not become busy polling.
const MIN_WAIT: Duration = Duration::from_micros(200);

/// How far a reader may fall behind its schedule and still catch up.
const MAX_LAG: Duration = Duration::from_secs(1);

/// A source whose record number `n` is `f(n)`.
///
/// `f` must be a pure function of the number: the numbers are divided among the subtasks, and after a failure some of them are
/// generated again. Without [`records`](Self::records) the source never ends.
///
/// Without a rate, subtasks take blocks of consecutive numbers, each generated as fast as the rest of the job takes
/// them; a single subtask emits them in order.
///
/// With a [`rate`](Self::rate), subtask `i` of `p` emits the numbers `i`, `i + p`, `i + 2p`, …, number `n` at
/// `n / rate` seconds after its start. What became due during a short pause follows at once; if the job holds a subtask
/// up for more than a second, the schedule is moved so that at most one second's worth follows in one go.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// let clicks = env.source(GeneratorSource::new(|n| (n % 1000, n)).records(1_000_000).rate(50_000.0));
/// # clicks.discard();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GeneratorSource<F> {
    function: F,
    records: Option<u64>,
    rate: Option<f64>,
}

impl<T, F: Fn(u64) -> T> GeneratorSource<F> {
    /// An endless source of `function(0)`, `function(1)`, and so on.
    pub fn new(function: F) -> Self {
        GeneratorSource { function, records: None, rate: None }
    }

    /// Ends the source after the records with the numbers `0..count`.
    pub fn records(mut self, count: u64) -> Self {
        self.records = Some(count);
        self
    }

    /// Limits the source to `per_second` records a second, over all subtasks together.
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }
}

impl<F> fmt::Debug for GeneratorSource<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorSource")
            .field("records", &self.records)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl<T, F> Source for GeneratorSource<F>
where
    T: Send + 'static,
    F: Fn(u64) -> T + Clone + Send + 'static,
{
    type Item = T;
    type Split = NumberSplit;
    type Enumerator = NumberEnumerator;
    type Reader = GeneratorReader<F>;

    fn boundedness(&self) -> Boundedness {
        match self.records {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }

    fn name(&self) -> String {
        match self.records {
            Some(count) => format!("Source: generator of {count}"),
            None => "Source: generator".to_owned(),
        }
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<NumberEnumerator, SourceError> {
        if let Some(rate) = self.rate
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(SourceError::new(format!(
                "a generator's rate is {rate} records per second; it must be a number above 0"
            )));
        }
        let end = self.records.unwrap_or(u64::MAX);
        match &context.restored {
            Some(state) => NumberEnumerator::restore(state, end),
            None if self.rate.is_some() => Ok(NumberEnumerator::striding(end, context.parallelism)),
            None => Ok(NumberEnumerator::blocks(end, context.parallelism)),
        }
    }

    fn create_reader(&self, _context: &ReaderContext) -> Result<GeneratorReader<F>, SourceError> {
        Ok(GeneratorReader::new(self.function.clone(), self.rate))
    }
}

/// Some of a source's numbers: `next`, `next + step`, … below `end`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(crate = "weir_dataflow::record")]
pub struct NumberSplit {
    /// The first number not yet emitted.
    pub next: u64,
    /// Emitted numbers stay below this one.
    pub end: u64,
    /// Distance between emitted numbers.
    pub step: u64,
}

/// Divides numbers among readers.
#[derive(Debug)]
pub struct NumberEnumerator {
    /// Splits to hand out before new blocks.
    ready: Vec<NumberSplit>,
    /// Start of the next block.
    next: u64,
    end: u64,
    block: u64,
}

impl NumberEnumerator {
    fn blocks(end: u64, parallelism: u32) -> Self {
        let block = match parallelism {
            // Nothing to divide, and a single split is read in a single loop.
            0 | 1 => end,
            p => (end / (u64::from(p) * 16)).clamp(*BLOCK.start(), *BLOCK.end()),
        };
        NumberEnumerator { ready: Vec::new(), next: 0, end, block }
    }

    fn striding(end: u64, parallelism: u32) -> Self {
        let step = u64::from(parallelism.max(1));
        // Handed out from the back.
        let ready = (0..step).rev().map(|next| NumberSplit { next, end, step }).collect();
        NumberEnumerator { ready, next: end, end, block: 1 }
    }

    fn restore(state: &[u8], end: u64) -> Result<Self, SourceError> {
        let (ready, next, block) = snapshot::decode::<(Vec<NumberSplit>, u64, u64)>(state, "a generator")?;
        Ok(NumberEnumerator { ready, next, end, block })
    }
}

impl SplitEnumerator for NumberEnumerator {
    type Split = NumberSplit;

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<NumberSplit>, SourceError> {
        if let Some(split) = self.ready.pop() {
            return Ok(NextSplit::Split(split));
        }
        if self.next >= self.end {
            return Ok(NextSplit::Finished);
        }
        let end = self.next.saturating_add(self.block).min(self.end);
        let split = NumberSplit { next: self.next, end, step: 1 };
        self.next = end;
        Ok(NextSplit::Split(split))
    }

    fn add_back(&mut self, splits: Vec<NumberSplit>) {
        self.ready.extend(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        Ok(snapshot::encode(&(self.ready.clone(), self.next, self.block)))
    }
}

/// Generates the records of a subtask.
pub struct GeneratorReader<F> {
    function: F,
    pace: Option<Pace>,
    splits: Vec<Opened>,
    /// Splits it has got so far.
    got: u64,
    /// Whether it was told to collectors which splits there are.
    told: bool,
}

/// A split that is read.
#[derive(Debug)]
struct Opened {
    /// The number by which collectors tell it from others.
    id: u64,
    split: NumberSplit,
}

/// When numbers are due: number `base` at `origin`, `rate` of them a second.
struct Pace {
    rate: f64,
    origin: Instant,
    base: u64,
}

impl Pace {
    /// The first number that is not due yet.
    fn due_before(&mut self, now: Instant, next: u64) -> u64 {
        let late = now.saturating_duration_since(self.due_at(next));
        if late > MAX_LAG {
            self.origin += late - MAX_LAG;
        }
        let elapsed = now.saturating_duration_since(self.origin);
        self.base.saturating_add((elapsed.as_secs_f64() * self.rate) as u64).saturating_add(1)
    }

    fn due_at(&self, number: u64) -> Instant {
        let seconds = number.saturating_sub(self.base) as f64 / self.rate;
        // A rate of once in a million years is a rate too.
        let after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.origin.checked_add(after).unwrap_or_else(|| self.origin + Duration::from_secs(365 * 24 * 3600))
    }
}

impl<F> fmt::Debug for GeneratorReader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorReader").field("splits", &self.splits).finish_non_exhaustive()
    }
}

impl<T, F: Fn(u64) -> T> GeneratorReader<F> {
    fn new(function: F, rate: Option<f64>) -> Self {
        let pace = rate.map(|rate| Pace { rate, origin: Instant::now(), base: 0 });
        GeneratorReader { function, pace, splits: Vec::new(), got: 0, told: true }
    }

    /// Has event time wait for all splits, also for those whose turn comes later.
    fn tell_splits<C: Collector<T>>(&mut self, out: &mut C) {
        if !std::mem::replace(&mut self.told, true) {
            self.splits.iter().for_each(|opened| out.enter_split(opened.id));
        }
    }

    /// Which split has the first number that has not been emitted, and the first one of the others: numbers are emitted in their order
    /// also when there are splits of several readers before.
    fn turn(&self) -> Option<(usize, u64)> {
        let next = |index: &usize| self.splits[*index].split.next;
        let first = (0..self.splits.len()).min_by_key(next)?;
        let others = (0..self.splits.len()).filter(|index| *index != first);
        let second = others.map(|index| next(&index)).min().unwrap_or(u64::MAX);
        Some((first, second.max(next(&first) + 1)))
    }

    /// Emits as fast as the rest of the chain takes it.
    #[inline(always)]
    fn poll_free<C: Collector<T>>(&mut self, out: &mut C) -> ReaderStatus {
        self.tell_splits(out);
        let Some((index, others)) = self.turn() else { return ReaderStatus::NeedSplit };
        let Opened { id, split } = &mut self.splits[index];
        let id = *id;
        out.enter_split(id);
        let from = split.next;
        if split.step == 1 {
            let to = from.saturating_add(POLL).min(split.end).min(others);
            split.next = to;
            out.push_numbered(from..to, &self.function);
        } else {
            let to = from.saturating_add(POLL * split.step).min(split.end).min(others);
            emit_every(&self.function, split, to, out);
        }
        if split.next >= split.end {
            self.splits.remove(index);
            out.leave_split(id);
        }
        if self.splits.is_empty() { ReaderStatus::NeedSplit } else { ReaderStatus::More }
    }

    /// The first number not yet emitted.
    fn next(&self) -> Option<u64> {
        self.splits.iter().map(|opened| opened.split.next).min()
    }

    /// Emits what is due.
    fn poll_paced<C: Collector<T>>(&mut self, out: &mut C, now: Instant) -> ReaderStatus {
        self.tell_splits(out);
        let Some(first) = self.next() else { return ReaderStatus::NeedSplit };
        let Some(pace) = &mut self.pace else { return ReaderStatus::More };
        let due = pace.due_before(now, first);
        let to = due.min(first.saturating_add(POLL * self.splits[0].split.step));
        while let Some((index, others)) = self.turn() {
            let Opened { id, split } = &mut self.splits[index];
            if split.next >= to {
                break;
            }
            out.enter_split(*id);
            emit_every(&self.function, split, to.min(split.end).min(others), out);
            if split.next >= split.end {
                out.leave_split(*id);
                self.splits.remove(index);
            }
        }
        let Some(next) = self.next() else { return ReaderStatus::NeedSplit };
        if next < due {
            return ReaderStatus::More;
        }
        let Some(pace) = &self.pace else { return ReaderStatus::More };
        ReaderStatus::Wait(Some(pace.due_at(next).saturating_duration_since(now).max(MIN_WAIT)))
    }
}

#[inline(always)]
fn emit_every<T>(function: &impl Fn(u64) -> T, split: &mut NumberSplit, to: u64, out: &mut impl Collector<T>) {
    while split.next < to {
        out.push(function(split.next));
        split.next = split.next.saturating_add(split.step);
    }
}

impl<T, F> SourceReader for GeneratorReader<F>
where
    T: 'static,
    F: Fn(u64) -> T + 'static,
{
    type Item = T;
    type Split = NumberSplit;

    fn add_split(&mut self, split: NumberSplit) -> Result<(), SourceError> {
        if let Some(pace) = &mut self.pace
            && self.splits.is_empty()
        {
            pace.origin = Instant::now();
            // All readers count from the same number although each begins with another one.
            pace.base = split.next - split.next % split.step;
        }
        if split.next < split.end {
            self.got += 1;
            self.told = false;
            self.splits.push(Opened { id: self.got, split });
        }
        Ok(())
    }

    #[inline(always)]
    fn poll<C: Collector<T>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        match self.pace {
            None => Ok(self.poll_free(out)),
            Some(_) => Ok(self.poll_paced(out, Instant::now())),
        }
    }

    fn snapshot(&self) -> Vec<NumberSplit> {
        self.splits.iter().map(|opened| opened.split.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::{Got, check_restores, context, drain};
    use super::*;

    fn all_of(source: &GeneratorSource<fn(u64) -> u64>, parallelism: u32) -> Vec<Vec<u64>> {
        let mut enumerator = source.create_enumerator(&context(parallelism)).unwrap();
        let readers = (0..parallelism).map(|_| GeneratorReader::new(source.function, source.rate)).collect();
        drain(&mut enumerator, readers)
    }

    #[test]
    fn a_single_reader_emits_in_order() {
        let source = GeneratorSource::new((|n| n * 2) as fn(u64) -> u64).records(20_000);
        assert_eq!(all_of(&source, 1), [(0..20_000).map(|n| n * 2).collect::<Vec<_>>()]);
    }

    #[test]
    fn every_number_is_emitted_once_at_any_parallelism() {
        for (records, parallelism) in [(0, 1), (0, 3), (1, 4), (8191, 2), (8193, 2), (300_000, 3)] {
            for rate in [None, Some(1e12)] {
                let mut source = GeneratorSource::new((|n| n) as fn(u64) -> u64).records(records);
                source.rate = rate;
                let mut all = all_of(&source, parallelism).concat();
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..records), "{records} records, {parallelism} readers, {rate:?}");
            }
        }
    }

    #[test]
    fn both_readers_get_work() {
        let source = GeneratorSource::new((|n| n) as fn(u64) -> u64).records(1_000_000);
        assert!(all_of(&source, 2).iter().all(|part| part.len() > 400_000));
    }

    #[test]
    fn a_reader_goes_on_wherever_it_was() {
        for parallelism in [1, 3] {
            let source = GeneratorSource::new((|n| n) as fn(u64) -> u64).records(50_000);
            check_restores(
                |restored| source.create_enumerator(&EnumeratorContext { parallelism, restored }).unwrap(),
                || GeneratorReader::new(source.function, None),
                |reader, got| reader.poll(got).unwrap(),
                &(0..50_000).collect::<Vec<_>>(),
            );
        }
    }

    #[test]
    fn a_paced_reader_goes_on_with_the_next_number_and_begins_its_schedule_there() {
        let split = NumberSplit { next: 1, end: 1000, step: 2 };
        let (mut first, mut got) = (GeneratorReader::new(|n| n, Some(1000.0)), Got::default());
        first.add_split(split).unwrap();
        let start = first.pace.as_ref().unwrap().origin;
        first.poll_paced(&mut got, start + Duration::from_millis(300));
        let mut second = GeneratorReader::new(|n| n, Some(1000.0));
        first.snapshot().into_iter().for_each(|split| second.add_split(split).unwrap());
        let start = second.pace.as_ref().unwrap().origin;
        second.poll_paced(&mut got, start);
        assert_eq!(got.0.len(), 150, "nothing is due at once");
        while second.poll_paced(&mut got, start + Duration::from_secs(1)) != ReaderStatus::NeedSplit {}
        assert!(got.0.into_iter().eq((1..1000).step_by(2)));
    }

    #[test]
    fn an_enumerator_continues_from_its_snapshot() {
        let source = GeneratorSource::new((|n| n) as fn(u64) -> u64).records(100_000);
        let mut enumerator = source.create_enumerator(&context(2)).unwrap();
        let NextSplit::Split(taken) = enumerator.next_split(0).unwrap() else { panic!("there is a split") };
        let restored = Some(enumerator.snapshot().unwrap());
        let mut enumerator = source.create_enumerator(&EnumeratorContext { parallelism: 2, restored }).unwrap();
        enumerator.add_back(vec![taken]);
        let all = drain(&mut enumerator, vec![GeneratorReader::new(source.function, None)]).concat();
        assert!(all.into_iter().eq(0..100_000));
    }

    #[test]
    fn a_paced_reader_follows_its_schedule() {
        let mut reader = GeneratorReader::new(|n| n, Some(100_000.0));
        reader.add_split(NumberSplit { next: 1, end: u64::MAX, step: 2 }).unwrap();
        let start = reader.pace.as_ref().unwrap().origin;
        let mut got = Got::default();
        assert_eq!(reader.poll_paced(&mut got, start), ReaderStatus::Wait(Some(MIN_WAIT)));
        assert!(got.0.is_empty());
        reader.poll_paced(&mut got, start + Duration::from_millis(10));
        assert_eq!(got.0, (0..500).map(|n| 2 * n + 1).collect::<Vec<_>>());
    }

    /// The split each number is of, and what is told of splits in between.
    #[derive(Default)]
    struct Splits(Vec<u64>, BTreeMap<u64, Vec<u64>>);

    impl Collector<u64> for Splits {
        fn push(&mut self, record: u64) {
            let split = *self.0.last().unwrap();
            assert_eq!(self.1.len(), 2, "a split is read before all are known");
            self.1.get_mut(&split).unwrap().push(record);
        }

        fn enter_split(&mut self, split: u64) {
            self.0.push(split);
            self.1.entry(split).or_default();
        }

        fn leave_split(&mut self, split: u64) {
            assert_eq!(self.0.last(), Some(&split));
        }
    }

    #[test]
    fn a_reader_of_several_splits_tells_of_all_before_it_reads_one_and_which_one_it_reads() {
        for (rate, step) in [(None, 1), (None, 2), (Some(1e9), 2)] {
            let mut reader = GeneratorReader::new(|n| n, rate);
            for next in [0, 30_001] {
                reader.add_split(NumberSplit { next, end: next + 30_000, step }).unwrap();
            }
            let mut splits = Splits::default();
            while reader.poll(&mut splits).unwrap() != ReaderStatus::NeedSplit {}
            let numbers = [0, 30_001].map(|next| (next..next + 30_000).step_by(step as usize).collect::<Vec<_>>());
            assert!(splits.1.into_values().eq(numbers), "{rate:?} {step}");
        }
    }

    #[test]
    fn a_slow_rate_waits_for_the_next_record() {
        let mut reader = GeneratorReader::new(|n| n, Some(2.0));
        reader.add_split(NumberSplit { next: 0, end: 10, step: 1 }).unwrap();
        let start = reader.pace.as_ref().unwrap().origin;
        let mut got = Got::default();
        let status = reader.poll_paced(&mut got, start + Duration::from_millis(100));
        assert_eq!((got.0, status), (vec![0], ReaderStatus::Wait(Some(Duration::from_millis(400)))));
    }

    #[test]
    fn a_reader_held_up_for_long_catches_up_by_a_second_at_most() {
        let mut reader = GeneratorReader::new(|n| n, Some(1000.0));
        reader.add_split(NumberSplit { next: 0, end: u64::MAX, step: 1 }).unwrap();
        let now = reader.pace.as_ref().unwrap().origin + Duration::from_secs(3600);
        let mut got = Got::default();
        while reader.poll_paced(&mut got, now) == ReaderStatus::More {}
        assert!((1000..=1001).contains(&got.0.len()), "{}", got.0.len());
    }

    #[test]
    fn an_impossible_rate_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = GeneratorSource::new(|n| n).rate(rate).create_enumerator(&context(1)).unwrap_err();
            assert!(error.to_string().contains("above 0"), "{error}");
        }
    }
}
