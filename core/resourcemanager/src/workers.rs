//! Providers and the workers asked of them. A worker is what a provider starts: a TaskManager, from the request to its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_model::TaskManagerId;
use weir_provider_api::{Capability, Description};

use crate::{ProviderChoice, StartFailureRate};

/// A provider.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) min_workers: u32,
    pub(crate) state: ProviderState,
    /// Whether it wants to be told how many workers are wanted.
    pub(crate) takes_demand: bool,
    /// What it was last told.
    pub(crate) declared: Option<u32>,
    pub(crate) max_workers: Option<u32>,
    /// What it said about that.
    pub(crate) capacity_message: String,
    /// Until when nothing is asked of it.
    pub(crate) rests_until: Option<Duration>,
    /// Why asking for more is pointless until another job comes.
    pub(crate) refused: Option<String>,
    /// The last thing that went wrong, if nothing went well since.
    pub(crate) last_failure: Option<String>,
    /// When workers last could not be started.
    failures: VecDeque<Duration>,
    pub(crate) counts: PhaseCounts,
    /// Registered workers that will be taken away.
    pub(crate) draining: u32,
}

/// Whether a provider can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProviderState {
    /// Not open yet.
    Expected,
    /// Looks for the workers it already has; until then.
    Recovering {
        /// When it is used without an answer.
        deadline: Duration,
    },
    /// Takes requests.
    Open,
    /// Does not.
    Unusable {
        /// Why.
        reason: String,
    },
}

/// A worker asked of a provider and not known to be gone.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// Position of its provider.
    pub(crate) provider: usize,
    /// Slots it offers.
    pub(crate) slots: u32,
    pub(crate) phase: Phase,
    /// Until when it may be in this phase; has no meaning for a registered worker.
    pub(crate) deadline: Duration,
    /// When it will be taken away.
    pub(crate) drained_at: Option<Duration>,
    /// Counts requests; 0 for workers that were not asked for by this JobManager.
    pub(crate) request: u64,
}

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Asked for.
    Asked,
    /// Started, or found again; has not registered.
    Started,
    /// Its TaskManager is registered.
    Registered,
    /// Its connection broke; it may come back.
    Lost,
    /// To be stopped; its end is awaited.
    Stopping,
}

/// Number of a provider's workers by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PhaseCounts([u32; 5]);

impl PhaseCounts {
    pub(crate) fn of(&self, phase: Phase) -> u32 {
        self.0[phase as usize]
    }

    /// Those that are expected to register.
    pub(crate) fn pending(&self) -> u32 {
        self.of(Phase::Asked) + self.of(Phase::Started) + self.of(Phase::Lost)
    }

    /// Those that serve or are to serve.
    pub(crate) fn wanted(&self) -> u32 {
        self.pending() + self.of(Phase::Registered)
    }

    /// All of them, those on their way out included.
    pub(crate) fn all(&self) -> u32 {
        self.wanted() + self.of(Phase::Stopping)
    }
}

impl Phase {
    /// Whether a worker in it is expected to register.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Phase::Asked | Phase::Started | Phase::Lost)
    }
}

impl Worker {
    /// Whether it serves, but not for long.
    fn drains(&self) -> bool {
        self.phase == Phase::Registered && self.drained_at.is_some()
    }
}

impl Provider {
    fn new(choice: &ProviderChoice) -> Self {
        Self {
            name: choice.name.clone(),
            min_workers: choice.min_workers,
            state: ProviderState::Expected,
            takes_demand: false,
            declared: None,
            max_workers: None,
            capacity_message: String::new(),
            rests_until: None,
            refused: None,
            last_failure: None,
            failures: VecDeque::new(),
            counts: PhaseCounts::default(),
            draining: 0,
        }
    }

    /// It is open and looks for its workers; if it cannot do that, it can be used at once.
    pub(crate) fn opened(&mut self, description: &Description, deadline: Duration) {
        let recovers = description.capabilities.contains(&Capability::Recover);
        self.state = if recovers { ProviderState::Recovering { deadline } } else { ProviderState::Open };
        self.takes_demand = description.capabilities.contains(&Capability::Demand);
        self.declared = None;
        self.max_workers = None;
        self.rests_until = None;
        self.refused = None;
        self.last_failure = None;
        self.failures.clear();
    }

    /// Whether workers may be asked of it now.
    pub(crate) fn takes_requests(&self, now: Duration) -> bool {
        self.state == ProviderState::Open && self.refused.is_none() && !self.rests(now)
    }

    pub(crate) fn rests(&self, now: Duration) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// A worker could not be started. Whether that happens too often.
    pub(crate) fn start_failed(&mut self, reason: String, rate: StartFailureRate, now: Duration) -> bool {
        self.last_failure = Some(reason);
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|&at| at + rate.interval <= now) {
            self.failures.pop_front();
        }
        // More than needed to tell are not kept.
        if self.failures.len() > rate.failures.max(1) as usize {
            self.failures.pop_front();
        }
        self.failures.len() >= rate.failures.max(1) as usize
    }

    /// How many more workers it can have at a time; `None` if nobody knows a limit.
    pub(crate) fn room(&self) -> Option<u32> {
        self.max_workers.map(|max| max.saturating_sub(self.counts.all()))
    }
}

/// All providers and workers.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    pub(crate) providers: Vec<Provider>,
    workers: BTreeMap<TaskManagerId, Worker>,
    /// Workers in phase Asked, by request: the newest are withdrawn first.
    asked: BTreeMap<u64, TaskManagerId>,
    /// Workers that were not asked for by this JobManager and have ended; their names alone do not tell.
    ended: BTreeSet<TaskManagerId>,
    pending_slots: u32,
    epoch: u64,
    next_request: u64,
}

impl Workers {
    pub(crate) fn new(choices: &[ProviderChoice], epoch: u64) -> Self {
        Self {
            providers: choices.iter().map(Provider::new).collect(),
            workers: BTreeMap::new(),
            asked: BTreeMap::new(),
            ended: BTreeSet::new(),
            pending_slots: 0,
            epoch,
            next_request: 1,
        }
    }

    /// The position of a provider.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.providers.iter().position(|provider| provider.name == name)
    }

    pub(crate) fn get(&self, id: &TaskManagerId) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// Slots of workers that are expected to register.
    pub(crate) fn pending_slots(&self) -> u32 {
        self.pending_slots
    }

    /// Number of workers that are expected to register.
    pub(crate) fn pending(&self) -> u32 {
        self.providers.iter().map(|provider| provider.counts.pending()).sum()
    }

    /// Adds a worker to be asked for, and names it.
    pub(crate) fn ask(&mut self, provider: usize, slots: u32, deadline: Duration) -> TaskManagerId {
        let request = self.next_request;
        self.next_request += 1;
        let id = TaskManagerId::new(format!("{}-{:x}-{request}", self.providers[provider].name, self.epoch));
        let worker = Worker { provider, slots, phase: Phase::Asked, deadline, drained_at: None, request };
        self.insert(id.clone(), worker);
        id
    }

    /// Adds or replaces a worker.
    pub(crate) fn insert(&mut self, id: TaskManagerId, worker: Worker) {
        self.remove(&id);
        let provider = &mut self.providers[worker.provider];
        provider.counts.0[worker.phase as usize] += 1;
        provider.draining += u32::from(worker.drains());
        if worker.phase.is_pending() {
            self.pending_slots += worker.slots;
        }
        if worker.phase == Phase::Asked {
            self.asked.insert(worker.request, id.clone());
        }
        self.workers.insert(id, worker);
    }

    pub(crate) fn remove(&mut self, id: &TaskManagerId) -> Option<Worker> {
        let worker = self.workers.remove(id)?;
        let provider = &mut self.providers[worker.provider];
        provider.counts.0[worker.phase as usize] -= 1;
        provider.draining -= u32::from(worker.drains());
        if worker.phase.is_pending() {
            self.pending_slots -= worker.slots;
        }
        self.asked.remove(&worker.request);
        Some(worker)
    }

    /// Removes a worker that has ended for good.
    pub(crate) fn end(&mut self, id: &TaskManagerId) -> Option<Worker> {
        let worker = self.remove(id)?;
        if worker.request == 0 {
            self.ended.insert(id.clone());
        }
        Some(worker)
    }

    /// Whether there was such a worker, asked for by this JobManager or found, and is no more.
    pub(crate) fn has_ended(&self, id: &TaskManagerId) -> bool {
        let own = self.origin(id).is_some_and(|(_, own)| own);
        !self.workers.contains_key(id) && (own || self.ended.contains(id))
    }

    /// Changes a worker, if there is one of this name.
    pub(crate) fn change(&mut self, id: &TaskManagerId, change: impl FnOnce(&mut Worker)) -> bool {
        let Some(mut worker) = self.remove(id) else { return false };
        change(&mut worker);
        self.insert(id.clone(), worker);
        true
    }

    /// Workers of a provider that were asked for and not started, the newest first.
    pub(crate) fn newest_asked(&self, provider: usize) -> impl Iterator<Item = &TaskManagerId> {
        self.asked.values().rev().filter(move |id| self.workers[*id].provider == provider)
    }

    /// The workers of a provider.
    pub(crate) fn of_provider(&self, provider: usize) -> impl Iterator<Item = (&TaskManagerId, &Worker)> {
        self.workers.iter().filter(move |(_, worker)| worker.provider == provider)
    }

    /// Who made a name: the provider's position, and whether it was asked by this JobManager.
    pub(crate) fn origin(&self, id: &TaskManagerId) -> Option<(usize, bool)> {
        let mut parts = id.as_str().rsplitn(3, '-');
        let (request, epoch, name) = (parts.next()?, parts.next()?, parts.next()?);
        let _: u64 = request.parse().ok()?;
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        Some((self.position(name)?, epoch == self.epoch))
    }
}
