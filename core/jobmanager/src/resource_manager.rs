//! The ResourceManager's loop: owns the machine, and performs what it decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use weir_jobmaster::JobMasterEvent;
use weir_model::{ResourcesView, TaskManagerId};
use weir_proto::control::ForTaskManager;
use weir_provider_api::{Provider, ProviderEvent};
use weir_resourcemanager::{Effect, Event, ResourceManager, TaskManagerSlots};

use crate::shared::Shared;
use crate::timers::Timers;

/// The loop, from outside.
pub(crate) type ResourceManagerSender = UnboundedSender<ResourceManagerMessage>;

/// What the loop is told.
pub(crate) enum ResourceManagerMessage {
    /// Something happened.
    Event(Event),
    /// A provider is open; the machine is told with the next message.
    Provider(String, Box<dyn Provider>),
    /// Somebody wants the cluster in numbers.
    Resources(oneshot::Sender<ResourcesView>),
    /// Somebody wants to see all TaskManagers, or one.
    TaskManagers(Option<TaskManagerId>, oneshot::Sender<Vec<TaskManagerSlots>>),
    /// Tell when all providers are closed.
    WhenClosed(oneshot::Sender<()>),
}

impl std::fmt::Debug for ResourceManagerMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ResourceManagerMessage::Event(event) => write!(f, "{event:?}"),
            ResourceManagerMessage::Provider(name, _) => write!(f, "Provider({name})"),
            ResourceManagerMessage::Resources(_) => f.write_str("Resources"),
            ResourceManagerMessage::TaskManagers(..) => f.write_str("TaskManagers"),
            ResourceManagerMessage::WhenClosed(_) => f.write_str("WhenClosed"),
        }
    }
}

/// The ResourceManager.
pub(crate) struct ResourceManagerLoop {
    shared: Arc<Shared>,
    machine: ResourceManager,
    messages: UnboundedReceiver<ResourceManagerMessage>,
    timers: Timers,
    providers: BTreeMap<String, Box<dyn Provider>>,
    /// Whoever waits for the providers to be closed.
    waiting: Vec<oneshot::Sender<()>>,
}

impl ResourceManagerLoop {
    pub(crate) fn new(
        shared: Arc<Shared>,
        machine: ResourceManager,
        messages: UnboundedReceiver<ResourceManagerMessage>,
    ) -> ResourceManagerLoop {
        let (timers, providers, waiting) = (Timers::default(), BTreeMap::new(), Vec::new());
        ResourceManagerLoop { shared, machine, messages, timers, providers, waiting }
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            let clock = self.shared.clock;
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                id = self.timers.next(&clock) => self.on_event(Event::Timer { id }),
            }
        }
    }

    fn on_message(&mut self, message: ResourceManagerMessage) {
        // Whoever asked may have gone away meanwhile.
        match message {
            ResourceManagerMessage::Event(event) => self.on_event(event),
            ResourceManagerMessage::Provider(name, provider) => drop(self.providers.insert(name, provider)),
            ResourceManagerMessage::Resources(answer) => drop(answer.send(self.machine.view())),
            ResourceManagerMessage::TaskManagers(None, answer) => {
                drop(answer.send(self.machine.task_managers().collect()));
            }
            ResourceManagerMessage::TaskManagers(Some(id), answer) => {
                drop(answer.send(self.machine.task_manager(&id).into_iter().collect()));
            }
            ResourceManagerMessage::WhenClosed(answer) => {
                self.waiting.push(answer);
                self.tell_if_closed();
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let closed = match &event {
            Event::Provider { name, event: ProviderEvent::Closed } => Some(name.clone()),
            _ => None,
        };
        let effects = self.machine.on_event(event, self.shared.clock.now());
        effects.into_iter().for_each(|effect| self.perform(effect));
        if let Some(name) = closed {
            self.providers.remove(&name);
            self.tell_if_closed();
        }
    }

    fn tell_if_closed(&mut self) {
        if self.providers.is_empty() {
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::TellJob { job, message } => {
                self.shared.jobs.tell(job, JobMasterEvent::ResourceManager(message));
            }
            Effect::Provider { name, request } => match self.providers.get_mut(&name) {
                Some(provider) => provider.request(request),
                None => tracing::error!(provider = name, "a provider was asked for something before it was open"),
            },
            Effect::ShutDownTaskManager { id, incarnation, reason } => {
                if let Some(connection) = self.shared.task_managers.remove(&id, incarnation) {
                    tracing::info!(taskmanager_id = %id, reason, "a TaskManager is told to end");
                    connection.send(ForTaskManager::Shutdown { reason });
                }
            }
            Effect::Disconnect { id, incarnation, reason } => {
                if let Some(connection) = self.shared.task_managers.remove(&id, incarnation) {
                    tracing::info!(taskmanager_id = %id, reason, "the connection of a TaskManager is cut");
                    connection.cut.cancel();
                }
            }
            Effect::ScheduleTimer { id, at } => self.timers.replace(id, at),
            Effect::Planned(plan) => tracing::info!(%plan, "slots are missing or not needed any more"),
        }
    }
}
