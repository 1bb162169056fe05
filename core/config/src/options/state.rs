//! Options of state, and of where it comes from.

use crate::{ByteSize, ClaimMode, ConfigOption, List, StateBackendType};

/// `state.backend.type`: where the state of running tasks is.
pub static STATE_BACKEND: ConfigOption<StateBackendType> = ConfigOption::new(
    "state.backend.type",
    "hashmap",
    "Where the state of running tasks is. `hashmap`: in memory, the fastest. `lsm`: state by key in files beside the worker, with the rows in use in \
     memory, for state that is larger than memory; windows, timers and state that is not by key stay in memory.",
)
.with_fallback_keys(&["state.backend"]);

/// `state.backend.lsm.memory.size`: memory for state that is in files.
pub static LSM_MEMORY: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.lsm.memory.size",
    "128mb",
    "With `state.backend.type: lsm`: about how much memory each subtask of an operator with state by key takes for it. A half is for the rows in \
     use, the other for what is on its way to files and for parts of them.",
)
.in_range(|size| if size.0 >= 1 << 20 { Ok(()) } else { Err("it is below 1mb".to_owned()) });

/// `execution.state-recovery.path`: what a job starts from.
pub static RECOVERY_PATH: ConfigOption<Option<String>> = ConfigOption::optional(
    "execution.state-recovery.path",
    "Savepoint or checkpoint that the job starts from: its folder or the `_metadata` in it. `-s` is short for it.",
)
.with_fallback_keys(&["execution.savepoint.path"]);

/// `execution.state-recovery.claim-mode`: to whom it belongs.
pub static RECOVERY_CLAIM_MODE: ConfigOption<ClaimMode> = ConfigOption::new(
    "execution.state-recovery.claim-mode",
    "NO_CLAIM",
    "To whom the checkpoint belongs that the job starts from. `NO_CLAIM`: it is left alone, and no later one needs its files. `CLAIM`: it is \
     the job's, and removed when newer ones replace it.",
)
.with_fallback_keys(&["execution.savepoint-restore-mode"]);

/// `execution.state-recovery.ignore-unclaimed-state`: whether state may be left behind.
pub static RECOVERY_IGNORE_UNCLAIMED: ConfigOption<bool> = ConfigOption::new(
    "execution.state-recovery.ignore-unclaimed-state",
    "false",
    "Whether the job may start from a checkpoint that has state of operators which the job has not; that state is left behind. \
     `--allowNonRestoredState` is short for it.",
)
.with_fallback_keys(&["execution.savepoint.ignore-unclaimed-state"]);

/// `taskmanager.state.local.root-dirs`: folders for local state.
pub static LOCAL_STATE_DIRS: ConfigOption<Option<List>> = ConfigOption::optional(
    "taskmanager.state.local.root-dirs",
    "Folders of the TaskManager for state in files and for copies of checkpoints. When it is not set, a folder in that of the TaskManager.",
)
.cluster();
