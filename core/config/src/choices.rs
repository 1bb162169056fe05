//! Values of the options for checkpoints and state that are one of a few words.

use crate::ConfigValue;
use crate::value::words;

words! {
    /// What a restore means for records that were on their way.
    CheckpointingMode, "EXACTLY_ONCE or AT_LEAST_ONCE", {
        /// State has each record once.
        ExactlyOnce = "exactly_once" | "exactly-once",
        /// State has each record at least once.
        AtLeastOnce = "at_least_once" | "at-least-once",
    }
}

words! {
    /// What becomes of the last checkpoints of a job that has ended.
    CheckpointRetention, "one of NO_EXTERNALIZED_CHECKPOINTS, DELETE_ON_CANCELLATION, RETAIN_ON_CANCELLATION", {
        /// They are removed.
        No = "no_externalized_checkpoints",
        /// They are removed when the job was canceled, and stay when it failed.
        DeleteOnCancellation = "delete_on_cancellation",
        /// They stay.
        RetainOnCancellation = "retain_on_cancellation",
    }
}

words! {
    /// Where the state of running tasks is.
    StateBackendType, "hashmap or lsm", {
        /// In memory.
        Hashmap = "hashmap",
        /// In files, with what is used in memory.
        Lsm = "lsm",
    }
}

words! {
    /// To whom a checkpoint belongs from which a job is started.
    ClaimMode, "NO_CLAIM or CLAIM", {
        /// To whoever gave it.
        NoClaim = "no_claim",
        /// To the job.
        Claim = "claim",
    }
}

words! {
    /// How the slots of a job are decided.
    SchedulerType, "default or adaptive", {
        /// It has those it asks for.
        Default = "default",
        /// It runs with those there are.
        Adaptive = "adaptive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_flink_in_any_case() {
        assert_eq!(CheckpointingMode::parse("AT_LEAST_ONCE"), Ok(CheckpointingMode::AtLeastOnce));
        let retained = CheckpointRetention::RetainOnCancellation;
        assert_eq!(CheckpointRetention::parse("RETAIN_ON_CANCELLATION"), Ok(retained));
        assert_eq!(CheckpointRetention::parse(&retained.render()), Ok(retained));
        assert_eq!(ClaimMode::parse("Claim"), Ok(ClaimMode::Claim));
        assert_eq!(StateBackendType::parse("lsm"), Ok(StateBackendType::Lsm));
        assert_eq!(SchedulerType::parse("Adaptive"), Ok(SchedulerType::Adaptive));
        assert!(ClaimMode::parse("LEGACY").is_err());
    }
}
