//! Weir's own jobs, written as its users would write them.
//!
//! Each run is a process of its own, started with the command line of an ordinary job executable (`--job q0 -p 1 …`): this
//! binary is one, see [`run_as_job`]. Weir reports how long the job ran, from its deployment to the commit of its sinks; what
//! all sink subtasks saw travels to the driver as any sink's committables do, from worker processes too.

use crate::checkpoints::Folder;
use crate::generate::{self, ACCOUNTS, Account, Bid, Observed, Windows};
use crate::job::{Failure, Job, Outcome, Workload};
use crate::latency::{self, Meter, now_ns};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use weir::WatermarkStrategy;
use weir::exchange::HashPartitioner;
use weir::prelude::aggregates::Count;
use weir::prelude::*;
use weir::sink::{Committer, CommitterContext, Sink, SinkError, SinkWriter, WriterContext};

/// What the command line of a Weir job begins with.
const JOB_FLAG: &str = "--job";

/// Called first in `main`: runs and returns when this process was started as a Weir job, or by Weir as one of its workers.
pub fn run_as_job() -> Option<ExitCode> {
    if std::env::args().nth(1).as_deref() != Some(JOB_FLAG) {
        return None;
    }
    end_with_parent();
    Some(weir::run::main(vec![
        weir::run::Job::new(Workload::Q0.name(), q0),
        weir::run::Job::new(Workload::Q2.name(), q2),
        weir::run::Job::new(Workload::Shuffle.name(), shuffle),
        weir::run::Job::new(Workload::KeyedCount.name(), keyed_count),
        weir::run::Job::new(Workload::Wordcount.name(), wordcount),
        weir::run::Job::new(Workload::State.name(), state),
        weir::run::Job::new(Workload::Window.name(), window),
        weir::run::Job::new(Workload::Tumbling1s.name(), tumbling_1s),
        weir::run::Job::new(Workload::Tumbling1ms.name(), tumbling_1ms),
        weir::run::Job::new(Workload::Sliding.name(), sliding),
        weir::run::Job::new(Workload::Latency.name(), latency),
    ]))
}

/// Runs `job`.
pub fn run(job: &Job) -> Result<Outcome, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    let checkpoints = (job.workload == Workload::StateCp).then(Folder::watch).transpose()?;
    let workload = match job.workload {
        Workload::Shuffle2 => Workload::Shuffle,
        Workload::StateCp => Workload::State,
        workload => workload,
    };
    command.args([JOB_FLAG, workload.name()]);
    if job.workload == Workload::Shuffle2 {
        command.args(["--workers", "2"]);
    }
    if let Some(folder) = &checkpoints {
        let folder = folder.path().display();
        command.args(["-D", "execution.checkpointing.interval=3s"]);
        command.args(["-D", &format!("execution.checkpointing.dir={folder}")]);
    }
    match workload {
        Workload::Wordcount => command.arg("--input").arg(job.text()?.0),
        _ => command.args(["--records", &job.records.to_string()]),
    };
    let parallelism = job.parallelism.to_string();
    let output = command
        .args(["--parallelism", &parallelism, "--quiet", "--output", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let output = String::from_utf8(output.stdout)?;
    let mut lines = output.lines();
    let Some(summary) = lines.next_back() else {
        return Err("expected what was seen and a summary, found nothing".into());
    };
    // With checkpoints there is a commit for each.
    let mut all = Seen::default();
    for seen in lines {
        all = all.merge(serde_json::from_str(seen)?);
    }
    let (observed, meter) = all.into_parts();
    let summary: Summary = serde_json::from_str(summary)?;
    Ok(Outcome {
        wall: Duration::from_secs_f64(summary.duration_s),
        observed,
        latency: meter.percentiles(),
        checkpoints: checkpoints.map(Folder::finish).transpose()?,
    })
}

/// What is read of a job's summary.
#[derive(Deserialize)]
struct Summary {
    duration_s: f64,
}

#[derive(weir::Args)]
struct Bids {
    /// Number of bids to generate
    #[arg(long)]
    records: u64,
}

#[derive(weir::Args)]
struct Input {
    /// Text to count the words of
    #[arg(long)]
    input: PathBuf,
}

fn q0(env: &Environment, bids: Bids) -> weir::Result<()> {
    env.generate(bids.records, Bid::nth)
        .map(|bid| Bid { price: generate::convert(bid.price), ..bid })
        .sink(Verify::new(|seen: &mut Observed, bid: &Bid| seen.bid(bid)));
    Ok(())
}

fn q2(env: &Environment, bids: Bids) -> weir::Result<()> {
    env.generate(bids.records, Bid::nth)
        .filter(|bid| generate::is_selected(bid.auction))
        .sink(Verify::new(|seen: &mut Observed, bid: &Bid| seen.bid(bid)));
    Ok(())
}

fn shuffle(env: &Environment, bids: Bids) -> weir::Result<()> {
    env.generate(bids.records, Bid::nth)
        .exchange(HashPartitioner::new(|bid: &Bid| bid.auction.key_hash()))
        .sink(Verify::new(|seen: &mut Observed, bid: &Bid| seen.bid(bid)));
    Ok(())
}

fn keyed_count(env: &Environment, bids: Bids) -> weir::Result<()> {
    env.generate(bids.records, Bid::nth)
        .key_by(|bid| bid.auction)
        .count()
        .sink(Verify::new(|seen: &mut Observed, (auction, count): &(u64, u64)| seen.key_count(*auction, *count)));
    Ok(())
}

fn wordcount(env: &Environment, input: Input) -> weir::Result<()> {
    env.read_text(&input.input)
        .flat_map(|line| line.into_words())
        .key_by(|word| word.clone())
        .count()
        .sink(Verify::new(|seen: &mut Observed, (word, count): &(Text, u64)| seen.word_count(word.as_bytes(), *count)));
    Ok(())
}

fn state(env: &Environment, bids: Bids) -> weir::Result<()> {
    env.generate(bids.records, |n| Bid::among(ACCOUNTS, n))
        .key_by(|bid| bid.auction)
        .process(KeepAccounts::default())
        .sink(Verify::new(|seen: &mut Observed, (key, account): &(u64, Account)| seen.account(*key, account)));
    Ok(())
}

fn window(env: &Environment, bids: Bids) -> weir::Result<()> {
    tumbling(env, bids, Windows::WINDOW)
}

fn tumbling_1s(env: &Environment, bids: Bids) -> weir::Result<()> {
    tumbling(env, bids, Windows::TUMBLING_1S)
}

fn tumbling_1ms(env: &Environment, bids: Bids) -> weir::Result<()> {
    tumbling(env, bids, Windows::TUMBLING_1MS)
}

fn tumbling(env: &Environment, bids: Bids, windows: Windows) -> weir::Result<()> {
    env.generate(bids.records, move |n| Bid::among(windows.auctions, n))
        .watermarks(WatermarkStrategy::monotonic(Bid::event_millis))
        .key_by(|bid| bid.auction)
        .window(Tumbling::event_time(Duration::from_millis(windows.size), Bid::event_millis))
        .aggregate(Count)
        .sink(Verify::new(see_window));
    Ok(())
}

fn sliding(env: &Environment, bids: Bids) -> weir::Result<()> {
    let Windows { auctions, size, slide } = Windows::SLIDING;
    env.generate(bids.records, move |n| Bid::among(auctions, n))
        .watermarks(WatermarkStrategy::monotonic(Bid::event_millis))
        .key_by(|bid| bid.auction)
        .window(Sliding::event_time(Duration::from_millis(size), Duration::from_millis(slide), Bid::event_millis))
        .aggregate(Count)
        .sink(Verify::new(see_window));
    Ok(())
}

fn see_window(seen: &mut Observed, counted: &WindowResult<u64, u64>) {
    seen.window_count(counted.key, counted.window.start, counted.value);
}

/// Keeps an account for each auction and emits it at the end.
#[derive(Clone, Default)]
struct KeepAccounts {
    account: ValueState<Account>,
}

impl KeyedProcessFunction<u64, Bid> for KeepAccounts {
    type Out = (u64, Account);

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.account = states.value("account");
    }

    fn process(&mut self, bid: Bid, context: &mut KeyedContext<u64, Self::Out>) {
        self.account.get_or_insert_with(context, Account::default).update(&bid);
    }

    fn end_of_key(&mut self, context: &mut KeyedContext<u64, Self::Out>) {
        let account = self.account.get(context).copied().unwrap_or_default();
        let key = *context.key();
        context.emit((key, account));
    }
}

fn latency(env: &Environment, bids: Bids) -> weir::Result<()> {
    let schedule = Schedule::default();
    let due_bid = move |n| Bid { event_time: schedule.due_ns(n), ..Bid::nth(n) };
    env.source(GeneratorSource::new(due_bid).records(bids.records).rate(latency::RATE as f64))
        .key_by(|bid| bid.auction)
        .process(PassOn)
        .sink(Verify::new(|(seen, meter): &mut (Observed, Meter), bid: &Bid| {
            seen.bid(bid);
            meter.observe(bid.event_time, now_ns());
        }));
    Ok(())
}

/// The keyed function that does nothing.
#[derive(Clone)]
struct PassOn;

impl KeyedProcessFunction<u64, Bid> for PassOn {
    type Out = Bid;

    fn process(&mut self, bid: Bid, context: &mut KeyedContext<u64, Bid>) {
        context.emit(bid);
    }
}

/// When bids of a rate-limited generator are due. The generator does not say when its schedule began, but it never emits
/// early: of all bids so far the promptest tells, long before the warm-up of the meter is over.
#[derive(Clone, Default)]
struct Schedule {
    start_ns: Cell<Option<u64>>,
}

impl Schedule {
    fn due_ns(&self, n: u64) -> u64 {
        let latest_start = now_ns() - latency::due_ns(0, n);
        let start = self.start_ns.get().map_or(latest_start, |start| start.min(latest_start));
        self.start_ns.set(Some(start));
        latency::due_ns(start, n)
    }
}

/// What sinks saw: alone, or with latencies.
trait Sees: Clone + Default + Send + 'static {
    fn seen(self) -> Seen;
}

impl Sees for Observed {
    fn seen(self) -> Seen {
        Seen { observed: self, meter: None }
    }
}

impl Sees for (Observed, Meter) {
    fn seen(self) -> Seen {
        Seen { observed: self.0, meter: Some(self.1) }
    }
}

/// What sinks saw, on its way from the writers to the harness.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    observed: Observed,
    meter: Option<Meter>,
}

impl Seen {
    fn into_parts(self) -> (Observed, Meter) {
        (self.observed, self.meter.unwrap_or_default())
    }

    fn merge(self, other: Seen) -> Seen {
        let meter = match (self.meter, other.meter) {
            (Some(one), Some(other)) => Some(one.merge(&other)),
            (one, other) => one.or(other),
        };
        Seen { observed: self.observed.merge(other.observed), meter }
    }
}

/// A sink that takes records in with a function and, when the job is done, prints what all subtasks saw as a line of JSON.
struct Verify<T, F, S> {
    take_in: F,
    types: PhantomData<fn(T) -> S>,
}

impl<T, F: Fn(&mut S, &T), S> Verify<T, F, S> {
    fn new(take_in: F) -> Self {
        Verify { take_in, types: PhantomData }
    }
}

impl<T, F: Clone, S> Clone for Verify<T, F, S> {
    fn clone(&self) -> Self {
        Verify { take_in: self.take_in.clone(), types: PhantomData }
    }
}

impl<T, F, S> Sink<T> for Verify<T, F, S>
where
    T: 'static,
    F: Fn(&mut S, &T) + Clone + Send + 'static,
    S: Sees,
{
    type Writer = VerifyWriter<F, S>;

    fn name(&self) -> String {
        "Sink: verify".to_owned()
    }

    fn create_writer(&self, _context: &WriterContext) -> Result<Self::Writer, SinkError> {
        Ok(VerifyWriter { take_in: self.take_in.clone(), seen: S::default() })
    }

    fn create_committer(&self, _context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
        Ok(Some(Box::new(PrintSeen)))
    }
}

struct VerifyWriter<F, S> {
    take_in: F,
    seen: S,
}

impl<T, F, S> SinkWriter<T> for VerifyWriter<F, S>
where
    F: Fn(&mut S, &T) + Send + 'static,
    S: Sees,
{
    #[inline(always)]
    fn write(&mut self, record: T) -> Result<(), SinkError> {
        (self.take_in)(&mut self.seen, &record);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError> {
        Ok(vec![serde_json::to_vec(&std::mem::take(&mut self.seen).seen()).map_err(SinkError::new)?])
    }
}

struct PrintSeen;

impl Committer for PrintSeen {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError> {
        let mut all = Seen::default();
        for payload in committables {
            all = all.merge(serde_json::from_slice(&payload).map_err(SinkError::new)?);
        }
        println!("{}", serde_json::to_string(&all).map_err(SinkError::new)?);
        Ok(())
    }

    fn abort(&mut self) {}
}

/// Ends this process when the one that started it ends, so that a call that is interrupted leaves nothing running.
fn end_with_parent() {
    // SAFETY: the call only sets an attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}
