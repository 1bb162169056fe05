//! The task runtime inside a worker process: records, channels, input gates, fused operators, sources and sinks, state, the network.
//!
//! Owns everything between "run these subtasks" and "they finished": one thread per task, hand-over of batches between
//! them, flow control, failure capture, metrics cells. Never decides *what* runs where (that is `weir-scheduler`), never
//! talks to users or to storage services. The SDK builds chains out of the pieces here; drivers (embedded or
//! TaskManager) start a [`worker::Worker`] and listen to its events.

pub mod channel;
pub mod declaration;
pub mod element;
pub mod exchange;
pub mod fabric;
pub mod failure;
pub mod gate;
pub mod head;
mod in_flight;
pub mod metrics;
pub mod net;
pub mod operator;
pub mod operators;
pub mod plan;
pub mod process;
pub mod record;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod storage;
pub mod task;
pub mod worker;
