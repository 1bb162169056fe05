//! The Dispatcher as a state machine: accepts jobs, has a JobMaster started for each, remembers the ended ones.
//!
//! Pure: event and time in, effects out. A job is accepted once its record is kept where a restarted JobManager finds it. The
//! record is forgotten when the job has ended; its last view is kept for a while, so that people can look at it. What happens
//! to a running job is its JobMaster's business.

mod archive;
mod event;
mod machine;
#[cfg(test)]
mod tests;

pub use event::{Effect, Event, JobRecord, SubmitError};
pub use machine::{Dispatcher, DispatcherOptions};
