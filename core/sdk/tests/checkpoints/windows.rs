//! Windows and joins of jobs that fail and go on, in the same run or from a checkpoint with other parallelisms: what they emit is
//! what they would have emitted undisturbed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir::connectors::FileSink;
use weir::prelude::aggregates::{Count, Sum};
use weir::prelude::*;
use weir::stream::SharedStream;
use weir::stream::joins::Side;

use super::{Numbers, checkpoints, fails, files, lines, with_checkpoints};

/// Makes lines of numbers.
type Job = fn(&SharedStream<u64>) -> SharedStream<String>;

/// When a number happens, in milliseconds: one after the other, with a gap after each hundred.
fn time_of(number: &u64) -> i64 {
    (number + number / 100 * 50) as i64
}

const KEYS: u64 = 7;

/// Numbers in a split.
const SPLIT: u64 = 250;

/// A reader that goes on with the splits of three reads one after the other, in any order.
const BOUND: Duration = Duration::from_millis(3 * 375);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn line<V: std::fmt::Display>(of: WindowResult<u64, V>) -> String {
    let WindowResult { key, window, value } = of;
    format!("{key} {}..{} {value}", window.start, window.end)
}

fn tumbling(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let windows = Tumbling::event_time(millis(100), time_of);
    numbers
        .stream()
        .key_by(|number| number % KEYS)
        .window(windows)
        .aggregate(Sum::new(|n: &u64| *n))
        .uid("windows")
        .map(line)
        .share()
}

fn sliding(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let windows = Sliding::event_time(millis(100), millis(30), time_of);
    numbers
        .stream()
        .key_by(|number| number % KEYS)
        .window(windows)
        .aggregate(Sum::new(|n: &u64| *n))
        .uid("windows")
        .map(line)
        .share()
}

fn sliding_counts(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let windows = Sliding::event_time(millis(100), millis(30), time_of);
    let late = numbers.stream().key_by(|number| number % KEYS).window(windows).allowed_lateness(millis(300));
    late.aggregate(Count).uid("windows").map(line).share()
}

fn sessions(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let windows = Session::event_time(millis(30), time_of);
    numbers
        .stream()
        .key_by(|number| number % KEYS)
        .window(windows)
        .aggregate(Sum::new(|n: &u64| *n))
        .uid("windows")
        .map(line)
        .share()
}

fn every_tenth(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let windows =
        numbers.stream().key_by(|number| number % KEYS).window(Global::event_time()).trigger(Trigger::count(10));
    let counts = windows.aggregate(Count).uid("windows");
    counts.map(|WindowResult { key, value, .. }| format!("{key} {value}")).share()
}

fn pairs(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let (even, odd) = (numbers.stream().filter(|n| n % 2 == 0), numbers.stream().filter(|n| n % 2 == 1));
    let both = even.key_by(|n| n % KEYS).join(odd.key_by(|n| n % KEYS));
    let windows = Tumbling::event_time(millis(50), |side: &Side<u64, u64>| side.with(time_of, time_of));
    both.window(windows).pairs(|key, window, a, b| format!("{key} {} {a} {b}", window.start)).uid("windows").share()
}

fn intervals(numbers: &SharedStream<u64>) -> SharedStream<String> {
    let (even, odd) = (numbers.stream().filter(|n| n % 2 == 0), numbers.stream().filter(|n| n % 2 == 1));
    let both = even.key_by(|n| n % KEYS).join(odd.key_by(|n| n % KEYS));
    let time_of = |side: &Side<u64, u64>| side.with(time_of, time_of);
    both.interval_join(-20, 40, time_of, |key, a, b| format!("{key} {a} {b}")).uid("windows").share()
}

/// Where a job runs, and how.
struct Run<'a> {
    output: &'a Path,
    state: &'a Path,
    parallelism: u32,
    options: &'a [(&'static str, String)],
}

impl Run<'_> {
    fn of(&self, job: Job, on_number: impl Fn(u64) + Clone + Send + 'static) -> weir::Result<()> {
        let options: BTreeMap<_, _> =
            with_checkpoints(self.state).into_iter().chain(self.options.iter().cloned()).collect();
        weir::run::in_process("windows", |env| {
            env.set_parallelism(self.parallelism);
            for (key, value) in &options {
                env.set(key, value);
            }
            let folder = self.state.to_owned();
            let numbers = env.source(Numbers { folder, progress: newest_checkpoint, split: SPLIT }).uid("numbers");
            let numbers = numbers.map(move |number| {
                on_number(number);
                number
            });
            let timed = numbers.uid("mapper").watermarks(WatermarkStrategy::bounded_out_of_orderness(BOUND, time_of));
            let timed = timed.uid("time");
            job(&timed.share()).stream().sink(FileSink::text(self.output)).uid("files");
            Ok(())
        })
    }
}

/// The number of the newest checkpoint; 0 for none.
fn newest_checkpoint(state: &Path) -> u64 {
    let newest = state.exists().then(|| checkpoints(state).pop()).flatten();
    newest.map_or(0, |path| path.file_name().unwrap().to_string_lossy()["chk-".len()..].parse().unwrap())
}

/// What a job emits undisturbed.
fn undisturbed(job: Job) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("state"));
    Run { output: &output, state: &state, parallelism: 1, options: &[] }.of(job, |_| {}).unwrap();
    lines(&output)
}

fn assert_same(found: &[String], expected: &[String], what: &str) {
    let missing: Vec<_> = expected.iter().filter(|line| found.binary_search(line).is_err()).take(5).collect();
    let strange: Vec<_> = found.iter().filter(|line| expected.binary_search(line).is_err()).take(5).collect();
    assert!(
        found == expected,
        "{what}: {} lines instead of {}; missing: {missing:?}, strange: {strange:?}",
        found.len(),
        expected.len()
    );
}

/// A job that fails and restarts emits what it emits undisturbed; and so does one that is started again and again from its last
/// checkpoint, each time with another parallelism.
fn check(job: Job) {
    let expected = undisturbed(job);
    assert!(expected.len() > 100, "{}", expected.len());
    for parallelism in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let (output, state) = (dir.path().join("out"), dir.path().join("state"));
        let options = [
            ("restart-strategy.type", "fixed-delay".to_owned()),
            ("restart-strategy.fixed-delay.attempts", "3".to_owned()),
            ("restart-strategy.fixed-delay.delay", "1 ms".to_owned()),
        ];
        Run { output: &output, state: &state, parallelism, options: &options }.of(job, fails(1100, 3)).unwrap();
        assert_same(&lines(&output), &expected, &format!("restarted at parallelism {parallelism}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let mut from = None;
    for (run, parallelism) in [2, 3, 1, 2, 3, 1].into_iter().cycle().enumerate() {
        let state = dir.path().join(format!("state-{run}"));
        let retention = "execution.checkpointing.externalized-checkpoint-retention";
        let mut options = vec![(retention, "RETAIN_ON_CANCELLATION".to_owned())];
        options.extend(from.clone().map(|path| ("execution.state-recovery.path", path)));
        // Readers wait for a checkpoint before they have read a split each.
        let failing = fails(SPLIT as u32 * parallelism + 50, 1);
        match (Run { output: &output, state: &state, parallelism, options: &options }).of(job, failing) {
            Ok(()) => {
                assert!(run > 1, "{run} runs");
                break;
            }
            Err(error) => assert!(error.to_string().contains("planned"), "{error}"),
        }
        // One whose metadata could be seen may have been given up all the same, as the job failed before that was known.
        let kept = checkpoints(&state).pop().map(|path| path.display().to_string());
        from = kept.or(from);
        assert!(run < 50, "the job does not come to an end");
    }
    assert_same(&lines(&output), &expected, "started again with other parallelisms");
}

#[test]
fn tumbling_windows_go_on_from_a_checkpoint() {
    check(tumbling);
}

#[test]
fn sliding_windows_go_on_from_a_checkpoint() {
    check(sliding);
}

#[test]
fn sliding_windows_of_counts_that_are_kept_for_late_records_go_on_from_a_checkpoint() {
    check(sliding_counts);
}

#[test]
fn sessions_go_on_from_a_checkpoint() {
    check(sessions);
}

#[test]
fn global_windows_with_a_trigger_go_on_from_a_checkpoint() {
    check(every_tenth);
}

#[test]
fn window_joins_go_on_from_a_checkpoint() {
    check(pairs);
}

#[test]
fn interval_joins_go_on_from_a_checkpoint() {
    check(intervals);
}

#[test]
fn windows_fire_while_one_of_two_sources_has_nothing_to_say() {
    static LOOKS: AtomicU64 = AtomicU64::new(1);
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("state"));
    weir::run::in_process("idle", |env| {
        env.set_parallelism(1);
        for (key, value) in &with_checkpoints(&state) {
            env.set(key, value);
        }
        let goes_on = |_: &Path| LOOKS.fetch_add(1, Ordering::Relaxed);
        // Goes on when windows have fired, and they are over long after what it has said.
        let waits = |output: &Path| {
            let waited = BEGAN.get_or_init(Instant::now).elapsed();
            assert!(waited < Duration::from_secs(60), "no window has fired");
            if files(output).is_empty() { 0 } else { LOOKS.fetch_add(1, Ordering::Relaxed) }
        };
        let both = [goes_on as fn(&Path) -> u64, waits].map(|progress| {
            let time = WatermarkStrategy::monotonic(time_of).idle_after(millis(50));
            env.source(Numbers { folder: output.clone(), progress, split: 10 }).watermarks(time)
        });
        let [busy, idle] = both;
        let windows = Tumbling::event_time(millis(100), time_of);
        let counts = busy.union(idle).key_by(|number| number % KEYS).window(windows).aggregate(Count);
        counts.map(line).sink(FileSink::text(&output));
        Ok(())
    })
    .unwrap();
    // Each of the last hundred numbers came from one source at least; the other's may have been late.
    let last = time_of(&(super::END - 100));
    let of_last = lines(&output).iter().filter(|line| line.contains(&format!(" {}..", last - last % 100))).count();
    assert!(of_last as u64 == KEYS, "{of_last}");
}
