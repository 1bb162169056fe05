//! Names of transactions: whoever finds an open one can tell from its name whose it was.

use std::fmt;

/// Between the parts of an id. Prefixes and run ids have none.
const SEPARATOR: char = ':';

/// The transactional id of one of a writer's transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TransactionName {
    /// What the job's author chose.
    pub(super) prefix: String,
    /// The run of the job.
    pub(super) run: String,
    pub(super) subtask: u32,
    pub(super) attempt: u32,
    /// Number among those of this writer.
    pub(super) number: u32,
}

impl TransactionName {
    /// Takes an id apart; `None` for one that was not made here.
    pub(super) fn parse(id: &str) -> Option<TransactionName> {
        let parts: Vec<&str> = id.split(SEPARATOR).collect();
        let [prefix, run, subtask, attempt, number] = parts[..] else { return None };
        Some(TransactionName {
            prefix: prefix.to_owned(),
            run: run.to_owned(),
            subtask: subtask.parse().ok()?,
            attempt: attempt.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for TransactionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TransactionName { prefix, run, subtask, attempt, number } = self;
        write!(f, "{prefix}:{run}:{subtask}:{attempt}:{number}")
    }
}

/// A run's id as a part of names.
pub(super) fn run_part(run_id: &str) -> String {
    run_id.replace(SEPARATOR, "-")
}

/// Whether a prefix can be used, and if not, why.
pub(super) fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.is_empty() || prefix.contains(SEPARATOR) {
        return Err(format!(
            "the prefix of transactional ids is {prefix:?}; expected is a name that is not empty and has no {SEPARATOR:?}, and that no other sink uses in this cluster"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_taken_apart_again() {
        let name = TransactionName {
            prefix: "orders-1".to_owned(),
            run: run_part("2026:run/7"),
            subtask: 3,
            attempt: 2,
            number: 17,
        };
        assert_eq!(name.to_string(), "orders-1:2026-run/7:3:2:17");
        assert_eq!(TransactionName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn ids_of_others_are_not_mistaken_for_ours() {
        for id in ["orders", "orders-0-1", "a:b:c:d:e", "a:b:1:2", "a:b:1:2:3:4", ""] {
            assert_eq!(TransactionName::parse(id), None, "{id}");
        }
    }

    #[test]
    fn a_prefix_that_would_be_ambiguous_is_refused() {
        assert!(check_prefix("orders").is_ok());
        assert!(check_prefix("").is_err());
        assert!(check_prefix("a:b").unwrap_err().contains("no ':'"));
    }
}
