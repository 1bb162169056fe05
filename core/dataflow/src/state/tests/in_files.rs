//! Hardly any row is in memory.

use super::*;

/// Each of them writes files.
const CASES: u32 = 40;

fn over<K: Record + Eq + std::hash::Hash>(declared: Declared, groups: KeyGroups, subtask: u32) -> KeyedStates<K> {
    with_memory(1024, declared, groups, subtask)
}

#[expect(clippy::duplicate_mod, reason = "both backends pass the same tests")]
#[path = "suite.rs"]
mod suite;
