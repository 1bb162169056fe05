//! The TaskManager: owns slots, starts and supervises one worker process a deployment, and tells the JobManager what becomes of them.
//!
//! [`TaskManagerState`](state::TaskManagerState) decides, purely; the shell around it dials the JobManager, fetches artifacts,
//! starts processes, stores their snapshots and moves bytes. User code never runs in this process. Knows nothing of what jobs compute: what JobMaster and
//! workers tell each other about splits and plans is passed on as bytes.

mod answer;
mod artifacts;
mod connection;
mod event_loop;
mod metrics_endpoint;
mod options;
mod own_folder;
mod processes;
mod stacks;
pub mod state;
mod storage;
mod task_manager;
mod worker;

pub use options::{TaskManagerError, TaskManagerOptions, Token, random_id};
pub use task_manager::TaskManager;
