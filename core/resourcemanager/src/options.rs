//! What can be chosen about the ResourceManager.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_provider_api::{ResourceProfile, WorkerFile};

/// What can be chosen about the ResourceManager. Comments name the options behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceManagerOptions {
    /// How a provider starts a TaskManager.
    pub template: WorkerTemplate,
    /// Providers in the order in which they are used: the next one only for what those before cannot give
    /// (`resourcemanager.providers`).
    pub providers: Vec<ProviderChoice>,
    /// The most slots of TaskManagers there may be by the doing of providers; `None` is no limit
    /// (`slotmanager.number-of-slots.max`).
    pub max_slots: Option<u32>,
    /// TaskManagers' worth of slots kept free while a job runs, so that one may be lost (`slotmanager.redundant-taskmanager-num`).
    pub redundant: u32,
    /// How long a provider's TaskManager may be without a job before it is stopped (`resourcemanager.taskmanager-timeout`).
    pub idle_timeout: Duration,
    /// How long a TaskManager may take from each sign of life of its provider to the next, and to register
    /// (`resourcemanager.taskmanager-registration.timeout`).
    pub registration_timeout: Duration,
    /// How long a TaskManager whose connection broke is expected back before it is stopped.
    pub reconnect_timeout: Duration,
    /// How many failed starts a provider is allowed before it has to rest (`resourcemanager.start-worker.max-failure-rate`, per
    /// minute).
    pub start_failure_rate: StartFailureRate,
    /// How long a provider rests that fails too often (`resourcemanager.start-worker.retry-interval`).
    pub start_retry_interval: Duration,
    /// Whether jobs are spread over all TaskManagers rather than put onto few (`taskmanager.load-balance.mode`).
    pub spread: bool,
    /// Makes names of TaskManagers unique in time: greater than that of any JobManager before, e.g. the leader's epoch.
    pub epoch: u64,
}

/// How TaskManagers are started: the same for all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkerTemplate {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// What one needs of a machine.
    pub resources: ResourceProfile,
    /// Slots of one; at least 1 (`taskmanager.numberOfTaskSlots`).
    pub slots: u32,
    /// Files it needs.
    pub files: Vec<WorkerFile>,
}

/// A provider that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderChoice {
    /// Its name.
    pub name: String,
    /// TaskManagers it is to have even when no job needs them.
    pub min_workers: u32,
}

/// So many failures in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartFailureRate {
    /// Number of failures.
    pub failures: u32,
    /// In this time.
    pub interval: Duration,
}

impl Default for ResourceManagerOptions {
    fn default() -> Self {
        Self {
            template: WorkerTemplate { slots: 1, ..WorkerTemplate::default() },
            providers: Vec::new(),
            max_slots: None,
            redundant: 0,
            idle_timeout: Duration::from_secs(30),
            registration_timeout: Duration::from_secs(5 * 60),
            reconnect_timeout: Duration::from_secs(5),
            start_failure_rate: StartFailureRate { failures: 10, interval: Duration::from_secs(60) },
            start_retry_interval: Duration::from_secs(3),
            spread: true,
            epoch: 0,
        }
    }
}
