//! Checkpoints of jobs that run in this process: output appears with them, exactly once whatever fails, and a job goes on
//! from them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod rescaled;
mod timers;
mod windows;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use weir::connectors::FileSink;
use weir::operator::Collector;
use weir::prelude::*;
use weir::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
    SplitEnumerator,
};

/// Numbers below this one are in the input.
const END: u64 = 4000;

/// Numbers in a split.
const SPLIT: u64 = 500;

/// The numbers below [`END`], in splits. A reader goes on to its next split only when the job has come further, so that there are
/// as many checkpoints as the job takes.
#[derive(Clone)]
struct Numbers {
    /// A folder of the job's, and what can be seen there of how far it has come.
    folder: PathBuf,
    progress: fn(&Path) -> u64,
    /// Numbers in a split.
    split: u64,
}

impl Numbers {
    /// Looks for visible files.
    fn watching_output(output: &Path) -> Self {
        Numbers { folder: output.to_owned(), progress: |output| files(output).len() as u64, split: SPLIT }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Record)]
struct Range {
    next: u64,
    end: u64,
}

struct Ranges(Vec<Range>);

struct RangeReader {
    numbers: Numbers,
    /// The first one is read now.
    splits: VecDeque<Range>,
    /// How far the job had come when the last split was done.
    seen: u64,
    waits: bool,
}

impl Source for Numbers {
    type Item = u64;
    type Split = Range;
    type Enumerator = Ranges;
    type Reader = RangeReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn name(&self) -> String {
        "Source: numbers".to_owned()
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<Ranges, SourceError> {
        let all =
            || (0..END / self.split).rev().map(|n| Range { next: n * self.split, end: (n + 1) * self.split }).collect();
        let Some(state) = &context.restored else { return Ok(Ranges(all())) };
        let mut input = weir::record::Decoder::new(state);
        Record::decode(&mut input).map(Ranges).map_err(SourceError::new)
    }

    fn create_reader(&self, _context: &ReaderContext) -> Result<RangeReader, SourceError> {
        Ok(RangeReader { numbers: self.clone(), splits: VecDeque::new(), seen: 0, waits: false })
    }
}

impl SplitEnumerator for Ranges {
    type Split = Range;

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Range>, SourceError> {
        Ok(self.0.pop().map_or(NextSplit::Finished, NextSplit::Split))
    }

    fn add_back(&mut self, splits: Vec<Range>) {
        self.0.extend(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        self.0.encode(&mut bytes);
        Ok(bytes)
    }
}

impl SourceReader for RangeReader {
    type Item = u64;
    type Split = Range;

    fn add_split(&mut self, split: Range) -> Result<(), SourceError> {
        self.splits.push_back(split);
        Ok(())
    }

    fn poll<C: Collector<u64>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let progress = || (self.numbers.progress)(&self.numbers.folder);
        let Some(split) = self.splits.front_mut() else { return Ok(ReaderStatus::NeedSplit) };
        if self.waits && progress() == self.seen {
            return Ok(ReaderStatus::Wait(Some(Duration::from_millis(1))));
        }
        self.waits = false;
        let to = split.end.min(split.next + 7);
        (split.next..to).for_each(|number| out.push(number));
        split.next = to;
        // Waits with one number to go, so that there is something to restore.
        if split.end - to <= 7 && to < split.end {
            (self.waits, self.seen) = (true, progress());
        }
        if to == split.end {
            self.splits.pop_front();
        }
        Ok(ReaderStatus::More)
    }

    fn snapshot(&self) -> Vec<Range> {
        self.splits.iter().cloned().collect()
    }
}

/// Visible files.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    entries.filter(|path| !hidden(path)).collect()
}

/// All visible lines, sorted.
fn lines(directory: &Path) -> Vec<String> {
    let text = |path: PathBuf| fs::read_to_string(path).unwrap();
    let lines = |path| text(path).lines().map(str::to_owned).collect::<Vec<_>>();
    let mut lines: Vec<String> = files(directory).into_iter().flat_map(lines).collect();
    lines.sort_unstable();
    lines
}

/// All visible numbers, sorted.
fn numbers(directory: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = lines(directory).iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn duplicates(directory: &Path) -> Vec<u64> {
    numbers(directory).windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}

fn assert_complete(directory: &Path) {
    let found = numbers(directory);
    let missing: Vec<u64> = (0..END).filter(|number| found.binary_search(number).is_err()).collect();
    assert_eq!((missing, duplicates(directory)), (vec![], vec![]), "missing numbers, and those that are there twice");
    assert_eq!(found.len() as u64, END);
}

/// A job that copies the numbers, at a parallelism of 2, across an exchange. Its mapper calls `on_number`.
fn copy(
    output: &Path,
    options: &BTreeMap<&str, String>,
    on_number: impl Fn(u64) + Clone + Send + 'static,
) -> weir::Result<()> {
    weir::run::in_process("copy", |env| {
        env.set_parallelism(2);
        set(env, options);
        env.source(Numbers::watching_output(output))
            .uid("numbers")
            .rebalance()
            .map(move |number| {
                on_number(number);
                number
            })
            .uid("mapper")
            .sink(FileSink::text(output))
            .uid("files");
        Ok(())
    })
}

/// Numbers the records of each key.
#[derive(Clone, Default)]
struct Tally {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64> for Tally {
    type Out = String;

    fn declare(&mut self, states: &mut weir::state::StateDeclarer<'_>) {
        self.count = states.value("count");
    }

    fn process(&mut self, _number: u64, context: &mut KeyedContext<u64, String>) {
        let count = self.count.get_or_insert_with(context, || 0);
        *count += 1;
        let count = *count;
        let line = format!("{} {count}", context.key());
        context.emit(line);
    }
}

/// Keys of [`tally`].
const KEYS: u64 = 13;

/// A job that numbers the records of each key.
fn tally(
    output: &Path,
    options: &BTreeMap<&str, String>,
    on_number: impl Fn(u64) + Clone + Send + 'static,
) -> weir::Result<()> {
    weir::run::in_process("tally", |env| {
        env.set_parallelism(2);
        set(env, options);
        env.source(Numbers::watching_output(output))
            .uid("numbers")
            .map(move |number| {
                on_number(number);
                number
            })
            .key_by(|number| number % KEYS)
            .process(Tally::default())
            .uid("tally")
            .sink(FileSink::text(output))
            .uid("files");
        Ok(())
    })
}

/// Each record of each key has its number, and no number is there twice.
fn assert_tallied(directory: &Path) {
    let found = lines(directory);
    let of_key = |key| (0..END).filter(move |number| number % KEYS == key).count();
    let mut expect: Vec<String> =
        (0..KEYS).flat_map(|key| (1..=of_key(key)).map(move |count| format!("{key} {count}"))).collect();
    expect.sort_unstable();
    assert!(found == expect, "{} lines of {}", found.len(), expect.len());
}

fn set(env: &Environment, options: &BTreeMap<&str, String>) {
    for (key, value) in options {
        env.set(key, value);
    }
}

fn with_checkpoints(directory: &Path) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("execution.checkpointing.interval", "10 ms".to_owned()),
        ("execution.checkpointing.dir", directory.display().to_string()),
    ])
}

/// Panics once `count` numbers have passed it, the first `times` times.
fn fails(count: u32, times: u32) -> impl Fn(u64) + Clone + Send + 'static {
    let (passed, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    move |_| {
        let number = passed.fetch_add(1, Ordering::Relaxed) + 1;
        if number.is_multiple_of(count) && failed.fetch_add(1, Ordering::Relaxed) < times {
            panic!("planned");
        }
    }
}

/// Folders of complete checkpoints, the newest last.
fn checkpoints(directory: &Path) -> Vec<PathBuf> {
    let jobs = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let checkpoints = jobs.flat_map(|job| fs::read_dir(job).unwrap()).map(|entry| entry.unwrap().path());
    let mut checkpoints: Vec<_> = checkpoints.filter(|path| path.join("_metadata").exists()).collect();
    checkpoints.sort_by_key(|path| path.file_name().unwrap().to_string_lossy()["chk-".len()..].parse::<u64>().unwrap());
    checkpoints
}

#[test]
fn output_appears_with_every_checkpoint_and_nothing_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("state"));
    copy(&output, &with_checkpoints(&state), |_| {}).unwrap();
    assert_complete(&output);
    assert!(files(&output).len() > 4, "{:?}", files(&output));
    assert_eq!(fs::read_dir(&output).unwrap().count(), files(&output).len(), "hidden files stay");
    assert_eq!(checkpoints(&state), Vec::<PathBuf>::new(), "checkpoints of a job that has finished stay");
}

#[test]
fn a_job_that_fails_again_and_again_counts_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("state"));
    let mut options = with_checkpoints(&state);
    options.insert("restart-strategy.type", "fixed-delay".to_owned());
    options.insert("restart-strategy.fixed-delay.attempts", "3".to_owned());
    options.insert("restart-strategy.fixed-delay.delay", "1 ms".to_owned());
    copy(&output, &options, fails(1100, 3)).unwrap();
    assert_complete(&output);
    assert_eq!(fs::read_dir(&output).unwrap().count(), files(&output).len(), "hidden files stay");
}

#[test]
fn keyed_state_counts_each_record_once_whatever_fails() {
    let dir = tempfile::tempdir().unwrap();
    let undisturbed = dir.path().join("undisturbed");
    tally(&undisturbed, &with_checkpoints(&dir.path().join("state")), |_| {}).unwrap();
    assert_tallied(&undisturbed);
    let (output, state) = (dir.path().join("out"), dir.path().join("states"));
    go_on(&output, &state, tally, || fails(1100, 1));
    assert_tallied(&output);
}

/// A tally whose rows are in files, but for those in use.
fn tally_in_files(
    output: &Path,
    options: &BTreeMap<&str, String>,
    on_number: impl Fn(u64) + Clone + Send + 'static,
) -> weir::Result<()> {
    let mut options = options.clone();
    options.insert("state.backend.type", "lsm".to_owned());
    options.insert("state.backend.lsm.memory.size", "1mb".to_owned());
    tally(output, &options, on_number)
}

#[test]
fn keyed_state_in_files_counts_each_record_once_whatever_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("states"));
    go_on(&output, &state, tally_in_files, || fails(1100, 1));
    assert_tallied(&output);
    let shared = fs::read_dir(&state).unwrap().flat_map(|run| fs::read_dir(run.unwrap().path()).unwrap());
    let shared: Vec<_> = shared.map(|job| job.unwrap().path().join("shared")).filter(|path| path.exists()).collect();
    assert!(!shared.is_empty(), "no checkpoint has files that others may share");
}

#[test]
fn a_job_that_restarts_by_itself_goes_on_with_the_files_of_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("state"));
    let mut options = with_checkpoints(&state);
    options.insert("restart-strategy.type", "fixed-delay".to_owned());
    options.insert("restart-strategy.fixed-delay.attempts", "3".to_owned());
    options.insert("restart-strategy.fixed-delay.delay", "1 ms".to_owned());
    tally_in_files(&output, &options, fails(1100, 3)).unwrap();
    assert_tallied(&output);
    assert_eq!(checkpoints(&state), Vec::<PathBuf>::new(), "checkpoints of a job that has finished stay");
}

#[test]
fn a_job_goes_on_with_its_state_elsewhere_than_before() {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("states"));
    let runs = AtomicU32::new(0);
    let by_turns = |output: &Path, options: &BTreeMap<&str, String>, on_number| {
        if runs.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return tally_in_files(output, options, on_number);
        }
        tally(output, options, on_number)
    };
    go_on(&output, &state, by_turns, || fails(1100, 1));
    assert_tallied(&output);
}

#[test]
fn a_job_goes_on_from_a_checkpoint_of_one_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    go_on(&output, &dir.path().join("state"), copy, || fails(1100, 1));
    assert_complete(&output);
}

/// Checkpoints that stay when the job fails.
fn retained(directory: &Path) -> BTreeMap<&'static str, String> {
    let mut options = with_checkpoints(directory);
    let retention = "execution.checkpointing.externalized-checkpoint-retention";
    options.insert(retention, "RETAIN_ON_CANCELLATION".to_owned());
    options
}

/// Runs a job that fails, and starts it again from its last checkpoint, until it does not fail any more.
fn go_on<F: Fn(u64) + Clone + Send + 'static>(
    output: &Path,
    state: &Path,
    job: impl Fn(&Path, &BTreeMap<&str, String>, F) -> weir::Result<()>,
    failing: impl Fn() -> F,
) {
    let mut from = None;
    for run in 0.. {
        let state = state.join(format!("{run}"));
        let mut options = retained(&state);
        options.extend(from.take().map(|path| ("execution.state-recovery.path", path)));
        match job(output, &options, failing()) {
            Ok(()) => {
                assert!(run > 1, "{run} runs");
                break;
            }
            Err(error) => assert!(error.to_string().contains("planned"), "{error}"),
        }
        let checkpoint = checkpoints(&state).pop().expect("a checkpoint is kept");
        from = Some(checkpoint.display().to_string());
    }
}

#[test]
fn a_checkpoint_that_is_not_there_or_is_none_is_an_error_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let check = |path: &Path, expect: &str| {
        let options = BTreeMap::from([("execution.state-recovery.path", path.display().to_string())]);
        let error = copy(&output, &options, |_| {}).unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains(path.to_str().unwrap()), "{error}");
        assert!(!output.exists());
    };
    check(&dir.path().join("chk-1"), "there is no checkpoint or savepoint at");
    let broken = dir.path().join("chk-2");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("_metadata"), "nonsense").unwrap();
    check(&broken, "cannot be used");
    check(&broken.join("_metadata"), "cannot be used");
}
