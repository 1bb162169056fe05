//! All rows are in memory.

use super::*;

const CASES: u32 = 300;

fn over<K>(declared: Declared, groups: KeyGroups, subtask: u32) -> KeyedStates<K> {
    KeyedStates::over(declared, groups, groups.range_of(subtask))
}

#[path = "suite.rs"]
mod suite;
