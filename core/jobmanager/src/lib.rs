//! The JobManager process: runs Dispatcher, ResourceManager and JobMasters, each in an event loop of its own, and connects them with
//! TaskManagers, provider plugins and REST.
//!
//! User code never runs in this process.
