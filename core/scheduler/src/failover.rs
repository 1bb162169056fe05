//! Which tasks are started again together.

/// Which tasks a failure takes along (`jobmanager.execution.failover-strategy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailoverStrategy {
    /// Those connected with the failed ones, directly or not; others go on.
    #[default]
    Region,
    /// All.
    Full,
}
