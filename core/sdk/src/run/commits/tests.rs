use std::sync::mpsc::sync_channel;

use weir_dataflow::sink::ErasedSink;

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

/// A sink whose committers say what they are told.
struct Recording(Log);

struct RecordingCommitter {
    run_id: String,
    log: Log,
}

impl ErasedSink for Recording {
    fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
        if context.run_id == "unknown" {
            return Err(SinkError::new("no such run"));
        }
        Ok(Some(Box::new(RecordingCommitter { run_id: context.run_id.clone(), log: self.0.clone() })))
    }
}

impl Committer for RecordingCommitter {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError> {
        lock(&self.log).push(format!("{} commits {committables:?}", self.run_id));
        if committables.contains(&vec![13]) { Err(SinkError::new("bad luck")) } else { Ok(()) }
    }

    fn abort(&mut self) {
        lock(&self.log).push(format!("{} aborts", self.run_id));
        assert!(self.run_id != "cursed", "no way back");
    }
}

fn sinks(log: &Log) -> Sinks {
    [(3, Box::new(Recording(log.clone())) as Box<dyn ErasedSink>)].into()
}

fn committable(payload: u8) -> Committable {
    Committable { node: 3, payload: vec![payload] }
}

fn restored(payload: u8) -> Restored {
    Restored { checkpoint: 7, enumerators: BTreeMap::new(), committables: vec![committable(payload)] }
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *lock(log))
}

#[test]
fn what_lost_runs_wrote_aside_is_discarded_whatever_becomes_of_the_others() {
    let log = Log::default();
    let lost = ["unknown", "cursed", "first"].map(str::to_owned);
    let commits = Commits::default();
    commits.open(&sinks(&log), "second", &lost, None).unwrap();
    assert_eq!(taken(&log), ["cursed aborts", "first aborts"]);
    commits.commit_last(&[]).unwrap();
    commits.discard();
    assert_eq!(taken(&log), ["second commits []"]);
}

#[test]
fn what_a_checkpoint_left_is_committed_before_anything_is_discarded() {
    let log = Log::default();
    let commits = Commits::default();
    commits.open(&sinks(&log), "second", &["first".to_owned()], Some(&restored(1))).unwrap();
    assert_eq!(taken(&log), ["first commits [[1]]", "first aborts", "second commits [[1]]"]);
}

#[test]
fn a_run_that_cannot_be_committed_is_left_as_it_is() {
    let log = Log::default();
    let commits = Commits::default();
    let error = commits.open(&sinks(&log), "second", &["first".to_owned()], Some(&restored(13))).unwrap_err();
    assert!(error.to_string().contains("bad luck"), "{error}");
    assert_eq!(taken(&log), ["first commits [[13]]"]);
}

#[test]
fn checkpoints_are_committed_in_order_and_the_rest_at_the_end() {
    let log = Log::default();
    let commits = Commits::default();
    commits.open(&sinks(&log), "run", &[], None).unwrap();
    let orders = commits.serve().unwrap();
    let (sender, done) = sync_channel(3);
    for (checkpoint, payload) in [(Some(1), 1), (Some(2), 2), (None, 3)] {
        let sender = sender.clone();
        orders.commit(checkpoint, vec![committable(payload)], move |result| sender.send(result).unwrap());
    }
    for _ in 0..3 {
        done.recv().unwrap().unwrap();
    }
    // As after a lost answer.
    orders.commit(None, vec![committable(3)], move |result| sender.send(result).unwrap());
    done.recv().unwrap().unwrap();
    assert_eq!(taken(&log), ["run commits [[1]]", "run commits [[2]]", "run commits [[3]]"]);
}

#[test]
fn output_of_complete_checkpoints_is_committed_before_the_rest_is_discarded() {
    let log = Log::default();
    let commits = Commits::default();
    commits.open(&sinks(&log), "run", &[], None).unwrap();
    commits.owe(1, &[committable(1)]);
    commits.discard();
    assert_eq!(taken(&log), ["run commits [[1]]", "run aborts"]);
}

#[test]
fn output_of_a_complete_checkpoint_that_cannot_be_committed_stays_where_it_is() {
    let log = Log::default();
    let commits = Commits::default();
    commits.open(&sinks(&log), "run", &[], None).unwrap();
    commits.owe(1, &[committable(13)]);
    let failure = commits.commit(1, &[committable(13)]).unwrap_err();
    assert!(failure.to_string().contains("bad luck"), "{failure}");
    commits.discard();
    assert_eq!(taken(&log), ["run commits [[13]]", "run commits [[13]]"]);
}

#[test]
fn whoever_may_have_checkpoints_leaves_what_was_written_aside() {
    let log = Log::default();
    let commits = Commits::default();
    commits.open(&sinks(&log), "run", &[], None).unwrap();
    commits.keep();
    commits.discard_unless_kept(Duration::ZERO);
    assert_eq!(taken(&log), [""; 0]);
    let commits = Commits::default();
    commits.open(&sinks(&log), "run", &[], None).unwrap();
    commits.discard_unless_kept(Duration::ZERO);
    assert_eq!(taken(&log), ["run aborts"]);
}
