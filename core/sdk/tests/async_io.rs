//! Asynchronous functions: order, watermarks, capacity, time limits, tries, failures, cancellation.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Barrier, Notify};
use tokio::task::yield_now;
use weir::operator::{Collector, Operator};
use weir::prelude::*;

/// Runs a job over the numbers below `count` at a parallelism of 1; what it emits, in order.
fn run<C: weir::stream::Upstream<Out = u64>>(
    count: u64,
    job: impl FnOnce(DataStream<weir::stream::SourceHead<CollectionSource<u64>>>) -> DataStream<C>,
) -> weir::Result<Vec<u64>> {
    let (sink, results) = CollectSink::new();
    weir::run::in_process("async", |env| {
        env.set_parallelism(1);
        job(env.from_collection(0..count)).sink(sink);
        Ok(())
    })?;
    Ok(results.take())
}

fn message<T: std::fmt::Debug>(result: weir::Result<T>) -> String {
    result.unwrap_err().to_string()
}

/// Answers after a few turns, different for each number.
async fn dawdle(number: u64) -> Result<u64, AsyncError> {
    for _ in 0..number * 7 % 13 {
        yield_now().await;
    }
    Ok(number)
}

fn both() -> [AsyncOptions; 2] {
    [AsyncOptions::ordered(), AsyncOptions::unordered()]
}

#[test]
fn every_record_has_its_results_whatever_the_order() {
    for options in both() {
        let twice = |number| async move { dawdle(number).await.map(|number| [number, number + 10_000]) };
        let mut found = run(5000, |numbers| numbers.async_flat_map(options, twice)).unwrap();
        found.sort_unstable();
        assert!(found.into_iter().eq((0..5000).chain(10_000..15_000)));
    }
    let found =
        run(3, |numbers| numbers.async_flat_map(AsyncOptions::ordered(), |n| async move { Ok((n != 1).then_some(n)) }));
    assert_eq!(found.unwrap(), [0, 2], "none at all is a result as well");
}

#[test]
fn ordered_results_keep_the_order_of_their_records() {
    let found = run(5000, |numbers| numbers.async_map(AsyncOptions::ordered(), dawdle)).unwrap();
    assert!(found.into_iter().eq(0..5000));
}

/// The first number is answered when the last is asked for.
fn first_after_last(options: AsyncOptions) -> Vec<u64> {
    let last_asked = Arc::new(Notify::new());
    let ask = move |number: u64| {
        let last_asked = last_asked.clone();
        async move {
            match number {
                0 => last_asked.notified().await,
                7 => last_asked.notify_one(),
                _ => {}
            }
            Ok(number)
        }
    };
    run(8, |numbers| numbers.async_map(options.capacity(8), ask)).unwrap()
}

#[test]
fn unordered_results_overtake_and_ordered_ones_wait() {
    assert_eq!(first_after_last(AsyncOptions::ordered()), [0, 1, 2, 3, 4, 5, 6, 7]);
    let found = first_after_last(AsyncOptions::unordered());
    assert_ne!(found[0], 0, "{found:?}");
}

/// A watermark behind each tenth number.
#[derive(Clone)]
struct Tens(i64);

impl WatermarkGenerator<u64> for Tens {
    fn on_record(&mut self, number: &u64) -> bool {
        if number % 10 == 9 {
            self.0 = *number as i64;
        }
        number % 10 == 9
    }
    fn watermark(&self) -> i64 {
        self.0
    }
}

/// Numbers and watermarks, as they come.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Result<u64, i64>>>>);

impl Operator<u64> for Seen {
    type Out = u64;
    fn process<C: Collector<u64>>(&mut self, number: u64, out: &mut C) {
        self.0.lock().unwrap().push(Ok(number));
        out.push(number);
    }
    fn watermark<C: Collector<u64>>(&mut self, time: i64, _out: &mut C) {
        self.0.lock().unwrap().push(Err(time));
    }
}

#[test]
fn results_never_change_places_with_a_watermark() {
    for options in both() {
        let seen = Seen::default();
        let overtaken = Arc::new(Notify::new());
        // One is answered behind others of its ten; the watermark has to wait for it.
        let ask = move |number: u64| {
            let overtaken = overtaken.clone();
            async move {
                match number {
                    42 => overtaken.notified().await,
                    47 => overtaken.notify_one(),
                    _ => yield_now().await,
                }
                Ok(number)
            }
        };
        let found = run(2000, |numbers| {
            let stamped = numbers.watermarks(WatermarkStrategy::custom(Tens(i64::MIN)));
            stamped.async_map(options.capacity(50), ask).transform("Seen", seen.clone())
        });
        assert_eq!(found.unwrap().len(), 2000);
        let seen = seen.0.lock().unwrap();
        let (mut watermark, mut watermarks, mut due) = (-1, 0, 0);
        for event in &*seen {
            match event {
                Ok(number) => {
                    assert!(*number as i64 > watermark, "{number} came behind the watermark {watermark}");
                    due += 1;
                }
                Err(time) => {
                    assert!(*time > watermark);
                    assert!(
                        *time == i64::MAX || due > *time,
                        "the watermark {time} came before {} of its numbers",
                        time + 1 - due
                    );
                    (watermark, watermarks) = (*time, watermarks + 1);
                }
            }
        }
        assert!(watermarks >= 200, "{watermarks} watermarks");
    }
}

#[test]
fn as_many_requests_are_in_flight_as_the_capacity_allows_and_no_more() {
    for options in both() {
        // Without four at once nothing would ever go on.
        let (four, in_flight) = (Arc::new(Barrier::new(4)), Arc::new(AtomicU64::new(0)));
        let ask = move |number: u64| {
            let (four, in_flight) = (four.clone(), in_flight.clone());
            async move {
                let now = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                four.wait().await;
                in_flight.fetch_sub(1, Ordering::SeqCst);
                if now > 4 { Err(format!("{now} at once").into()) } else { Ok(number) }
            }
        };
        let (taken, gone) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let gone_on = gone.clone();
        let found = run(400, |numbers| {
            let numbers = numbers.inspect(move |number| {
                let held = taken.fetch_add(1, Ordering::SeqCst) - gone.load(Ordering::SeqCst);
                // One more waits until there is room.
                assert!(held <= 5, "{held} records were taken in before {number}, whose results have not gone on");
            });
            numbers.async_map(options.capacity(4), ask).inspect(move |_| {
                gone_on.fetch_add(1, Ordering::SeqCst);
            })
        });
        assert_eq!(found.unwrap().len(), 400);
    }
}

/// Never answers for 3; 100 is emitted instead.
#[derive(Clone)]
struct NoThree {
    excuses: bool,
}

impl AsyncFunction<u64> for NoThree {
    type Output = [u64; 1];

    async fn call(&self, number: u64) -> Result<[u64; 1], AsyncError> {
        if number == 3 { pending().await } else { Ok([number]) }
    }

    fn timed_out(&self, number: u64, timeout: Duration) -> Result<[u64; 1], AsyncError> {
        if self.excuses { Ok([number + 100]) } else { Err(format!("{number} took more than {timeout:?}").into()) }
    }
}

#[test]
fn a_record_that_takes_too_long_fails_the_job_or_has_another_result() {
    let options = || AsyncOptions::ordered().timeout(Duration::from_millis(20));
    let never = |number: u64| async move { if number == 3 { pending().await } else { Ok(number) } };
    let error = message(run(6, |numbers| numbers.async_map(options(), never)));
    assert!(error.contains("a record had no result after 20ms"), "{error}");
    assert!(error.contains("Async Map"), "{error}");
    let error = message(run(6, |numbers| numbers.async_process(options(), NoThree { excuses: false })));
    assert!(error.contains("3 took more than 20ms"), "{error}");
    let found = run(6, |numbers| numbers.async_process(options(), NoThree { excuses: true })).unwrap();
    assert_eq!(found, [0, 1, 2, 103, 4, 5]);
}

type Answer = Pin<Box<dyn Future<Output = Result<u64, AsyncError>> + Send>>;

/// Fails a number of times before it answers; counts the calls.
fn fails(times: u64, calls: &Arc<AtomicU64>) -> impl Fn(u64) -> Answer + Clone + Send + Sync + 'static {
    let calls = calls.clone();
    move |number| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { if call < times { Err("busy".into()) } else { Ok(number) } })
    }
}

#[test]
fn what_has_failed_is_tried_again_as_often_as_the_strategy_says() {
    let pause = Duration::from_millis(1);
    for strategy in [RetryStrategy::fixed_delay(2, pause), RetryStrategy::exponential(2, pause, 2.0, pause * 10)] {
        let tried = |times, strategy| {
            let calls = Arc::new(AtomicU64::new(0));
            let found =
                run(1, |numbers| numbers.async_map(AsyncOptions::unordered().retry(strategy), fails(times, &calls)));
            (found.map_err(|error| error.to_string()), calls.load(Ordering::SeqCst))
        };
        assert_eq!(tried(2, strategy.clone()), (Ok(vec![0]), 3));
        let (failed, calls) = tried(3, strategy.clone());
        let error = failed.unwrap_err();
        assert!(error.contains("busy (tried 3 times)"), "{error}");
        assert_eq!(calls, 3);
        let (failed, calls) = tried(1, strategy.clone().when(|error| error.to_string() != "busy"));
        assert!(failed.unwrap_err().contains("busy"));
        assert_eq!(calls, 1, "an error that the strategy does not accept is the last word");
        assert_eq!(tried(1, strategy.when(|error| error.to_string() == "busy")), (Ok(vec![0]), 2));
    }
}

/// Counts its calls until it is content; knows what became of it.
#[derive(Clone, Default)]
struct Patient {
    content: u64,
    calls: Arc<AtomicU64>,
    opened: Option<(u32, u32)>,
    closed: Arc<AtomicU64>,
}

impl AsyncFunction<u64> for Patient {
    type Output = Vec<u64>;

    async fn open(&mut self, context: &AsyncContext) -> Result<(), AsyncError> {
        yield_now().await;
        self.opened = Some((context.subtask(), context.parallelism()));
        Ok(())
    }

    async fn call(&self, _number: u64) -> Result<Vec<u64>, AsyncError> {
        assert_eq!(self.opened, Some((0, 1)));
        Ok(vec![self.calls.fetch_add(1, Ordering::SeqCst)])
    }

    fn retries(&self, output: &Vec<u64>) -> bool {
        output[0] < self.content
    }

    async fn close(&self) -> Result<(), AsyncError> {
        yield_now().await;
        self.closed.store(self.calls.load(Ordering::SeqCst), Ordering::SeqCst);
        Err("closed".into())
    }
}

#[test]
fn a_function_is_opened_first_and_closed_last_and_may_refuse_results() {
    let function = Patient { content: 3, ..Patient::default() };
    let options = AsyncOptions::ordered().capacity(1).retry(RetryStrategy::fixed_delay(5, Duration::ZERO));
    let (sink, results) = CollectSink::new();
    let ended = weir::run::in_process("patient", |env| {
        env.set_parallelism(1);
        env.from_collection([1u64, 2]).async_process(options, function.clone()).sink(sink);
        Ok(())
    });
    assert!(message(ended).contains("closed"), "what closing fails with fails the job");
    assert_eq!(function.closed.load(Ordering::SeqCst), 5, "three in vain, and one for each record");
    assert!(results.len() <= 2);
}

#[test]
fn an_error_and_a_panic_fail_the_job_with_message_and_operator() {
    for options in both() {
        let fail = |number: u64| async move { if number == 77 { Err("no such price".into()) } else { Ok(number) } };
        let error = message(run(1000, |numbers| numbers.async_map(options.clone(), fail).name("Prices")));
        assert!(error.contains("no such price") && error.contains("Prices"), "{error}");
        let panic = |number: u64| async move {
            yield_now().await;
            assert_ne!(number, 77, "planned");
            Ok(number)
        };
        let error = message(run(1000, |numbers| numbers.async_map(options, panic).name("Prices")));
        assert!(error.contains("planned") && error.contains("Prices") && error.contains("async_io.rs"), "{error}");
    }
}

/// Counts how many there are.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(count: &Arc<AtomicU64>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for too long");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn cancellation_drops_what_is_in_flight_and_does_not_wait_for_it() {
    // At the end of the input, and while it waits for room.
    for records in [3u64, 10] {
        let (there, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ended = weir::run::in_process("canceled", |env| {
            env.set_parallelism(1);
            let (in_flight, counted) = (there.clone(), asked.clone());
            let ask = move |number: u64| {
                let here = Counted::new(&in_flight);
                counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    let _here = here;
                    pending::<()>().await;
                    Ok(number)
                }
            };
            env.from_collection(0..records).async_map(AsyncOptions::ordered().capacity(5), ask).discard();
            let asked = asked.clone();
            let fail = move |_: &u64| {
                wait_until(|| asked.load(Ordering::SeqCst) == records.min(5));
                panic!("planned");
            };
            env.from_collection(0..1u64).inspect(fail).discard();
            Ok(())
        });
        assert!(message(ended).contains("planned"));
        wait_until(|| there.load(Ordering::SeqCst) == 0);
    }
}
