//! Tasks that wait for their consumers and for their input in turn.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use weir::prelude::*;

/// A slow consumer behind a busy middle behind a steady source: the middle's flush waits for the consumer while its input fills.
#[test]
fn input_that_arrives_while_a_flush_waits_is_not_forgotten() {
    const RECORDS: u64 = 400;
    let (done, ended) = channel();
    thread::spawn(move || {
        let (sink, results) = CollectSink::new();
        let result = weir::run::in_process("slow-consumer", |env| {
            env.set_parallelism(1);
            env.source(GeneratorSource::new(|n| n).records(RECORDS).rate(4000.0))
                .disable_chaining()
                .map(|n| n + 1)
                .disable_chaining()
                .inspect(|_| thread::sleep(Duration::from_millis(1)))
                .sink(sink);
            Ok(())
        });
        let _ = done.send(result.map(|()| results.take_sorted()));
    });
    let results = ended.recv_timeout(Duration::from_secs(60)).expect("the job hangs").expect("the job fails");
    assert_eq!(results, (1..=RECORDS).collect::<Vec<_>>());
}
