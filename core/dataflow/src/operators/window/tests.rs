//! Windows against a list of all windows that looks at every one of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_checkpoint::TableSnapshot;
use weir_model::KeyGroups;

use super::handover::Budget;
use super::kind::Grid;
use super::operator::WindowTable;
use super::state::{Row, RowReader, columns};
use super::{
    AggregateWindow, EmitWindow, EventTimeOf, ProcessWindow, TimeWindow, Trigger, WindowAssigner, WindowContext,
    WindowFunction, WindowLogic, WindowOperator, WindowOptions, WindowPartOperator,
};
use crate::element::EventTime;
use crate::operator::{Collector, Operator};
use crate::operators::Aggregator;
use crate::record::Record;
use crate::snapshot::{RestoredRows, TableId, schema_of};

/// Counts records and adds their numbers up, so that a record that is missing or there twice is noticed.
#[derive(Clone)]
struct CountAndSum {
    /// Whether parts can be taken out again.
    subtracts: bool,
}

type Seen = (u64, u64);

impl Aggregator<u64> for CountAndSum {
    type Accumulator = Seen;
    type Out = Seen;
    fn first(&mut self, number: u64) -> Seen {
        (1, number)
    }
    fn add(&mut self, seen: &mut Seen, number: u64) {
        self.combine(seen, (1, number));
    }
    fn combine(&mut self, seen: &mut Seen, other: Seen) {
        *seen = (seen.0 + other.0, seen.1 + other.1);
    }
    fn subtract(&mut self, seen: &mut Seen, part: &Seen) -> bool {
        if self.subtracts {
            *seen = (seen.0 - part.0, seen.1 - part.1);
        }
        self.subtracts
    }
    fn result(&mut self, seen: &Seen) -> Seen {
        *seen
    }
}

#[derive(Clone)]
struct Tuple;

type Fired = (u64, TimeWindow, Seen);

impl EmitWindow<u64, Seen> for Tuple {
    type Out = Fired;
    fn emit(key: &u64, window: TimeWindow, seen: Seen) -> Fired {
        (*key, window, seen)
    }
}

type Logic = AggregateWindow<CountAndSum, Tuple>;
type Tested = WindowTable<u64, u64, Logic>;

fn logic() -> Logic {
    Logic::new(CountAndSum { subtracts: false })
}

/// The same of a list of all records.
#[derive(Clone)]
struct Listed;

impl WindowFunction<u64, u64> for Listed {
    type Out = Fired;
    fn process(&mut self, key: &u64, records: &[u64], context: &mut WindowContext<Fired>) {
        context.emit((*key, context.window(), (records.len() as u64, records.iter().sum())));
    }
}

struct Collected<T>(Vec<T>);

impl<T> Collector<T> for Collected<T> {
    fn push(&mut self, record: T) {
        self.0.push(record);
    }
}

/// The windows of a key that are kept, each with what is in it and what came since it fired.
struct Model {
    options: WindowOptions,
    windows: BTreeMap<(u64, TimeWindow), (Seen, u64)>,
    watermark: EventTime,
    fired: Vec<Fired>,
}

impl Model {
    fn new(options: WindowOptions) -> Self {
        Model { options, windows: BTreeMap::new(), watermark: EventTime::MIN, fired: Vec::new() }
    }

    fn windows_of(&self, time: EventTime) -> Vec<TimeWindow> {
        match self.options.assigner {
            WindowAssigner::Grid(Grid { size, slide, offset }) => {
                let first = (time - offset).div_euclid(slide) - size / slide - 1;
                let starts = (first..first + size / slide + 4).map(|n| n * slide + offset);
                starts
                    .filter(|start| (*start..start + size).contains(&time))
                    .map(|start| TimeWindow { start, end: start + size })
                    .collect()
            }
            WindowAssigner::Session { gap } => vec![TimeWindow { start: time, end: time + gap }],
            WindowAssigner::Global => vec![TimeWindow::GLOBAL],
        }
    }

    fn is_gone(&self, window: TimeWindow) -> bool {
        window.last().saturating_add(self.options.lateness) <= self.watermark
    }

    fn add(&mut self, key: u64, time: EventTime, number: u64) -> bool {
        let mut taken = false;
        for mut window in self.windows_of(time) {
            let mut merged: Vec<TimeWindow> = vec![window];
            if matches!(self.options.assigner, WindowAssigner::Session { .. }) {
                let touching = |other: &&(u64, TimeWindow)| {
                    other.0 == key && other.1.start <= window.end && other.1.end >= window.start
                };
                merged = self.windows.keys().filter(touching).map(|(_, other)| *other).collect();
                for other in &merged {
                    window = TimeWindow { start: window.start.min(other.start), end: window.end.max(other.end) };
                }
            }
            if self.is_gone(window) {
                continue;
            }
            taken = true;
            let (mut seen, mut pending) = ((1, number), 1);
            for other in merged {
                if let Some((old, waiting)) = self.windows.remove(&(key, other)) {
                    seen = (seen.0 + old.0, seen.1 + old.1);
                    pending += waiting;
                }
            }
            let fires = match self.options.trigger {
                Trigger::Count(count) => pending >= count,
                Trigger::AtEnd | Trigger::Every(_) => window.last() <= self.watermark,
            };
            if fires {
                self.fired.push((key, window, seen));
                pending = 0;
            }
            if !(fires && self.options.purging) {
                self.windows.insert((key, window), (seen, pending));
            }
        }
        taken
    }

    fn advance(&mut self, to: EventTime) {
        if to <= self.watermark {
            return;
        }
        let over = |window: &TimeWindow| window.last() <= to && window.last() > self.watermark;
        let interval = match self.options.trigger {
            Trigger::Every(interval) => to.div_euclid(interval) > self.watermark.div_euclid(interval),
            Trigger::AtEnd | Trigger::Count(_) => false,
        };
        let at_end = !matches!(self.options.trigger, Trigger::Count(_));
        let mut purged = Vec::new();
        for (&(key, window), (seen, pending)) in &mut self.windows {
            let ends = at_end && over(&window);
            if ends || (interval && *pending > 0 && window.last() > to) {
                self.fired.push((key, window, *seen));
                *pending = 0;
                if self.options.purging {
                    purged.push((key, window));
                }
            }
        }
        self.windows.retain(|window, _| !purged.contains(window));
        self.watermark = to;
        let gone: Vec<_> = self.windows.keys().filter(|(_, window)| self.is_gone(*window)).copied().collect();
        self.windows.retain(|window, _| !gone.contains(window));
    }
}

/// The subtasks of the operator.
struct Subtasks<L: WindowLogic<u64, u64, Out = Fired>> {
    logic: L,
    options: WindowOptions,
    tables: Vec<WindowTable<u64, u64, L>>,
    snapshots: u64,
    spans: Vec<(u32, u32, EventTime)>,
    /// What the snapshot under way has.
    slices: Vec<RestoredRows>,
}

const GROUPS: u32 = 16;

fn reader<A: Record>() -> RowReader<u64, A> {
    let columns = columns::<A>();
    let (name, key) = (String::from("windows"), schema_of::<u64>());
    RowReader::new(&TableSnapshot {
        name,
        key,
        columns,
        max_parallelism: GROUPS,
        groups: Vec::new(),
        files: Vec::new(),
    })
    .unwrap()
}

/// Key, beginning, end, pending, accumulator.
type Rows<A> = Vec<(u64, EventTime, EventTime, u64, A)>;

impl<L: WindowLogic<u64, u64, Out = Fired>> Subtasks<L> {
    fn new(logic: L, options: WindowOptions) -> Self {
        let (spans, slices) = (Vec::new(), Vec::new());
        let mut tasks = Subtasks { logic, options, tables: Vec::new(), snapshots: 0, spans, slices };
        tasks.restore(1);
        tasks
    }

    fn groups(&self) -> KeyGroups {
        KeyGroups::new(GROUPS, self.tables.len() as u32)
    }

    fn of(&mut self, key: u64) -> &mut WindowTable<u64, u64, L> {
        let groups = self.groups();
        &mut self.tables[groups.subtask_of(groups.group_of(key.key_hash())) as usize]
    }

    fn add(&mut self, key: u64, time: EventTime, number: u64, out: &mut Collected<Fired>) {
        let part = self.logic.first(number);
        self.of(key).add(key, time, part, out);
    }

    /// Begins a snapshot of all subtasks.
    fn begin(&mut self) {
        self.snapshots += 1;
        self.spans.clear();
        self.slices.clear();
        for table in &mut self.tables {
            self.spans.extend(table.spans());
            table.begin(self.snapshots, TableId::FIRST);
        }
    }

    /// Hands over so many keys of each subtask. Whether there may be more.
    fn slice(&mut self, keys: usize) -> bool {
        let slices = &mut self.slices;
        let mut add = |_, group, rows, bytes| slices.push(RestoredRows { group, rows, bytes });
        let more = self.tables.iter_mut().map(|table| table.step(Budget::of_keys(keys), &mut add));
        more.fold(false, |any, more| any | more)
    }

    /// What the snapshot under way has, when it has everything.
    fn rows(&mut self) -> Rows<L::Accumulator>
    where
        L::Accumulator: Ord,
    {
        while self.slice(100) {}
        let (reader, mut rows) = (reader(), Vec::new());
        let mut add =
            |row: Row<u64, L::Accumulator>| rows.push((row.key, row.start, row.end, row.pending, row.accumulator));
        self.slices.iter().for_each(|group| reader.read(group, &mut add).unwrap());
        rows.sort_unstable();
        rows
    }

    /// Completes the snapshot under way and begins with it as so many subtasks, which know of no watermark yet.
    fn restore(&mut self, parallelism: u32) {
        while self.slice(100) {}
        let reader = reader();
        let new = KeyGroups::new(GROUPS, parallelism);
        self.tables = (0..parallelism)
            .map(|subtask| {
                let mut rows = Vec::new();
                for group in self.slices.iter().filter(|group| new.range_of(subtask).contains(&group.group)) {
                    reader.read(group, |row| rows.push(row)).unwrap();
                }
                let mut table = WindowTable::new(self.logic.clone(), self.options);
                table.begin_with((new, subtask), &self.spans, rows.into_iter());
                table
            })
            .collect();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Record(u64, EventTime),
    Watermark(EventTime),
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u64, -60..160_i64).prop_map(|(key, time)| Step::Record(key, time)),
        2 => (-70..190_i64).prop_map(Step::Watermark),
        1 => (1..5_u32).prop_map(Step::Restore),
    ]
}

/// Runs the steps; `restores`: also those that restore.
fn check(options: WindowOptions, steps: &[Step], restores: bool) {
    check_with(logic(), options, steps, restores);
    check_with(Logic::new(CountAndSum { subtracts: true }), options, steps, restores);
    check_with(ProcessWindow::new(Listed), options, steps, restores);
}

fn check_with<L>(logic: L, options: WindowOptions, steps: &[Step], restores: bool)
where
    L: WindowLogic<u64, u64, Out = Fired>,
{
    let (mut model, mut tasks) = (Model::new(options), Subtasks::new(logic, options));
    for (number, step) in (1..).zip(steps) {
        let mut out = Collected(Vec::new());
        match *step {
            Step::Record(key, time) => {
                let late = tasks.of(key).is_late(&key, time);
                tasks.add(key, time, 1 << (number % 50), &mut out);
                let taken = model.add(key, time, 1 << (number % 50));
                let nowhere = model.windows_of(time).is_empty();
                assert_eq!(late, !taken && !nowhere, "{options:?}, step {number}: {step:?} of {steps:?}");
            }
            Step::Watermark(time) => {
                for table in &mut tasks.tables {
                    table.advance(time, &mut out);
                }
                model.advance(time);
            }
            Step::Restore(parallelism) if restores => {
                tasks.begin();
                tasks.restore(parallelism);
            }
            Step::Restore(_) => {}
        }
        out.0.sort_unstable();
        let mut expected = std::mem::take(&mut model.fired);
        expected.sort_unstable();
        assert_eq!(out.0, expected, "{options:?}, step {number}: {step:?} of {steps:?}");
    }
    let mut out = Collected(Vec::new());
    for table in &mut tasks.tables {
        table.advance(EventTime::MAX, &mut out);
    }
    model.advance(EventTime::MAX);
    out.0.sort_unstable();
    model.fired.sort_unstable();
    assert_eq!(out.0, model.fired, "{options:?}, at the end of {steps:?}");
}

fn assigner() -> impl Strategy<Value = WindowAssigner> {
    prop_oneof![
        (1..40_i64, 0..5_i64)
            .prop_map(|(size, offset)| { WindowAssigner::Grid(Grid { size, slide: size, offset: offset % size }) }),
        (1..60_i64, 1..30_i64, 0..7_i64)
            .prop_map(|(size, slide, offset)| { WindowAssigner::Grid(Grid { size, slide, offset: offset % slide }) }),
        (1..30_i64).prop_map(|gap| WindowAssigner::Session { gap }),
        Just(WindowAssigner::Global),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn windows_fire_when_they_are_over_and_for_late_records(
        assigner in assigner(),
        lateness in prop_oneof![Just(0_i64), 1..50_i64],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let options = WindowOptions { lateness, ..WindowOptions::new(assigner) };
        check(options, &steps, true);
    }

    #[test]
    fn triggers_fire_windows_earlier(
        assigner in assigner(),
        trigger in prop_oneof![Just(Trigger::AtEnd), (1..4_u64).prop_map(Trigger::Count), (1..20_i64).prop_map(Trigger::Every)],
        purging: bool,
        lateness in prop_oneof![Just(0_i64), 1..50_i64],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let options = WindowOptions { assigner, trigger, purging, lateness };
        check(options, &steps, false);
    }

    #[test]
    fn what_is_folded_before_the_exchange_fires_the_same(
        assigner in assigner(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let options = WindowOptions::new(assigner);
        let logic = logic();
        let key_of = |record: &u64| record & 3;
        let time_of = EventTimeOf(|record: &u64| (record >> 2) as i64 - 100);
        let mut parts = WindowPartOperator::new(key_of, time_of, logic.clone(), options);
        let (mut folded, mut plain) = (Tested::new(logic.clone(), options), Tested::new(logic, options));
        let (mut from_folded, mut from_plain) = (Collected(Vec::new()), Collected(Vec::new()));
        for step in &steps {
            let mut between = Collected(Vec::new());
            match *step {
                Step::Record(key, time) => {
                    let record = ((time + 100) as u64) << 2 | key;
                    parts.process(record, &mut between);
                    plain.add(key, time, (1, record), &mut from_plain);
                }
                Step::Watermark(time) => Operator::<u64>::watermark(&mut parts, time, &mut between),
                Step::Restore(_) => Operator::<u64>::before_barrier(&mut parts, &mut between),
            }
            for (key, time, part) in between.0 {
                folded.add(key, time, part, &mut from_folded);
            }
            if let Step::Watermark(time) = *step {
                folded.advance(time, &mut from_folded);
                plain.advance(time, &mut from_plain);
            }
        }
        let mut between = Collected(Vec::new());
        Operator::<u64>::end(&mut parts, &mut between);
        for (key, time, part) in between.0 {
            folded.add(key, time, part, &mut from_folded);
        }
        folded.advance(EventTime::MAX, &mut from_folded);
        plain.advance(EventTime::MAX, &mut from_plain);
        from_folded.0.sort_unstable();
        from_plain.0.sort_unstable();
        prop_assert_eq!(from_folded.0, from_plain.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_snapshot_has_everything_as_it_was_at_the_barrier_whatever_happens_meanwhile(
        assigner in assigner(),
        trigger in prop_oneof![2 => Just(Trigger::AtEnd), 1 => (1..4_u64).prop_map(Trigger::Count), 1 => (1..20_i64).prop_map(Trigger::Every)],
        purging: bool,
        lateness in prop_oneof![Just(0_i64), 1..50_i64],
        keys in 1..40_u64,
        before in proptest::collection::vec(step(), 1..60),
        meanwhile in proptest::collection::vec((step(), 0..4_usize), 1..60),
    ) {
        let mut tasks = Subtasks::new(logic(), WindowOptions { assigner, trigger, purging, lateness });
        let mut out = Collected(Vec::new());
        let mut number = 0;
        let mut take = |tasks: &mut Subtasks<Logic>, step: &Step| {
            number += 1;
            match *step {
                Step::Record(key, time) => {
                    let key = (key * 31 + number * 7) % keys;
                    tasks.add(key, time, number, &mut out);
                }
                Step::Watermark(time) => tasks.tables.iter_mut().for_each(|table| table.advance(time, &mut out)),
                Step::Restore(parallelism) => {
                    tasks.begin();
                    tasks.restore(parallelism);
                }
            }
        };
        before.iter().for_each(|step| take(&mut tasks, step));
        tasks.begin();
        let expected = tasks.rows();
        tasks.begin();
        for (step, keys) in meanwhile.iter().filter(|(step, _)| !matches!(step, Step::Restore(_))) {
            take(&mut tasks, step);
            tasks.slice(*keys);
        }
        prop_assert_eq!(tasks.rows(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// In debug builds, which tests are, an overflow is a panic.
    #[test]
    fn times_and_lateness_at_the_ends_of_time_overflow_nothing(
        assigner in assigner(),
        trigger in prop_oneof![2 => Just(Trigger::AtEnd), 1 => Just(Trigger::Count(2)), 1 => Just(Trigger::Every(7))],
        purging: bool,
        lateness in prop_oneof![Just(0_i64), Just(i64::MAX), Just(i64::MAX / 2), Just(1)],
        steps in proptest::collection::vec((0..3_u64, far_off(), far_off(), any::<bool>()), 1..30),
    ) {
        let mut tasks = Subtasks::new(logic(), WindowOptions { assigner, trigger, purging, lateness });
        let mut out = Collected(Vec::new());
        for (key, time, watermark, advances) in steps {
            tasks.of(key).is_late(&key, time);
            tasks.add(key, time, 1, &mut out);
            if advances {
                tasks.tables[0].advance(watermark, &mut out);
            }
        }
        tasks.begin();
        tasks.restore(2);
        tasks.tables.iter_mut().for_each(|table| table.advance(EventTime::MAX, &mut out));
    }
}

fn far_off() -> impl Strategy<Value = EventTime> {
    const CENTURY: i64 = 3_155_760_000_000;
    prop_oneof![
        Just(EventTime::MIN),
        Just(EventTime::MAX),
        (-3..3_i64).prop_map(|time| if time < 0 { EventTime::MAX + time } else { EventTime::MIN + time }),
        (-20..20_i64, -2..3_i64).prop_map(|(time, centuries)| time + centuries * CENTURY),
    ]
}

#[test]
fn a_century_between_two_records_costs_no_more_than_their_windows() {
    let (day, century) = (86_400_000, 3_155_760_000_000);
    for (lateness, slide) in [(0, 100), (0, 1000), (10 * century, 1000), (5, 300)] {
        let options = WindowOptions {
            lateness,
            ..WindowOptions::new(WindowAssigner::Grid(Grid { size: 1000, slide, offset: 0 }))
        };
        let mut table = Tested::new(logic(), options);
        let mut out = Collected(Vec::new());
        for time in [0, -century, century, 2 * century] {
            table.add(1, time, (1, 1), &mut out);
        }
        table.advance(-century + day, &mut out);
        table.advance(century + day, &mut out);
        // Those that the first two records are in have fired again for a record that comes a century late, if they are kept.
        let fired = out.0.len();
        table.add(1, 3, (1, 1), &mut out);
        let late = out.0.len() - fired;
        table.advance(EventTime::MAX, &mut out);
        let windows = (0..1000).step_by(slide as usize).count();
        let again = (0..1000_i64).step_by(slide as usize).filter(|start| *start >= 0).count();
        assert_eq!(late, if lateness > century { again } else { 0 }, "{options:?}");
        assert!((4 * windows - 4 + late..=4 * windows + late).contains(&out.0.len()), "{}: {options:?}", out.0.len());
    }
}

#[test]
fn two_hundred_thousand_windows_of_one_key_fire_once_each_and_are_handed_over_in_slices() {
    const WINDOWS: i64 = 200_000;
    for assigner in [
        WindowAssigner::Grid(Grid { size: 10, slide: 10, offset: 0 }),
        WindowAssigner::Grid(Grid { size: 20, slide: 10, offset: 0 }),
        WindowAssigner::Session { gap: 5 },
    ] {
        let options = WindowOptions { lateness: 1 << 40, ..WindowOptions::new(assigner) };
        let mut tasks = Subtasks::new(logic(), options);
        let mut out = Collected(Vec::new());
        for time in 0..WINDOWS {
            tasks.add(1, time * 10, 1, &mut out);
            if time % 3 == 0 {
                tasks.tables[0].advance(time * 10 - 100, &mut out);
            }
        }
        tasks.begin();
        let mut slices = 0;
        while tasks.slice(5000) {
            slices += 1;
        }
        assert!(slices >= 40, "{assigner:?}: {slices}");
        assert_eq!(tasks.rows().len(), WINDOWS as usize, "{assigner:?}");
        tasks.tables[0].advance(WINDOWS * 10 + 100, &mut out);
        let extra = usize::from(matches!(assigner, WindowAssigner::Grid(Grid { size: 20, .. })));
        assert_eq!(out.0.len(), WINDOWS as usize + extra, "{assigner:?}");
    }
}

#[test]
fn watermarks_that_go_backwards_change_nothing() {
    for assigner in [
        WindowAssigner::Grid(Grid { size: 10, slide: 10, offset: 0 }),
        WindowAssigner::Grid(Grid { size: 20, slide: 10, offset: 0 }),
        WindowAssigner::Session { gap: 5 },
    ] {
        let mut table = Tested::new(logic(), WindowOptions::new(assigner));
        let mut out = Collected(Vec::new());
        table.add(1, 3, (1, 1), &mut out);
        table.advance(100, &mut out);
        let fired = out.0.len();
        table.advance(2, &mut out);
        assert!(table.is_late(&1, 3), "{assigner:?}");
        table.add(1, 3, (1, 1), &mut out);
        table.advance(100, &mut out);
        table.advance(EventTime::MAX, &mut out);
        assert_eq!(out.0.len(), fired, "{assigner:?}");
    }
}

thread_local! {
    /// What the clock of a test says.
    static NOW: std::cell::Cell<EventTime> = const { std::cell::Cell::new(0) };
}

type ByClock = WindowOperator<u64, u64, Logic>;

fn at(now: EventTime, operator: &mut ByClock, out: &mut Collected<Fired>) {
    NOW.set(now);
    Operator::processing_time(operator, now, out);
}

#[test]
fn windows_by_the_clock_go_on_when_it_is_set() {
    for assigner in [
        WindowAssigner::Grid(Grid { size: 10_000, slide: 10_000, offset: 0 }),
        WindowAssigner::Grid(Grid { size: 10_000, slide: 5_000, offset: 0 }),
        WindowAssigner::Session { gap: 10_000 },
    ] {
        let mut operator = ByClock::with_clock(logic(), WindowOptions::new(assigner), || NOW.get());
        let mut out = Collected(Vec::new());
        let century = 3_155_760_000_000;
        let counted = |out: &Collected<Fired>| out.0.iter().map(|(.., seen)| seen.0).max();
        at(1_000_000, &mut operator, &mut out);
        operator.process((1, 0, (1, 1)), &mut out);
        // A little backwards: time stands still.
        at(999_500, &mut operator, &mut out);
        operator.process((1, 0, (1, 1)), &mut out);
        assert_eq!(out.0.len(), 0, "{assigner:?}");
        // Forwards: what was open is over.
        at(1_000_000 + century, &mut operator, &mut out);
        assert_eq!(counted(&out), Some(2), "{assigner:?}");
        // And back: records are taken, and their windows fire when they are over by the clock.
        out.0.clear();
        at(1_000_000, &mut operator, &mut out);
        operator.process((1, 0, (1, 1)), &mut out);
        operator.process((1, 0, (1, 1)), &mut out);
        operator.process((1, 0, (1, 1)), &mut out);
        assert_eq!(out.0.len(), 0, "{assigner:?}");
        at(1_030_000, &mut operator, &mut out);
        assert_eq!(counted(&out), Some(3), "{assigner:?}");
    }
}

#[test]
fn a_job_that_goes_on_after_it_was_drained_takes_records() {
    let options = WindowOptions::new(WindowAssigner::Grid(Grid { size: 10, slide: 10, offset: 0 }));
    let mut tasks = Subtasks::new(logic(), options);
    let mut out = Collected(Vec::new());
    tasks.add(1, 5, 1, &mut out);
    tasks.of(1).advance(EventTime::MAX, &mut out);
    tasks.begin();
    tasks.restore(2);
    tasks.add(1, 25, 2, &mut out);
    tasks.of(1).advance(40, &mut out);
    let windows: Vec<_> = out.0.iter().map(|(_, window, seen)| (window.start, *seen)).collect();
    assert_eq!(windows, [(0, (1, 1)), (20, (1, 2))]);
}
