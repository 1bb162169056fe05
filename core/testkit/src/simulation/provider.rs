//! A model of a resource provider: its plugin in the JobManager, and what it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_model::TaskManagerId;
use weir_provider_api::{Capability, Description, ProviderEvent, ProviderRequest, RecoveredWorker};

use super::scenario::ProviderScenario;
use super::task_manager::TaskManagerProcess;
use super::{ForJm, Happening, World};

pub(crate) struct SimulatedProvider {
    pub(crate) scenario: ProviderScenario,
    /// The JobManager whose plugin it is; `None` if the plugin broke.
    plugin: Option<u32>,
    /// When the plugin's last event arrives.
    last: Duration,
    /// Whether the plugin broke at some time, and may have left things behind.
    pub(crate) workers: BTreeMap<TaskManagerId, Worker>,
}

/// Something that was asked for and is not known to be gone.
#[derive(Debug)]
pub(crate) struct Worker {
    slots: u32,
    /// Its process, once it was started.
    pub(crate) process: Option<usize>,
    /// Whether the plugin knows of it: a new one finds only what it can recover.
    known: bool,
}

#[derive(Debug)]
pub(crate) enum Step {
    Request {
        job_manager: u32,
        request: ProviderRequest,
    },
    Launch(TaskManagerId),
    /// A start fails.
    Fail {
        id: TaskManagerId,
        retryable: bool,
    },
    Stop(TaskManagerId),
    /// A worker's end is noticed.
    Notice {
        id: TaskManagerId,
        reason: String,
    },
}

impl SimulatedProvider {
    pub(crate) fn new(scenario: &ProviderScenario) -> Self {
        Self { scenario: scenario.clone(), plugin: None, last: Duration::ZERO, workers: BTreeMap::new() }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.plugin.is_none()
    }
}

impl World {
    /// The plugin is loaded into the JobManager that has just started.
    pub(crate) fn open_provider(&mut self, index: usize) -> Description {
        let life = self.job_manager.life;
        let provider = &mut self.providers[index];
        provider.plugin = Some(life);
        // What had not been started ends with the former JobManager.
        provider.workers.retain(|_, worker| worker.process.is_some());
        for worker in provider.workers.values_mut() {
            worker.known = false;
        }
        let mut capabilities = vec![Capability::Demand, Capability::Draining, Capability::Capacity];
        if provider.scenario.recovers {
            capabilities.push(Capability::Recover);
        }
        Description { name: provider.scenario.name.clone(), capabilities, ..Description::default() }
    }

    fn provider_event(&mut self, index: usize, event: ProviderEvent, delay: Duration) {
        let provider = &mut self.providers[index];
        let Some(life) = provider.plugin else { return };
        let at = (self.now + delay).max(provider.last + Duration::from_nanos(1));
        provider.last = at;
        self.at(at, Happening::JobManager { life, what: ForJm::Provider { index, event } });
    }

    pub(crate) fn happen_in_provider(&mut self, index: usize, step: Step) {
        match step {
            Step::Request { job_manager, request } => {
                if self.providers[index].plugin == Some(job_manager) {
                    self.on_provider_request(index, request);
                }
            }
            Step::Launch(id) => self.launch(index, id),
            Step::Fail { id, retryable } => {
                if self.providers[index].workers.get(&id).is_some_and(|worker| worker.process.is_none()) {
                    self.providers[index].workers.remove(&id);
                    let reason = "there is no room".to_owned();
                    let event = ProviderEvent::Terminated { id, reason, retryable };
                    self.provider_event(index, event, Duration::ZERO);
                }
            }
            Step::Stop(id) => self.stop_provided(index, id),
            Step::Notice { id, reason } => {
                let known = self.providers[index].workers.remove(&id).is_some_and(|worker| worker.known);
                if known {
                    let event = ProviderEvent::Terminated { id, reason, retryable: true };
                    self.provider_event(index, event, Duration::ZERO);
                }
            }
        }
    }

    fn on_provider_request(&mut self, index: usize, request: ProviderRequest) {
        match request {
            ProviderRequest::RecoverWorkers => self.recover(index),
            ProviderRequest::StartWorker(spec) => self.start_provided(index, spec.id, spec.slots),
            ProviderRequest::StopWorker(id) => {
                let delay = self.random.millis(0, 500);
                self.after(delay, Happening::Provider { index, step: Step::Stop(id) });
            }
            ProviderRequest::DeclareDemand { .. } | ProviderRequest::Shutdown { .. } => {}
        }
    }

    fn recover(&mut self, index: usize) {
        let max_workers = self.providers[index].scenario.max_workers;
        let message = "simulated".to_owned();
        self.provider_event(index, ProviderEvent::Capacity { max_workers, message }, Duration::ZERO);
        if !self.providers[index].scenario.recovers {
            return self.provider_event(index, ProviderEvent::Recovered(Vec::new()), Duration::ZERO);
        }
        let mut found = Vec::new();
        for (id, worker) in &mut self.providers[index].workers {
            worker.known = true;
            found.push(RecoveredWorker { id: id.clone(), slots: worker.slots, location: String::new() });
        }
        let delay = self.random.millis(1, 10_000);
        self.provider_event(index, ProviderEvent::Recovered(found), delay);
    }

    fn start_provided(&mut self, index: usize, id: TaskManagerId, slots: u32) {
        let calm = self.calm;
        let provider = &mut self.providers[index];
        let known = provider.workers.values().filter(|worker| worker.known).count() as u32;
        let full = provider.scenario.max_workers.is_some_and(|max| known >= max);
        let (failing, slow) = (provider.scenario.failing, provider.scenario.slow);
        let worker = Worker { slots, process: None, known: true };
        let twice = provider.workers.insert(id.clone(), worker).is_some();
        self.check(!twice, || format!("{id} is asked for twice"));
        let fails = full || (!calm && self.random.chance(failing));
        let (delay, step) = if fails {
            let retryable = full || !self.random.chance(50);
            (self.random.millis(1, 2_000), Step::Fail { id, retryable })
        } else if !calm && self.random.chance(slow) {
            (self.random.millis(60_000, 500_000), Step::Launch(id))
        } else {
            (self.random.millis(20, 3_000), Step::Launch(id))
        };
        self.after(delay, Happening::Provider { index, step });
    }

    fn launch(&mut self, index: usize, id: TaskManagerId) {
        let process = self.task_managers.len();
        let Some(worker) = self.providers[index].workers.get_mut(&id) else { return };
        if worker.process.is_some() {
            return;
        }
        worker.process = Some(process);
        let slots = worker.slots;
        self.task_managers.push(TaskManagerProcess::new(id.clone(), slots, Some(index)));
        let started = ProviderEvent::Started { id: id.clone(), location: format!("process {process}") };
        self.provider_event(index, started, Duration::ZERO);
        let delay = self.random.millis(0, 100);
        self.provider_event(index, ProviderEvent::Ready { id }, delay);
        self.start_task_manager(process);
    }

    fn stop_provided(&mut self, index: usize, id: TaskManagerId) {
        let Some(worker) = self.providers[index].workers.get(&id) else {
            let reason = "there is none".to_owned();
            let event = ProviderEvent::Terminated { id, reason, retryable: true };
            return self.provider_event(index, event, Duration::ZERO);
        };
        match worker.process {
            Some(process) if self.task_managers[process].state.is_some() => {
                self.end_task_manager(process, "stopped by its provider", false);
            }
            Some(process) => self.on_provided_task_manager_ended(index, process, "it is gone", false),
            None => {
                self.providers[index].workers.remove(&id);
                let event = ProviderEvent::Terminated { id, reason: "stopped".to_owned(), retryable: true };
                self.provider_event(index, event, Duration::ZERO);
            }
        }
    }

    /// `silent`: its machine is gone too, and the provider may learn that only when it is asked to stop it.
    pub(crate) fn on_provided_task_manager_ended(&mut self, index: usize, process: usize, reason: &str, silent: bool) {
        if silent && self.random.chance(500) {
            return;
        }
        let id = self.task_managers[process].id.clone();
        let delay = self.random.millis(1, 500);
        let step = Step::Notice { id, reason: reason.to_owned() };
        self.after(delay, Happening::Provider { index, step });
    }

    /// Something happens to a provider.
    pub(crate) fn trouble_provider(&mut self, index: usize) {
        match self.random.below(10) {
            0 => {
                // What the plugin had started by itself goes on.
                self.log(|_| format!("provider {index} breaks"));
                let event = ProviderEvent::Failed { message: "simulated bug".to_owned(), fatal: true };
                self.provider_event(index, event, Duration::ZERO);
                self.providers[index].plugin = None;
            }
            1..=3 => {
                let event = ProviderEvent::Failed { message: "no route to host".to_owned(), fatal: false };
                self.provider_event(index, event, Duration::ZERO);
            }
            4 => {
                let max_workers = self.random.chance(500).then(|| self.random.between(1, 6));
                self.providers[index].scenario.max_workers = max_workers;
                let message = "it has changed".to_owned();
                self.provider_event(index, ProviderEvent::Capacity { max_workers, message }, Duration::ZERO);
            }
            _ => self.drain_some(index),
        }
    }

    fn drain_some(&mut self, index: usize) {
        let provider = &self.providers[index];
        let known: Vec<_> =
            provider.workers.iter().filter(|(_, worker)| worker.known).map(|(id, _)| id.clone()).collect();
        if known.is_empty() || provider.is_broken() {
            return;
        }
        let id = self.random.pick(&known).clone();
        let deadline = self.random.millis(0, 60_000);
        self.log(|_| format!("{id} will be taken away in {deadline:?}"));
        let event = ProviderEvent::Draining { id: id.clone(), deadline, reason: "simulated preemption".to_owned() };
        self.provider_event(index, event, Duration::ZERO);
        self.after(deadline, Happening::Provider { index, step: Step::Stop(id) });
    }
}
