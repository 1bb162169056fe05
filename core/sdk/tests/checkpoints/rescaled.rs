//! Jobs that fail, and go on from their last checkpoint with another number of subtasks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir::connectors::FileSink;
use weir::prelude::*;

use super::{END, Numbers, assert_complete, checkpoints, files, numbers, retained, set};

type OnNumber = Arc<dyn Fn(u64) + Send + Sync>;

/// The number of the newest complete checkpoint; 0 if there is none yet.
fn newest(state: &Path) -> u64 {
    let jobs = fs::read_dir(state).into_iter().flatten().flatten();
    let entries = jobs.flat_map(|job| fs::read_dir(job.path()).into_iter().flatten().flatten());
    let complete = entries.filter(|entry| entry.path().join("_metadata").exists());
    let number = |name: std::ffi::OsString| name.to_string_lossy().strip_prefix("chk-")?.parse().ok();
    complete.filter_map(|entry| number(entry.file_name())).max().unwrap_or(0)
}

/// A job that asks for each number. Some are answered only when a barrier has passed since they were asked for.
fn asking(
    output: &Path,
    options: &BTreeMap<&str, String>,
    parallelism: u32,
    order: AsyncOptions,
    on_number: impl Fn(u64) + Clone + Send + Sync + 'static,
) -> weir::Result<()> {
    let state = PathBuf::from(&options["execution.checkpointing.dir"]);
    weir::run::in_process("asking", |env| {
        env.set_parallelism(parallelism);
        set(env, options);
        env.source(Numbers::watching_output(output))
            .uid("numbers")
            .rebalance()
            .async_map(order, move |number| {
                on_number(number);
                let state = state.clone();
                async move {
                    let asked_at = newest(&state);
                    // The next one to be complete may have passed already.
                    while number.is_multiple_of(150) && newest(&state) < asked_at + 2 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(number)
                }
            })
            .uid("asking")
            .sink(FileSink::text(output))
            .uid("files");
        Ok(())
    })
}

/// Runs a job at a parallelism of 2 until it fails, which `on_number` makes it do behind its first checkpoint; from there at 1, until it fails
/// once more; and from there at 3 to its end. `job` gets a folder for its output.
fn rescaled(output: &Path, job: impl Fn(&BTreeMap<&str, String>, u32, OnNumber) -> weir::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    let mut from = None;
    for parallelism in [2, 1, 3] {
        let state = dir.path().join(format!("{parallelism}"));
        let mut options = retained(&state);
        options.extend(from.clone().map(|path| ("execution.state-recovery.path", path)));
        let failing: OnNumber = match parallelism {
            3 => Arc::new(|_| {}),
            _ => Arc::new({
                let state = state.clone();
                move |_| assert_eq!(newest(&state), 0, "planned")
            }),
        };
        match job(&options, parallelism, failing) {
            Ok(()) => assert_eq!(parallelism, 3, "the job has not failed; {:?}", files(output)),
            Err(error) => {
                assert!(error.to_string().contains("planned"), "{error}");
                // One whose metadata could be seen may have been given up all the same, as the job failed before that was known.
                from = checkpoints(&state).pop().map(|path| path.display().to_string()).or(from);
            }
        }
    }
}

#[test]
fn requests_in_flight_are_asked_for_again_also_at_another_parallelism() {
    for order in [AsyncOptions::ordered(), AsyncOptions::unordered()] {
        // Were there less room, barriers would wait behind records that wait for them.
        let order = order.capacity(END as usize);
        let dir = tempfile::tempdir().unwrap();
        rescaled(dir.path(), |options, parallelism, on_number| {
            asking(dir.path(), options, parallelism, order.clone(), move |number| on_number(number))
        });
        assert_complete(dir.path());
    }
}

/// Emits numbers ten at a time, and counts them. What it holds and the counts of all subtasks are its states.
#[derive(Clone)]
struct Tens {
    held: OperatorListState<u64>,
    counts: OperatorListState<u64>,
    on_number: OnNumber,
}

impl Tens {
    fn new(on_number: OnNumber) -> Tens {
        Tens { held: OperatorListState::default(), counts: OperatorListState::default(), on_number }
    }
}

impl ProcessFunction<u64> for Tens {
    type Out = String;

    fn declare(&mut self, states: &mut OperatorStateDeclarer<'_>) {
        self.held = states.list("held");
        self.counts = states.union_list("counts");
    }

    fn open(&mut self, context: &mut ProcessContext<String>) {
        // The first subtask goes on with what all have counted.
        let sum = if context.subtask() == 0 { self.counts.get(context).iter().sum() } else { 0 };
        *self.counts.get_mut(context) = vec![sum];
    }

    fn process(&mut self, number: u64, context: &mut ProcessContext<String>) {
        (self.on_number)(number);
        self.counts.get_mut(context)[0] += 1;
        self.held.push(context, number);
        if self.held.get(context).len() >= 10 {
            let held = std::mem::take(self.held.get_mut(context));
            held.iter().for_each(|number| context.emit(number.to_string()));
        }
    }

    fn end(&mut self, context: &mut ProcessContext<String>) {
        let held = std::mem::take(self.held.get_mut(context));
        held.iter().for_each(|number| context.emit(number.to_string()));
        let count = self.counts.get(context)[0];
        // Beyond all numbers.
        context.emit((END * 10 + count).to_string());
    }
}

impl CoProcessFunction<u64, u64> for Tens {
    type Out = String;

    fn declare(&mut self, states: &mut OperatorStateDeclarer<'_>) {
        ProcessFunction::declare(self, states);
    }

    fn open(&mut self, context: &mut ProcessContext<String>) {
        ProcessFunction::open(self, context);
    }

    fn first(&mut self, number: u64, context: &mut ProcessContext<String>) {
        self.process(number, context);
    }

    fn second(&mut self, _number: u64, _context: &mut ProcessContext<String>) {}

    fn first_ended(&mut self, context: &mut ProcessContext<String>) {
        self.end(context);
    }
}

/// Each number is there once, and the counts make up their number.
fn assert_counted(output: &Path) {
    let found = numbers(output);
    let counts = found.iter().filter(|number| **number >= END);
    assert_eq!(counts.map(|count| count - END * 10).sum::<u64>(), END);
    assert!(found.into_iter().filter(|number| *number < END).eq(0..END));
}

#[test]
fn lists_of_functions_without_keys_are_dealt_out_or_given_to_all_subtasks() {
    let dir = tempfile::tempdir().unwrap();
    rescaled(dir.path(), |options, parallelism, on_number| {
        weir::run::in_process("tens", |env| {
            env.set_parallelism(parallelism);
            set(env, options);
            let numbers = env.source(Numbers::watching_output(dir.path())).uid("numbers").rebalance();
            numbers.process(Tens::new(on_number)).uid("tens").sink(FileSink::text(dir.path())).uid("files");
            Ok(())
        })
    });
    assert_counted(dir.path());
}

#[test]
fn functions_over_two_streams_have_lists_as_well() {
    let dir = tempfile::tempdir().unwrap();
    rescaled(dir.path(), |options, parallelism, on_number| {
        weir::run::in_process("tens", |env| {
            env.set_parallelism(parallelism);
            set(env, options);
            let numbers = env.source(Numbers::watching_output(dir.path())).uid("numbers");
            let others = env.from_collection([1u64, 2, 3]).uid("others");
            let tens = numbers.connect(others).process(Tens::new(on_number)).uid("tens");
            tens.sink(FileSink::text(dir.path())).uid("files");
            Ok(())
        })
    });
    assert_counted(dir.path());
}
