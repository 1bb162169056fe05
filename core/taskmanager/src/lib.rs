//! The TaskManager: owns slots, starts and supervises one worker process a deployment, and tells the JobManager what becomes of them.
//!
//! User code never runs in this process.
