//! Drives a ResourceManager and keeps what it says.

use std::time::Duration;

use weir_model::{
    FromResourceManager, JobId, SlotGrant, SlotId, SlotWait, TaskManagerId, TaskManagerInfo, ToResourceManager,
};
use weir_provider_api::{Capability, Description, ProviderEvent, ProviderRequest};

use crate::{Effect, Event, ProviderChoice, ResourceManager, ResourceManagerOptions, WorkerTemplate};

pub(super) struct Cluster {
    pub(super) manager: ResourceManager,
    pub(super) now: Duration,
    pub(super) timer: Option<(u64, Duration)>,
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn job(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

pub(super) fn tm(name: &str) -> TaskManagerId {
    TaskManagerId::new(name)
}

/// Two slots a worker and these providers.
pub(super) fn options(providers: &[&str]) -> ResourceManagerOptions {
    let choice = |name: &&str| ProviderChoice { name: (*name).to_owned(), min_workers: 0 };
    ResourceManagerOptions {
        template: WorkerTemplate {
            command: vec!["weir".to_owned(), "--id={id}".to_owned()],
            slots: 2,
            ..WorkerTemplate::default()
        },
        providers: providers.iter().map(choice).collect(),
        epoch: 0x1f,
        ..ResourceManagerOptions::default()
    }
}

impl Cluster {
    pub(super) fn new(options: ResourceManagerOptions) -> Self {
        Self { manager: ResourceManager::new(options), now: seconds(1000), timer: None }
    }

    /// With these providers open, none of which recovers anything.
    pub(super) fn with(options: ResourceManagerOptions) -> Self {
        let names: Vec<_> = options.providers.iter().map(|choice| choice.name.clone()).collect();
        let mut cluster = Self::new(options);
        for name in names {
            cluster.event(Event::ProviderOpened { name, description: Description::default() });
        }
        cluster
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.manager.on_event(event, self.now);
        for effect in &effects {
            if let Effect::ScheduleTimer { id, at } = effect {
                self.timer = Some((*id, *at));
            }
        }
        effects
    }

    /// Lets time go on; what happens meanwhile.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Effect> {
        let end = self.now + time;
        let mut effects = Vec::new();
        while let Some((id, at)) = self.timer.filter(|(_, at)| *at <= end) {
            self.timer = None;
            self.now = self.now.max(at);
            effects.extend(self.event(Event::Timer { id }));
        }
        self.now = end;
        effects
    }

    pub(super) fn open(&mut self, name: &str, capabilities: &[Capability]) -> Vec<Effect> {
        let description = Description { capabilities: capabilities.to_vec(), ..Description::default() };
        self.event(Event::ProviderOpened { name: name.to_owned(), description })
    }

    pub(super) fn register(&mut self, id: &str, slots: u32) -> Vec<Effect> {
        self.event(Event::TaskManagerRegistered(info(id, 1, slots)))
    }

    pub(super) fn lose(&mut self, id: &str) -> Vec<Effect> {
        self.event(Event::TaskManagerLost { id: tm(id), incarnation: 1, reason: "closed".to_owned() })
    }

    pub(super) fn need(&mut self, number: u8, slots: u32) -> Vec<Effect> {
        self.could_use(number, slots, slots)
    }

    /// A job can do with `at_least`.
    pub(super) fn could_use(&mut self, number: u8, slots: u32, at_least: u32) -> Vec<Effect> {
        let (job, name) = (job(number), format!("job {number}"));
        self.event(Event::Job(ToResourceManager::DeclareRequirements { job, name, slots, at_least }))
    }

    pub(super) fn release(&mut self, number: u8, slots: &[(&str, u32)]) -> Vec<Effect> {
        let slot = |(id, index): &(&str, u32)| SlotId { task_manager: tm(id), index: *index };
        let slots = slots.iter().map(slot).collect();
        self.event(Event::Job(ToResourceManager::ReleaseSlots { job: job(number), slots }))
    }

    pub(super) fn provider(&mut self, name: &str, event: ProviderEvent) -> Vec<Effect> {
        self.event(Event::Provider { name: name.to_owned(), event })
    }

    pub(super) fn terminated(&mut self, name: &str, id: &str, retryable: bool) -> Vec<Effect> {
        let reason = "exit code 1".to_owned();
        self.provider(name, ProviderEvent::Terminated { id: tm(id), reason, retryable })
    }
}

pub(super) fn info(id: &str, incarnation: u64, slots: u32) -> TaskManagerInfo {
    TaskManagerInfo {
        id: tm(id),
        incarnation,
        slots,
        host: format!("host-of-{id}"),
        metrics_port: 0,
        pid: 1,
        memory: 0,
        cpu_cores: 1,
        physical_memory: 0,
        version: String::new(),
    }
}

/// The slots given to a job, as `name/index`.
pub(super) fn granted(effects: &[Effect], number: u8) -> Vec<String> {
    let grants = effects.iter().filter_map(|effect| match effect {
        Effect::TellJob { job: to, message: FromResourceManager::SlotsGranted(grants) } if *to == job(number) => {
            Some(grants)
        }
        _ => None,
    });
    grants.flatten().map(|SlotGrant { slot, .. }| format!("{}/{}", slot.task_manager, slot.index)).collect()
}

/// What a job was last told about its wait.
pub(super) fn wait_of(effects: &[Effect], number: u8) -> Option<SlotWait> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::TellJob { job: to, message: FromResourceManager::Waiting(wait) } if *to == job(number) => {
            Some(wait.clone())
        }
        _ => None,
    })
}

/// The jobs that are told that a TaskManager is lost.
pub(super) fn losses(effects: &[Effect], id: &str) -> Vec<JobId> {
    let lost = effects.iter().filter_map(|effect| match effect {
        Effect::TellJob { job, message: FromResourceManager::TaskManagerLost { id: lost, .. } } if *lost == tm(id) => {
            Some(*job)
        }
        _ => None,
    });
    lost.collect()
}

/// Requests as text: `start yarn-1f-1`, `stop …`, `demand yarn 3`.
pub(super) fn requests(effects: &[Effect]) -> Vec<String> {
    let text = |effect: &Effect| match effect {
        Effect::Provider { name, request } => Some(match request {
            ProviderRequest::StartWorker(spec) => format!("start {}", spec.id),
            ProviderRequest::StopWorker(id) => format!("stop {id}"),
            ProviderRequest::RecoverWorkers => format!("recover {name}"),
            ProviderRequest::DeclareDemand { workers } => format!("demand {name} {workers}"),
            ProviderRequest::Shutdown { stop_workers, .. } => format!("shutdown {name} {stop_workers}"),
        }),
        _ => None,
    };
    effects.iter().filter_map(text).collect()
}

/// The TaskManagers that are told to end.
pub(super) fn shut_down(effects: &[Effect]) -> Vec<String> {
    let text = |effect: &Effect| match effect {
        Effect::ShutDownTaskManager { id, .. } => Some(id.to_string()),
        _ => None,
    };
    effects.iter().filter_map(text).collect()
}
