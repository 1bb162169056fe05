//! What holds for keyed state wherever its rows are. The module around this one says where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use weir_model::KeyGroups;

use super::super::*;
use super::{CASES, over};
use crate::failure::TaskError;
use crate::operators::Aggregator;
use crate::record::{Record, SharedBuf, Text};
use crate::snapshot::{RestoredRows, schema_of};

const GROUPS: u32 = 16;

fn open_at<K: Record + Eq + std::hash::Hash, H>(
    parallelism: u32,
    subtask: u32,
    declare: impl FnOnce(&mut StateDeclarer<'_>) -> H,
) -> (KeyedStates<K>, H) {
    let mut declared = Declared::default();
    let handles = declare(&mut declared.declarer());
    (over(declared, KeyGroups::new(GROUPS, parallelism), subtask), handles)
}

fn open<K: Record + Eq + std::hash::Hash, H>(declare: impl FnOnce(&mut StateDeclarer<'_>) -> H) -> (KeyedStates<K>, H) {
    open_at(1, 0, declare)
}

#[test]
fn states_belong_to_their_key() {
    let (mut states, (count, list, map)) = open::<u64, _>(|states| {
        (states.value::<u64>("count"), states.list::<u64>("list"), states.map::<u64, u64>("map"))
    });
    for key in [1, 2, 1, 3, 1] {
        states.enter(key);
        *count.get_or_insert_with(&mut states, || 0) += 1;
        list.push(&mut states, key * 10);
        map.insert(&mut states, key, key * 100);
        states.leave();
    }
    states.enter(1);
    assert_eq!((count.get(&states), list.get(&states)), (Some(&3), [10, 10, 10].as_slice()));
    assert_eq!(map.entries(&states).collect::<Vec<_>>(), [(&1, &100)]);
    states.leave();
    assert_eq!(states.len(), 3);
}

#[test]
fn a_key_without_state_is_forgotten_and_its_slot_used_again() {
    let (mut states, count) = open::<u64, _>(|states| states.value::<u64>("count"));
    states.at(7, |_| ());
    assert!(states.is_empty(), "reading a key must not keep it");
    for key in 0..1000 {
        states.at(key, |states| count.set(states, key));
        assert_eq!(states.at(key, |states| count.take(states)), Some(key));
    }
    assert_eq!(states.len(), 0);
    // One in a store has to be deleted there before it is free.
    assert!(states.slots() <= 8 * GROUPS as usize, "{} slots", states.slots());
}

#[test]
fn a_kept_key_does_not_keep_its_input_buffer() {
    let line = "a key that is too long to be kept inline".repeat(10);
    let buffer = SharedBuf::from(line.clone().into_bytes());
    let (mut states, last) = open::<Text, _>(|states| states.value::<Text>("last"));
    states.enter(Text::from_utf8_shared(&buffer, 0..40).unwrap());
    last.set(&mut states, Text::from_utf8_shared(&buffer, 40..80).unwrap());
    states.leave();
    assert_eq!(buffer.try_into_vec().map_err(drop), Ok(line.into_bytes()), "something still holds the buffer");
}

#[test]
#[should_panic(expected = "did not declare")]
fn an_undeclared_handle_is_refused() {
    let (mut states, ()) = open::<u64, _>(|_| ());
    states.enter(1);
    ValueState::<u64>::default().get(&states);
}

#[test]
#[should_panic(expected = "declared twice")]
fn two_states_of_one_name_are_refused() {
    open::<u64, _>(|states| (states.value::<u64>("count"), states.list::<u64>("count")));
}

#[test]
#[should_panic(expected = "the same key for a record")]
fn a_key_of_another_subtask_is_refused() {
    let (mut states, ()) = open_at::<u64, _>(2, 0, |_| ());
    (0..100).for_each(|key| states.at(key, |_| ()));
}

#[derive(Clone)]
struct Mean;

impl Aggregator<u64> for Mean {
    type Accumulator = (u64, u64);
    type Out = u64;
    fn first(&mut self, record: u64) -> (u64, u64) {
        (record, 1)
    }
    fn add(&mut self, accumulator: &mut (u64, u64), record: u64) {
        self.combine(accumulator, (record, 1));
    }
    fn combine(&mut self, accumulator: &mut (u64, u64), other: (u64, u64)) {
        *accumulator = (accumulator.0 + other.0, accumulator.1 + other.1);
    }
    fn result(&mut self, accumulator: &(u64, u64)) -> u64 {
        accumulator.0 / accumulator.1
    }
}

#[test]
fn reducing_and_aggregating_states_fold() {
    let (mut states, (most, mut mean)) =
        open::<u64, _>(|states| (states.reducing::<u64>("most", |a, b| a.max(b)), states.aggregating("mean", Mean)));
    states.enter(1);
    assert_eq!((most.get(&states), mean.get(&states)), (None, None));
    for value in [4, 9, 5] {
        most.add(&mut states, value);
        mean.add(&mut states, value);
    }
    assert_eq!((most.get(&states), mean.get(&states)), (Some(&9), Some(6)));
    most.take(&mut states);
    mean.clear(&mut states);
    states.leave();
    assert!(states.is_empty());
}

fn ttl() -> StateTtl {
    StateTtl::new(Duration::from_millis(100))
}

#[test]
fn entries_expire_each_for_itself() {
    let (mut states, (value, list, map)) = open::<u64, _>(|states| {
        let mut states = states.expiring(ttl());
        (states.value::<u64>("value"), states.list::<u64>("list"), states.map::<u64, u64>("map"))
    });
    for (time, number) in [(0, 1), (60, 2)] {
        states.set_time(time);
        states.enter(1);
        value.set(&mut states, number);
        list.push(&mut states, number);
        map.insert(&mut states, number, number);
        states.leave();
    }
    let mut seen = |time| {
        states.set_time(time);
        states.enter(1);
        let value = value.get(&states).copied();
        let entries: BTreeMap<_, _> = map.entries(&states).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(entries.len(), map.len(&states));
        assert!(entries.iter().all(|(key, value)| map.get(&states, key) == Some(value)));
        let seen = (value, list.get(&states).to_vec(), entries.into_keys().collect::<Vec<_>>());
        states.leave();
        seen
    };
    assert_eq!(seen(99), (Some(2), vec![1, 2], vec![1, 2]));
    assert_eq!(seen(100), (Some(2), vec![2], vec![2]));
    assert_eq!(seen(160), (None, vec![], vec![]));
}

#[test]
fn what_expired_is_not_what_a_change_begins_with() {
    let (mut states, (value, map)) = open::<u64, _>(|states| {
        let mut states = states.expiring(ttl());
        (states.value::<u64>("value"), states.map::<u64, u64>("map"))
    });
    for time in [0, 50, 200] {
        states.set_time(time);
        states.enter(1);
        *value.get_or_insert_with(&mut states, || 0) += 1;
        *map.get_or_insert_with(&mut states, 7, || 0) += 1;
        let expect = if time == 50 { 2 } else { 1 };
        assert_eq!((value.get(&states), map.get(&states, &7)), (Some(&expect), Some(&expect)), "at {time}");
        states.leave();
    }
    states.set_time(300);
    states.enter(1);
    assert_eq!((value.take(&mut states), map.remove(&mut states, &7)), (None, None));
}

#[test]
fn reading_makes_entries_live_longer_if_it_is_to() {
    for (ttl, expect) in [(ttl(), None), (ttl().update_on_read(), Some(&5))] {
        let (mut states, value) = open::<u64, _>(|states| states.expiring(ttl).value::<u64>("value"));
        states.set_time(0);
        states.at(1, |states| value.set(states, 5));
        states.set_time(90);
        states.at(1, |states| assert_eq!(value.get(states), Some(&5)));
        states.set_time(150);
        states.at(1, |states| assert_eq!(value.get(states), expect));
    }
}

#[test]
fn expired_entries_are_seen_until_they_are_dropped_if_they_may_be() {
    let (mut states, value) = open::<u64, _>(|states| states.expiring(ttl().return_expired()).value::<u64>("value"));
    states.set_time(0);
    states.at(1, |states| value.set(states, 5));
    states.set_time(500);
    states.at(1, |states| assert_eq!(value.get(states), Some(&5)));
    (0..100).for_each(|_| states.sweep());
    assert!(states.is_empty());
}

#[test]
fn keys_nobody_uses_any_more_are_forgotten_bit_by_bit() {
    let (mut states, (short, long)) =
        open::<u64, _>(|states| (states.expiring(ttl()).value::<u64>("short"), states.value::<u64>("long")));
    states.set_time(0);
    for key in 0..5000 {
        states.at(key, |states| short.set(states, key));
    }
    states.at(17, |states| long.set(states, 1));
    states.set_time(200);
    (0..100).for_each(|_| states.sweep());
    assert_eq!(states.len(), 1);
    states.at(17, |states| assert_eq!((short.get(states), long.get(states)), (None, Some(&1))));
}

#[test]
fn a_snapshot_leaves_out_what_has_expired_and_keeps_times_of_use() {
    let declare = |states: &mut StateDeclarer<'_>| {
        let mut states = states.expiring(ttl());
        (states.value::<u64>("value"), states.list::<u64>("list"), states.map::<u64, u64>("map"))
    };
    let (mut states, (value, list, map)) = open::<u64, _>(declare);
    for (time, key, number) in [(0, 1, 1), (0, 2, 1), (60, 2, 2)] {
        states.set_time(time);
        states.enter(key);
        value.set(&mut states, number);
        list.push(&mut states, number);
        map.insert(&mut states, number, number);
        states.leave();
    }
    let written = states.write(120);
    assert_eq!(written.1.iter().map(|rows| rows.rows).sum::<u64>(), 1);
    let (mut restored, (value, list, map)) = open::<u64, _>(declare);
    restored.set_time(1000);
    restored.read(&written).unwrap();
    restored.set_time(150);
    restored.at(2, |states| {
        assert_eq!((value.get(states), list.get(states), map.len(states)), (Some(&2), [2].as_slice(), 1));
    });
    restored.set_time(160);
    restored.at(2, |states| {
        assert_eq!((value.get(states), list.get(states), map.len(states)), (None, [].as_slice(), 0));
    });
}

#[test]
fn expiry_can_be_added_and_taken_away() {
    let (mut plain, value) = open::<u64, _>(|states| states.value::<u64>("value"));
    plain.at(1, |states| value.set(states, 5));
    let (mut timed, value) = open::<u64, _>(|states| states.expiring(ttl()).value::<u64>("value"));
    timed.set_time(1000);
    timed.read(&plain.write(0)).unwrap();
    timed.set_time(1099);
    timed.at(1, |states| assert_eq!(value.get(states), Some(&5)));
    let written = timed.write(1099);
    timed.set_time(1100);
    timed.at(1, |states| assert_eq!(value.get(states), None));
    let (mut plain, value) = open::<u64, _>(|states| states.value::<u64>("value"));
    plain.read(&written).unwrap();
    plain.at(1, |states| assert_eq!(value.get(states), Some(&5)));
}

#[test]
fn states_are_restored_by_name_and_converted() {
    let (mut old, (count, _, names)) = open::<u64, _>(|states| {
        (states.value::<u16>("count"), states.value::<u64>("unused"), states.list::<String>("names"))
    });
    for key in 0..100u64 {
        old.at(key, |states| {
            count.set(states, key as u16);
            names.push(states, key.to_string());
        });
    }
    old.at(1000, |states| names.push(states, "only a name".to_owned()));
    let written = old.write(0);
    let (mut new, (fresh, count)) =
        open::<u64, _>(|states| (states.list::<u64>("fresh"), states.value::<u64>("count")));
    new.read(&written).unwrap();
    assert_eq!(new.len(), 100, "of the key with nothing but a state that is gone, nothing is left");
    for key in 0..100 {
        new.at(key, |states| assert_eq!((count.get(states), fresh.get(states)), (Some(&key), [].as_slice())));
    }
}

#[test]
fn states_that_cannot_be_restored_are_named() {
    let (mut old, count) = open::<u64, _>(|states| states.value::<u64>("count"));
    old.at(1, |states| count.set(states, 1));
    let written = old.write(0);
    let refused = |error: Result<(), TaskError>, expect: &str| {
        let message = error.unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    refused(open::<u64, _>(|states| states.list::<u64>("count")).0.read(&written), "was value state and is list state");
    refused(open::<u64, _>(|states| states.value::<String>("count")).0.read(&written), "state `count`");
    refused(open::<u32, _>(|states| states.value::<u64>("count")).0.read(&written), "the keys are");
    for length in 0..written.1[0].bytes.len() {
        let mut cut = written.clone();
        cut.1[0].bytes.truncate(length);
        refused(open::<u64, _>(|states| states.value::<u64>("count")).0.read(&cut), "cannot be read");
    }
    let mut moved = written;
    moved.1[0].group = (moved.1[0].group + 1) % GROUPS;
    refused(open::<u64, _>(|states| states.value::<u64>("count")).0.read(&moved), "among those of group");
}

#[test]
fn a_declaration_says_what_a_snapshot_has() {
    let mut declared = Declared::default();
    declared.declarer().value::<u64>("count");
    declared.declarer().expiring(ttl()).map::<String, u8>("seen");
    let table = declared.table::<u32>();
    let columns: Vec<_> = table.columns.iter().map(|column| (column.name.as_str(), column.kind.name())).collect();
    assert_eq!(columns, [("count", "value"), ("seen", "map"), ("seen.used", "internal")]);
    assert_eq!((table.name.as_str(), table.key), ("keyed", schema_of::<u32>()));
}

#[derive(Debug, Clone)]
enum Op {
    Add(u64, u64),
    Take(u64),
    Push(u64, u64),
    Put(u64, u64, u64),
    Remove(u64, u64),
    Barrier,
    Step(usize),
}

fn operation() -> impl Strategy<Value = Op> {
    let (key, value) = (0..40u64, 0..5u64);
    prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(key, value)| Op::Add(key, value)),
        3 => key.clone().prop_map(Op::Take),
        2 => (key.clone(), value.clone()).prop_map(|(key, value)| Op::Push(key, value)),
        3 => (key.clone(), value.clone(), value.clone()).prop_map(|(key, entry, value)| Op::Put(key, entry, value)),
        3 => (key, value).prop_map(|(key, entry)| Op::Remove(key, entry)),
        1 => Just(Op::Barrier),
        2 => (1..6usize).prop_map(Op::Step),
    ]
}

type Row = (Option<u64>, Vec<u64>, BTreeMap<u64, u64>);
type Handles = (ValueState<u64>, ListState<u64>, MapState<u64, u64>);

fn declare(states: &mut StateDeclarer<'_>) -> Handles {
    (states.value("sum"), states.list("list"), states.map("map"))
}

fn contents(states: &mut KeyedStates<u64>, (sum, list, map): Handles) -> BTreeMap<u64, Row> {
    let mut contents = BTreeMap::new();
    let mut keys = states.walk();
    while states.enter_next(&mut keys) {
        let entries = map.entries(states).map(|(k, v)| (*k, *v)).collect();
        contents.insert(*states.current_key(), (sum.get(states).copied(), list.get(states).to_vec(), entries));
        states.leave();
    }
    contents
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_snapshot_has_what_there_was_at_its_barrier(
        operations in proptest::collection::vec(operation(), 1..400),
        parallelism in 1..6u32,
    ) {
        let (mut states, handles) = open::<u64, _>(declare);
        let (sum, list, map) = handles;
        let mut model: BTreeMap<u64, Row> = BTreeMap::new();
        // What there was at the barrier, and what is written of it so far.
        let mut run: Option<(BTreeMap<u64, Row>, Vec<RestoredRows>)> = None;
        let finish = operations.iter().cloned().chain([Op::Barrier, Op::Step(usize::MAX)]);
        for operation in finish {
            match operation {
                Op::Add(key, value) => {
                    states.at(key, |states| *sum.get_or_insert_with(states, || 0) += value);
                    *model.entry(key).or_default().0.get_or_insert(0) += value;
                }
                Op::Take(key) => {
                    states.at(key, |states| {
                        sum.take(states);
                        list.take(states);
                    });
                    let row = model.entry(key).or_default();
                    (row.0, row.1) = (None, Vec::new());
                }
                Op::Push(key, value) => {
                    states.at(key, |states| list.push(states, value));
                    model.entry(key).or_default().1.push(value);
                }
                Op::Put(key, entry, value) => {
                    let before = states.at(key, |states| map.insert(states, entry, value));
                    prop_assert_eq!(before, model.entry(key).or_default().2.insert(entry, value));
                }
                Op::Remove(key, entry) => {
                    let before = states.at(key, |states| map.remove(states, &entry));
                    prop_assert_eq!(before, model.entry(key).or_default().2.remove(&entry));
                }
                Op::Barrier if run.is_none() => {
                    states.begin(0, None);
                    run = Some((model.clone(), Vec::new()));
                }
                Op::Barrier => {}
                Op::Step(slots) => {
                    let Some((_, rows)) = &mut run else { continue };
                    if states.step_into(slots, usize::MAX, rows) {
                        continue;
                    }
                    let (expect, rows) = run.take().unwrap();
                    let table = states.table();
                    let mut found = BTreeMap::new();
                    for subtask in 0..parallelism {
                        let (mut restored, handles) = open_at::<u64, _>(parallelism, subtask, declare);
                        let own = KeyGroups::new(GROUPS, parallelism).range_of(subtask);
                        let rows = rows.iter().filter(|rows| own.contains(&rows.group)).cloned();
                        restored.restore(&table, rows.map(Ok)).unwrap();
                        found.extend(contents(&mut restored, handles));
                    }
                    prop_assert_eq!(found, expect);
                }
            }
            model.retain(|_, row| *row != Row::default());
            prop_assert_eq!(states.len(), model.len());
        }
        prop_assert_eq!(contents(&mut states, handles), model);
    }
}

fn timed(parallelism: u32, subtask: u32) -> (KeyedStates<u64>, TimerQueues) {
    let mut declared = Declared::default();
    let queues = TimerQueues::declare(&mut declared);
    (over(declared, KeyGroups::new(GROUPS, parallelism), subtask), queues)
}

fn event(time: i64) -> Timer {
    Timer { time, domain: TimeDomain::Event }
}

/// Fires what is due: keys and times in their order.
fn fire(states: &mut KeyedStates<u64>, queues: &mut TimerQueues, domain: TimeDomain, now: i64) -> Vec<(i64, u64)> {
    let mut fired = Vec::new();
    while let Some(timer) = queues.next_due(states, domain, now) {
        assert_eq!(timer.domain, domain);
        fired.push((timer.time, *states.current_key()));
        states.leave();
    }
    fired
}

#[test]
fn a_key_has_one_timer_of_a_time() {
    let (mut states, mut queues) = timed(1, 0);
    for key in [1, 2, 1] {
        states.at(key, |states| queues.register(states, event(10)));
    }
    assert!(fire(&mut states, &mut queues, TimeDomain::Event, 9).is_empty());
    let mut fired = fire(&mut states, &mut queues, TimeDomain::Event, 10);
    fired.sort_unstable();
    assert_eq!(fired, [(10, 1), (10, 2)]);
    assert!(states.is_empty(), "a key whose only timer has fired is forgotten");
}

#[test]
fn domains_of_time_have_timers_of_their_own() {
    let (mut states, mut queues) = timed(1, 0);
    let processing = Timer { time: 10, domain: TimeDomain::Processing };
    states.at(1, |states| {
        queues.register(states, event(10));
        queues.register(states, processing);
    });
    assert_eq!(queues.next_processing_time(), 10);
    assert_eq!(fire(&mut states, &mut queues, TimeDomain::Event, 10), [(10, 1)]);
    assert_eq!(fire(&mut states, &mut queues, TimeDomain::Processing, 10), [(10, 1)]);
    assert_eq!(queues.next_processing_time(), i64::MAX);
}

#[test]
fn many_timers_of_one_key_fire_in_order() {
    let (mut states, mut queues) = timed(1, 0);
    // 7919 and 10_000 have no divisor in common: every time comes once.
    for number in 0..10_000 {
        states.at(1, |states| queues.register(states, event(number * 7919 % 10_000)));
    }
    let fired = fire(&mut states, &mut queues, TimeDomain::Event, i64::MAX);
    assert_eq!(fired, (0..10_000).map(|time| (time, 1)).collect::<Vec<_>>());
}

#[test]
fn a_timer_put_off_with_every_record_does_not_grow_the_queue() {
    let (mut states, mut queues) = timed(1, 0);
    for time in 0..100_000 {
        states.at(1, |states| {
            queues.delete(states, event(time - 1));
            queues.register(states, event(time));
        });
    }
    assert!(queues.event.len() < 2000, "{} entries", queues.event.len());
    assert_eq!(fire(&mut states, &mut queues, TimeDomain::Event, i64::MAX), [(99_999, 1)]);
}

#[derive(Debug, Clone)]
enum TimerOp {
    Register(u64, i64),
    Delete(u64, i64),
    Advance(i64),
    /// Go on from a snapshot at this parallelism.
    Restore(u32),
}

fn timer_operation() -> impl Strategy<Value = TimerOp> {
    prop_oneof![
        8 => (0..20u64, 0..50i64).prop_map(|(key, time)| TimerOp::Register(key, time)),
        4 => (0..20u64, 0..50i64).prop_map(|(key, time)| TimerOp::Delete(key, time)),
        2 => (0..50i64).prop_map(TimerOp::Advance),
        1 => (1..5u32).prop_map(TimerOp::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn timers_fire_once_in_order_also_across_restores(operations in proptest::collection::vec(timer_operation(), 1..300)) {
        let mut subtasks = vec![timed(1, 0)];
        let mut model: BTreeSet<(i64, u64)> = BTreeSet::new();
        for operation in operations.into_iter().chain([TimerOp::Advance(i64::MAX)]) {
            let groups = KeyGroups::new(GROUPS, subtasks.len() as u32);
            let owner = |key: u64| groups.subtask_of(groups.group_of(key.key_hash())) as usize;
            match operation {
                TimerOp::Register(key, time) => {
                    let (states, queues) = &mut subtasks[owner(key)];
                    states.at(key, |states| queues.register(states, event(time)));
                    model.insert((time, key));
                }
                TimerOp::Delete(key, time) => {
                    let (states, queues) = &mut subtasks[owner(key)];
                    states.at(key, |states| queues.delete(states, event(time)));
                    model.remove(&(time, key));
                }
                TimerOp::Advance(time) => {
                    let mut fired = Vec::new();
                    for (states, queues) in &mut subtasks {
                        let own = fire(states, queues, TimeDomain::Event, time);
                        prop_assert!(own.is_sorted_by_key(|(time, _)| *time));
                        fired.extend(own);
                    }
                    fired.sort_unstable();
                    let due: Vec<_> = model.iter().copied().filter(|(due, _)| *due <= time).collect();
                    prop_assert_eq!(fired, due);
                    model.retain(|(due, _)| *due > time);
                }
                TimerOp::Restore(parallelism) => {
                    let written: Vec<_> = subtasks.iter_mut().map(|(states, _)| states.write(0)).collect();
                    subtasks = (0..parallelism).map(|subtask| timed(parallelism, subtask)).collect();
                    for (subtask, (states, queues)) in (0..).zip(&mut subtasks) {
                        let own = KeyGroups::new(GROUPS, parallelism).range_of(subtask);
                        for (table, rows) in &written {
                            let rows = rows.iter().filter(|rows| own.contains(&rows.group)).cloned();
                            states.restore(table, rows.map(Ok)).unwrap();
                        }
                        queues.restore(states).unwrap();
                    }
                }
            }
        }
        prop_assert!(subtasks.iter().all(|(states, _)| states.is_empty()));
    }
}
