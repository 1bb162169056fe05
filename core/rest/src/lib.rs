//! The HTTP API of the JobManager, in the shapes of Flink's, and the dashboard page.
//!
//! Owns paths, shapes and status codes. Knows the cluster only through [`ClusterGateway`].

mod gateway;

pub use gateway::*;
