//! Writers and committers in processes of their own, killed at each step between the first record and the end of a commit.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use weir::sink::{Sink, SinkWriter};

use crate::fixture::Kafka;
use crate::harness::{
    client, committed, committer, example, new_topic, sink, unique, wait_until_settled, writer_context,
};

/// A process that is killed when this is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Process {
        let mut child = Command::new(example("kafka-test-process"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Process { child, input, output }
    }

    fn tell(&mut self) {
        writeln!(self.input).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the process ended without a word");
        line.trim_end().to_owned()
    }

    /// With SIGKILL, and waits for its end.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a process write `numbers` and prepare them, and kills it. Returns the committable as it printed it.
fn prepared(servers: &str, topic: &str, prefix: &str, attempt: &str, numbers: [&str; 2]) -> String {
    let mut writer = Process::start(&["write", servers, topic, prefix, "r", attempt, numbers[0], numbers[1]]);
    assert_eq!(writer.hear(), "written");
    writer.tell();
    let hex = writer.hear().strip_prefix("prepared ").unwrap().to_owned();
    writer.kill();
    hex
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_a_writer_prepared_before_it_was_killed_is_committed_by_others_also_more_than_once() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    let prefix = unique("killed");
    let hex = prepared(kafka.address(), &topic, &prefix, "0", ["0", "100"]);
    assert_eq!(committed(kafka.address(), &topic), [] as [u64; 0]);
    let mut first = Process::start(&["commit", kafka.address(), &topic, &prefix, "r", &hex]);
    first.tell();
    assert_eq!(first.hear(), "committed");
    first.kill();
    // Another process that does not know of it.
    let mut second = Process::start(&["commit", kafka.address(), &topic, &prefix, "later", &hex]);
    second.tell();
    assert_eq!(second.hear(), "committed");
    wait_until_settled(kafka.address(), &topic);
    assert_eq!(committed(kafka.address(), &topic), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_commit_that_was_interrupted_is_completed() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 2);
    let prefix = unique("interrupted");
    let one = prepared(kafka.address(), &topic, &prefix, "0", ["0", "10"]);
    let other = prepared(kafka.address(), &topic, &unique("interrupted"), "0", ["10", "20"]);
    let mut killed = Process::start(&["commit", kafka.address(), &topic, &prefix, "r", &one, &other]);
    killed.tell();
    assert_eq!(killed.hear(), "committed");
    // It is told to commit the other one and killed at once: that may have happened, or not.
    killed.tell();
    killed.kill();
    let sink = sink(kafka.address(), &topic).exactly_once(&prefix);
    committer(&sink, "r2").commit(vec![bytes(&one), bytes(&other)]).unwrap();
    wait_until_settled(kafka.address(), &topic);
    assert_eq!(committed(kafka.address(), &topic), (0..20).collect::<Vec<_>>());
}

#[test]
fn what_a_writer_had_not_prepared_when_it_was_killed_is_aborted_by_the_next_checkpoint_of_its_successor() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let prefix = unique("lingering");
    let large = "60000";
    let mut writer = Process::start(&["write", kafka.address(), &topic, &prefix, "r", "0", "0", large]);
    assert_eq!(writer.hear(), "written");
    writer.kill();
    let lost = prepared(kafka.address(), &topic, &prefix, "1", ["0", "10"]);

    let sink = sink(kafka.address(), &topic).exactly_once(&prefix);
    let mut committer = committer(&sink, "r");
    let mut successor = sink.create_writer(&writer_context("r", 2)).unwrap();
    (0..5).for_each(|number| successor.write(number).unwrap());
    let first = successor.prepare_commit().unwrap();
    successor.write(5).unwrap();
    let second = successor.prepare_commit().unwrap();
    committer.commit(first).unwrap();
    committer.commit(second).unwrap();
    wait_until_settled(kafka.address(), &topic);
    assert_eq!(committed(kafka.address(), &topic), (0..6).collect::<Vec<_>>());
    let open = client(kafka.address()).open_transactions().unwrap();
    assert!(!open.iter().any(|id| id.starts_with(&format!("{prefix}:"))), "{open:?}");
    let error = committer.commit(vec![bytes(&lost)]).unwrap_err().to_string();
    assert!(error.contains("the broker has aborted it"), "{error}");
}

#[test]
fn a_run_that_is_given_up_leaves_nothing_open_and_nothing_visible() {
    let kafka = Kafka::get();
    let topic = new_topic(kafka.address(), 1);
    let prefix = unique("given-up");
    prepared(kafka.address(), &topic, &prefix, "0", ["0", "10"]);
    prepared(kafka.address(), &topic, &prefix, "1", ["0", "10"]);
    committer(&sink(kafka.address(), &topic).exactly_once(&prefix), "r").abort();
    wait_until_settled(kafka.address(), &topic);
    assert_eq!(committed(kafka.address(), &topic), [] as [u64; 0]);
}
