//! Many timers at once.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use weir::connectors::FileSink;
use weir::prelude::*;

use super::{END, Numbers, files, lines, with_checkpoints};

/// Keys, and timers, for each number.
const TIMES: u64 = 50;

/// Timers that have fired.
static FIRED: AtomicU64 = AtomicU64::new(0);

/// When all of them are due, in milliseconds since the epoch.
fn due() -> i64 {
    static DUE: OnceLock<i64> = OnceLock::new();
    *DUE.get_or_init(|| now() + 1500)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Says its key when it is time.
#[derive(Clone)]
struct Alarm;

impl KeyedProcessFunction<u64, u64> for Alarm {
    type Out = String;

    fn process(&mut self, _key: u64, context: &mut KeyedContext<u64, String>) {
        context.timers().register_processing_time(due());
    }

    fn on_timer(&mut self, _timer: Timer, context: &mut KeyedContext<u64, String>) {
        let line = context.key().to_string();
        context.emit(line);
        FIRED.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn barriers_pass_between_timers_that_are_all_due_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (output, state) = (dir.path().join("out"), dir.path().join("state"));
    weir::run::in_process("storm", |env| {
        env.set_parallelism(1);
        for (key, value) in &with_checkpoints(&state) {
            env.set(key, value);
        }
        // The source keeps some numbers back until the timers of the others have fired: the end does not fire any.
        let fired = |_: &Path| {
            assert!(now() < due() + 60_000, "timers do not fire");
            u64::from(FIRED.load(Ordering::Relaxed) >= (END - 7) * TIMES)
        };
        env.source(Numbers { folder: dir.path().to_owned(), progress: fired, split: END })
            .flat_map(|number| (0..TIMES).map(move |nth| number * TIMES + nth))
            .key_by(|number| *number)
            .process(Alarm)
            .sink(FileSink::text(&output));
        Ok(())
    })
    .unwrap();
    assert!(lines(&output).len() as u64 >= (END - 7) * TIMES);
    // A file is what was written between two barriers; timers of the numbers that were kept back are few.
    let lines_of = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    let many = files(&output).iter().filter(|path| lines_of(path) >= 1000).count();
    assert!(many > 1, "{:?}", files(&output));
}
