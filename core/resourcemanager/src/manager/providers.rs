//! What happens to providers and the workers they start.

use std::time::Duration;

use weir_model::{TaskManagerId, TaskManagerInfo};
use weir_provider_api::{Description, FinalStatus, ProviderEvent, ProviderRequest, RecoveredWorker, WorkerSpec};

use crate::agenda::Wake;
use crate::manager::ResourceManager;
use crate::workers::{Phase, ProviderState, Worker};
use crate::{Effect, WorkerTemplate};

/// A request to stop a worker is repeated after this time, until its end is known.
const STOP_RETRY: Duration = Duration::from_secs(30);

impl ResourceManager {
    pub(super) fn on_provider_opened(
        &mut self,
        name: String,
        description: &Description,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(position) = self.workers.position(&name) else { return };
        let deadline = now + self.options.registration_timeout;
        self.workers.providers[position].opened(description, deadline);
        self.agenda.add(deadline, Wake::Provider(position));
        effects.push(Effect::Provider { name, request: ProviderRequest::RecoverWorkers });
    }

    pub(super) fn on_provider_unusable(&mut self, name: &str, reason: String) {
        if let Some(position) = self.workers.position(name) {
            self.give_up_provider(position, reason);
        }
    }

    /// Forgets the workers that only the provider could bring or end. Registered ones stay as long as they are of use.
    fn give_up_provider(&mut self, position: usize, reason: String) {
        let unreachable = |phase| matches!(phase, Phase::Asked | Phase::Started | Phase::Stopping);
        let workers = self.workers.of_provider(position).filter(|(_, worker)| unreachable(worker.phase));
        for id in workers.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.workers.remove(&id);
        }
        let provider = &mut self.workers.providers[position];
        provider.last_failure = Some(reason.clone());
        provider.state = ProviderState::Unusable { reason };
    }

    pub(super) fn on_provider(&mut self, name: &str, event: ProviderEvent, now: Duration, effects: &mut Vec<Effect>) {
        let Some(position) = self.workers.position(name) else { return };
        match event {
            ProviderEvent::Recovered(workers) => self.on_recovered(position, workers, now),
            ProviderEvent::Started { id, .. } | ProviderEvent::Ready { id } => {
                self.on_worker_alive(position, id, now, effects);
            }
            ProviderEvent::Terminated { id, reason, retryable } => {
                self.on_terminated(position, &id, reason, retryable, now, effects);
            }
            ProviderEvent::Draining { id, deadline, reason } => {
                self.on_draining(position, &id, deadline, &reason, now, effects);
            }
            ProviderEvent::Capacity { max_workers, message } => {
                let provider = &mut self.workers.providers[position];
                (provider.max_workers, provider.capacity_message) = (max_workers, message);
                provider.refused = None;
            }
            ProviderEvent::Failed { message, fatal: true } => self.give_up_provider(position, message),
            ProviderEvent::Failed { message, fatal: false } => {
                self.workers.providers[position].last_failure = Some(message);
                self.let_rest(position, now);
            }
            // The shell ends the provider; by then nothing is asked of it.
            ProviderEvent::Closed => {}
        }
    }

    fn on_recovered(&mut self, position: usize, found: Vec<RecoveredWorker>, now: Duration) {
        let deadline = now + self.options.registration_timeout;
        for RecoveredWorker { id, slots, .. } in found {
            if self.workers.get(&id).is_some() {
                continue;
            }
            let registered = self.slots.get(&id).is_some();
            let phase = if registered { Phase::Registered } else { Phase::Started };
            let worker = Worker { provider: position, slots, phase, deadline, drained_at: None, request: 0 };
            self.workers.insert(id.clone(), worker);
            if registered {
                self.slots.set_provided(&id);
                self.agenda.add(now + self.options.idle_timeout, Wake::Idle(id));
            } else {
                self.agenda.add(deadline, Wake::Worker(id));
            }
        }
        let provider = &mut self.workers.providers[position];
        if matches!(provider.state, ProviderState::Recovering { .. }) {
            provider.state = ProviderState::Open;
        }
    }

    fn on_worker_alive(&mut self, position: usize, id: TaskManagerId, now: Duration, effects: &mut Vec<Effect>) {
        let deadline = now + self.options.registration_timeout;
        self.workers.providers[position].last_failure = None;
        match self.workers.get(&id).map(|worker| worker.phase) {
            Some(Phase::Asked | Phase::Started) => {
                self.workers.change(&id, |worker| {
                    worker.phase = Phase::Started;
                    worker.deadline = deadline;
                });
                self.agenda.add(deadline, Wake::Worker(id));
            }
            Some(Phase::Registered | Phase::Lost | Phase::Stopping) => {}
            // Nobody waits for it any more, but it must not stay.
            None => {
                let phase = Phase::Stopping;
                let worker = Worker { provider: position, slots: 0, phase, deadline, drained_at: None, request: 0 };
                self.workers.insert(id.clone(), worker);
                self.ask_to_stop(&id, now, effects);
            }
        }
    }

    fn on_terminated(
        &mut self,
        position: usize,
        id: &TaskManagerId,
        reason: String,
        retryable: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.end(id) else { return };
        match worker.phase {
            Phase::Asked | Phase::Started => self.start_failed(position, reason, retryable, now),
            Phase::Registered => {
                if let Some(task_manager) = self.slots.get(id) {
                    let incarnation = task_manager.info.incarnation;
                    effects.push(Effect::Disconnect { id: id.clone(), incarnation, reason: reason.clone() });
                }
                self.take_away(id, &reason, effects);
            }
            // Its jobs know already; or it was to end.
            Phase::Lost | Phase::Stopping => {}
        }
    }

    fn start_failed(&mut self, position: usize, reason: String, retryable: bool, now: Duration) {
        let rate = self.options.start_failure_rate;
        let provider = &mut self.workers.providers[position];
        if !retryable {
            provider.refused = Some(reason.clone());
        }
        if provider.start_failed(reason, rate, now) {
            self.let_rest(position, now);
        }
    }

    /// Asks nothing of the provider for a while.
    fn let_rest(&mut self, position: usize, now: Duration) {
        let until = now + self.options.start_retry_interval;
        self.workers.providers[position].rests_until = Some(until);
        self.agenda.add(until, Wake::Provider(position));
    }

    fn on_draining(
        &mut self,
        position: usize,
        id: &TaskManagerId,
        deadline: Duration,
        reason: &str,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.provider == position) else { return };
        match worker.phase {
            Phase::Registered => {
                let at = now.saturating_add(deadline);
                self.workers.change(id, |worker| worker.drained_at = Some(at));
                self.slots.drain(id);
                self.agenda.add(at, Wake::Worker(id.clone()));
                if self.slots.get(id).is_some_and(|task_manager| task_manager.used == 0) {
                    self.stop_worker(id, reason, now, effects);
                }
            }
            // It has nothing to lose, and another one can be asked for at once.
            Phase::Asked | Phase::Started | Phase::Lost => self.stop_worker(id, reason, now, effects),
            Phase::Stopping => {}
        }
    }

    /// The deadline of a provider's rest or recovery has come.
    pub(super) fn on_provider_deadline(&mut self, position: usize, now: Duration) {
        let provider = &mut self.workers.providers[position];
        if matches!(provider.state, ProviderState::Recovering { deadline } if deadline <= now) {
            provider.state = ProviderState::Open;
            provider.last_failure = Some("it has not said which TaskManagers it already has".to_owned());
        }
    }

    /// A worker may have been in its phase for too long.
    pub(super) fn on_worker_deadline(&mut self, id: &TaskManagerId, now: Duration, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get(id) else { return };
        let (position, phase) = (worker.provider, worker.phase);
        let due = if phase == Phase::Registered { worker.drained_at } else { Some(worker.deadline) };
        if due.is_none_or(|due| now < due) {
            return;
        }
        match phase {
            Phase::Asked | Phase::Started => {
                let timeout = self.options.registration_timeout;
                self.start_failed(position, format!("{id} has not registered within {timeout:?}"), true, now);
                self.stop_worker(id, "it has not registered in time", now, effects);
            }
            Phase::Registered => self.stop_worker(id, "its provider takes it away", now, effects),
            Phase::Lost => self.stop_worker(id, "its connection broke and it has not come back", now, effects),
            Phase::Stopping => self.ask_to_stop(id, now, effects),
        }
    }

    /// Stops a worker, wherever it stands; jobs that have slots there lose them.
    pub(super) fn stop_worker(&mut self, id: &TaskManagerId, reason: &str, now: Duration, effects: &mut Vec<Effect>) {
        if let Some(TaskManagerInfo { incarnation, .. }) = self.slots.get(id).map(|found| &found.info) {
            let (incarnation, reason) = (*incarnation, reason.to_owned());
            effects.push(Effect::ShutDownTaskManager { id: id.clone(), incarnation, reason });
        }
        self.take_away(id, reason, effects);
        self.workers.change(id, |worker| worker.phase = Phase::Stopping);
        self.ask_to_stop(id, now, effects);
    }

    /// Asks for the end of a worker in phase Stopping; again after a while, should the answer not come.
    fn ask_to_stop(&mut self, id: &TaskManagerId, now: Duration, effects: &mut Vec<Effect>) {
        let Some(position) = self.workers.get(id).map(|worker| worker.provider) else { return };
        let provider = &self.workers.providers[position];
        if matches!(provider.state, ProviderState::Unusable { .. }) {
            self.workers.remove(id);
            return;
        }
        let request = ProviderRequest::StopWorker(id.clone());
        effects.push(Effect::Provider { name: provider.name.clone(), request });
        let deadline = now + STOP_RETRY;
        self.workers.change(id, |worker| worker.deadline = deadline);
        self.agenda.add(deadline, Wake::Worker(id.clone()));
    }

    pub(super) fn on_shut_down(
        &mut self,
        stop_workers: bool,
        status: FinalStatus,
        message: &str,
        effects: &mut Vec<Effect>,
    ) {
        if std::mem::replace(&mut self.shutting_down, true) {
            return;
        }
        if stop_workers {
            for task_manager in self.slots.iter().filter(|found| self.workers.get(&found.info.id).is_some()) {
                let (id, incarnation) = (task_manager.info.id.clone(), task_manager.info.incarnation);
                let reason = "the cluster is shut down".to_owned();
                effects.push(Effect::ShutDownTaskManager { id, incarnation, reason });
            }
        }
        for provider in &self.workers.providers {
            if matches!(provider.state, ProviderState::Recovering { .. } | ProviderState::Open) {
                let request = ProviderRequest::Shutdown { stop_workers, status, message: message.to_owned() };
                effects.push(Effect::Provider { name: provider.name.clone(), request });
            }
        }
    }
}

impl WorkerTemplate {
    /// What to start under this name. `{id}` in the command and in the environment stands for it.
    pub(super) fn spec(&self, id: TaskManagerId) -> WorkerSpec {
        let fill = |text: &String| text.replace("{id}", id.as_str());
        WorkerSpec {
            command: self.command.iter().map(fill).collect(),
            environment: self.environment.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            resources: self.resources.clone(),
            slots: self.slots.max(1),
            files: self.files.clone(),
            id,
        }
    }
}
