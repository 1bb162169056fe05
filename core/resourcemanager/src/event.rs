//! What can happen to the ResourceManager, and what it wants to have done.

use std::time::Duration;

use weir_model::{FromResourceManager, JobId, TaskManagerId, TaskManagerInfo, ToResourceManager};
use weir_provider_api::{Description, FinalStatus, ProviderEvent, ProviderRequest};

use crate::Plan;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A provider among [`ResourceManagerOptions::providers`](crate::ResourceManagerOptions) is open; it is asked for the workers
    /// it already has.
    ProviderOpened {
        /// Its name.
        name: String,
        /// What it says of itself.
        description: Description,
    },
    /// A provider could not be loaded or opened, or its plugin broke: nothing more will come from it.
    ProviderUnusable {
        /// Its name.
        name: String,
        /// What is known, for people.
        reason: String,
    },
    /// A provider told something.
    Provider {
        /// Its name.
        name: String,
        /// What it told.
        event: ProviderEvent,
    },
    /// A TaskManager has registered; its slots are free. If one of this name is registered already, that one is lost: the shell
    /// closes the older connection and does not report it.
    TaskManagerRegistered(TaskManagerInfo),
    /// The connection of a registered TaskManager has ended.
    TaskManagerLost {
        /// Which one.
        id: TaskManagerId,
        /// Its process: an older one of the same name may still be on its way out.
        incarnation: u64,
        /// What is known, for people.
        reason: String,
    },
    /// A JobMaster told something.
    Job(ToResourceManager),
    /// A JobMaster has ended without giving back its slots.
    JobGone {
        /// Its job.
        job: JobId,
    },
    /// A timer asked for by [`Effect::ScheduleTimer`] is due.
    Timer {
        /// The timer's id.
        id: u64,
    },
    /// The JobManager is about to end: providers are told, nothing is started any more.
    ShutDown {
        /// Whether the TaskManagers that providers started are to be stopped, or left for another JobManager.
        stop_workers: bool,
        /// How the cluster ended.
        status: FinalStatus,
        /// For people.
        message: String,
    },
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a JobMaster.
    TellJob {
        /// Its job.
        job: JobId,
        /// What.
        message: FromResourceManager,
    },
    /// Ask a provider.
    Provider {
        /// Its name.
        name: String,
        /// For what.
        request: ProviderRequest,
    },
    /// Tell a connected TaskManager to end its process. It is not registered any more; that its connection ends need not be
    /// reported.
    ShutDownTaskManager {
        /// Which one.
        id: TaskManagerId,
        /// Its process.
        incarnation: u64,
        /// Why, for the log of the TaskManager.
        reason: String,
    },
    /// Close the connection of a TaskManager that counts as lost. Need not be reported.
    Disconnect {
        /// Which one.
        id: TaskManagerId,
        /// Its process.
        incarnation: u64,
        /// Why.
        reason: String,
    },
    /// Send [`Event::Timer`] with this id when the clock shows `at`. Earlier timers no longer matter.
    ScheduleTimer {
        /// To be given back.
        id: u64,
        /// On the clock whose time `on_event` is given.
        at: Duration,
    },
    /// TaskManagers are started or given up; the requests follow. Nothing to do but to log it.
    Planned(Plan),
}
