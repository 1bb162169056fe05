//! The ResourceManager as a state machine: owns slots, matches them to jobs, has TaskManagers started and stopped.
//!
//! Pure: event and time in, effects out. JobMasters declare how many slots they need; the ResourceManager gives them free ones,
//! oldest job first, and asks resource providers for the TaskManagers that are missing. It never deploys anything: a slot is a
//! right to do so. The shell (`weir-jobmanager`) turns connections, plugins and timers into [`Event`]s and performs [`Effect`]s.
//!
//! What holds after every event:
//! - a slot belongs to one job or to none;
//! - a job that waits gets all that it cannot do without at once or nothing, so two jobs never wait for each other's half;
//! - whatever was asked of a provider is registered, pending with a deadline, or being stopped.

mod agenda;
mod event;
mod manager;
mod options;
mod plan;
mod slots;
mod waiting;
mod workers;

#[cfg(test)]
mod tests;

pub use event::{Effect, Event};
pub use manager::{ResourceManager, TaskManagerSlots};
pub use options::{ProviderChoice, ResourceManagerOptions, StartFailureRate, WorkerTemplate};
pub use plan::{Plan, Step};
