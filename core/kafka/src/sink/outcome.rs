//! Pure decisions of the committer: what became of a transaction, and which ones nobody will ever commit.

use std::collections::{BTreeMap, BTreeSet};

use super::committable::{KafkaCommittable, Prepared};
use super::transactional_id::TransactionName;
use crate::client::TransactionState;

/// What became of a transaction that the coordinator did not want to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It had been committed before.
    Committed,
    /// It was aborted.
    Aborted(String),
    /// Nobody knows any more.
    Forgotten,
    /// Neither.
    Unclear(String),
}

/// Reads what the coordinator has of a transactional id.
///
/// A writer takes an id again only after a commit, which raises the epoch by one. Broker and committer abort what is open, which raises
/// it by one too but leaves the id in an aborted state, and then nobody takes it again.
pub(super) fn outcome(prepared: &Prepared, found: Option<&TransactionState>) -> Outcome {
    let Some(found) = found else { return Outcome::Forgotten };
    if found.producer.id != prepared.producer || found.producer.epoch < prepared.epoch {
        return Outcome::Forgotten;
    }
    let state = found.state.as_str();
    let aborted = matches!(state, "PrepareAbort" | "CompleteAbort" | "PrepareEpochFence" | "Dead");
    match found.producer.epoch - prepared.epoch {
        0 if matches!(state, "CompleteCommit" | "PrepareCommit") => Outcome::Committed,
        0 | 1 if aborted => Outcome::Aborted(format!(
            "the broker has aborted it (its state is {state}), because it was open for too long or somebody took its id"
        )),
        0 => Outcome::Unclear(format!("the broker says that its state is {state}")),
        _ => Outcome::Committed,
    }
}

/// Of the open transactions, those of writers that are gone, which no later commit can concern: `committed` is a whole checkpoint, so all that
/// attempts before those in it have left open is lost.
pub(super) fn abandoned(open: &[String], prefix: &str, run: &str, committed: &[KafkaCommittable]) -> Vec<String> {
    let of_run = || committed.iter().filter(|one| one.run == run);
    let Some(newest) = of_run().max_by_key(|one| one.attempt) else {
        // Transactions of an earlier run were committed; its successors have completed nothing yet.
        return Vec::new();
    };
    let attempts: BTreeMap<u32, u32> = of_run().map(|one| (one.subtask, one.attempt)).collect();
    let just_committed: BTreeSet<&str> =
        committed.iter().filter_map(|one| Some(one.transaction.as_ref()?.id.as_str())).collect();
    let is_abandoned = |name: &TransactionName| {
        if name.prefix != prefix {
            return false;
        }
        if name.run != run {
            return true;
        }
        match attempts.get(&name.subtask) {
            Some(attempt) => name.attempt < *attempt,
            // There are fewer subtasks now.
            None => name.subtask >= newest.parallelism && name.attempt < newest.attempt,
        }
    };
    let abandoned = open.iter().filter(|id| !just_committed.contains(id.as_str()));
    abandoned.filter(|id| TransactionName::parse(id).is_some_and(|name| is_abandoned(&name))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ProducerIdentity;

    fn prepared() -> Prepared {
        Prepared { id: "t".to_owned(), producer: 7, epoch: 2 }
    }

    fn check(id: i64, epoch: i16, state: &str, expect: fn(&Outcome) -> bool) {
        let found = TransactionState { state: state.to_owned(), producer: ProducerIdentity { id, epoch } };
        let found = outcome(&prepared(), Some(&found));
        assert!(expect(&found), "producer {id}, epoch {epoch}, {state}: {found:?}");
    }

    #[test]
    fn a_transaction_is_committed_if_it_says_so_or_its_id_is_in_use_again() {
        let committed = |found: &Outcome| *found == Outcome::Committed;
        check(7, 2, "CompleteCommit", committed);
        check(7, 2, "PrepareCommit", committed);
        for state in ["Empty", "Ongoing", "PrepareCommit", "CompleteCommit"] {
            check(7, 3, state, committed);
        }
        check(7, 5, "CompleteAbort", committed);
    }

    #[test]
    fn a_transaction_that_the_broker_ended_is_aborted() {
        let aborted = |found: &Outcome| matches!(found, Outcome::Aborted(_));
        check(7, 2, "CompleteAbort", aborted);
        for state in ["PrepareEpochFence", "PrepareAbort", "CompleteAbort"] {
            check(7, 3, state, aborted);
        }
    }

    #[test]
    fn another_producer_or_none_is_no_evidence() {
        assert_eq!(outcome(&prepared(), None), Outcome::Forgotten);
        check(8, 2, "CompleteCommit", |found| *found == Outcome::Forgotten);
        check(7, 1, "CompleteCommit", |found| *found == Outcome::Forgotten);
        check(7, 2, "Empty", |found| matches!(found, Outcome::Unclear(_)));
    }

    fn committable(run: &str, subtask: u32, attempt: u32, id: Option<&str>) -> KafkaCommittable {
        let transaction = id.map(|id| Prepared { id: id.to_owned(), producer: 1, epoch: 0 });
        KafkaCommittable { run: run.to_owned(), subtask, parallelism: 2, attempt, transaction }
    }

    fn check_abandoned(open: &[&str], committed: &[KafkaCommittable], expect: &[&str]) {
        let open: Vec<String> = open.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(abandoned(&open, "p", "r", committed), expect);
    }

    #[test]
    fn what_earlier_attempts_left_open_is_abandoned_and_what_this_one_has_is_not() {
        let committed = [committable("r", 0, 1, Some("p:r:0:1:0")), committable("r", 1, 0, None)];
        let open = ["p:r:0:0:3", "p:r:0:1:0", "p:r:0:1:1", "p:r:0:2:0", "p:r:1:0:4"];
        check_abandoned(&open, &committed, &["p:r:0:0:3"]);
    }

    #[test]
    fn what_subtasks_that_are_no_more_left_open_is_abandoned() {
        let committed = [committable("r", 0, 1, None), committable("r", 1, 1, None)];
        check_abandoned(&["p:r:2:0:0", "p:r:2:1:0"], &committed, &["p:r:2:0:0"]);
    }

    #[test]
    fn what_earlier_runs_left_open_is_abandoned_once_this_one_has_completed_something() {
        let restored = [committable("old", 0, 4, Some("p:old:0:4:1"))];
        check_abandoned(&["p:old:0:4:2", "p:r:0:0:0"], &restored, &[]);
        check_abandoned(&["p:old:0:4:2", "p:r:0:0:0"], &[committable("r", 0, 0, None)], &["p:old:0:4:2"]);
    }

    #[test]
    fn transactions_of_others_are_left_alone() {
        let committed = [committable("r", 0, 5, None)];
        check_abandoned(&["px:r:0:0:0", "q:old:0:0:0", "p", "connect-1", "p:r:0:0"], &committed, &[]);
    }
}
