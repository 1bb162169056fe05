//! Which TaskManagers to start and to give up: decided from what is wanted and what there is, before anything is touched.

use std::fmt;

/// What is to be done about the number of TaskManagers, and what it was decided from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Slots that jobs lack beyond those that are free.
    pub missing_slots: u32,
    /// Slots of TaskManagers that were asked for and have not registered.
    pub pending_slots: u32,
    /// What to do, in this order. Empty if all is as it should be or nothing can be done.
    pub steps: Vec<Step>,
    /// Slots that are still missing after that.
    pub unmet_slots: u32,
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Have a provider start TaskManagers.
    Start {
        /// The provider.
        provider: String,
        /// How many.
        workers: u32,
    },
    /// Withdraw requests for TaskManagers that nobody needs any more.
    Withdraw {
        /// The provider.
        provider: String,
        /// How many.
        workers: u32,
    },
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots missing, {} pending:", self.missing_slots, self.pending_slots)?;
        if self.steps.is_empty() {
            f.write_str(" nothing to do")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{} {step}", if index == 0 { "" } else { "," })?;
        }
        if self.unmet_slots > 0 {
            write!(f, "; {} slots remain missing", self.unmet_slots)?;
        }
        Ok(())
    }
}

impl Step {
    fn workers(&self) -> u32 {
        let (Step::Start { workers, .. } | Step::Withdraw { workers, .. }) = self;
        *workers
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Start { provider, workers } => write!(f, "start {workers} with {provider}"),
            Step::Withdraw { provider, workers } => write!(f, "withdraw {workers} from {provider}"),
        }
    }
}

/// What there is and what is wanted, in numbers.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// Slots that jobs lack, as far as they can ever be had.
    pub(crate) lacking: u32,
    /// Slots to be kept free.
    pub(crate) reserve: u32,
    /// Free slots.
    pub(crate) free: u32,
    /// Slots of registered TaskManagers.
    pub(crate) registered: u32,
    /// Slots of workers that are expected to register.
    pub(crate) pending: u32,
    /// The most slots there may be.
    pub(crate) max_slots: Option<u32>,
    /// Slots of a new worker.
    pub(crate) slots_per_worker: u32,
    /// In order of preference.
    pub(crate) providers: Vec<Supply>,
}

/// What one provider has and can give.
#[derive(Debug, Clone)]
pub(crate) struct Supply {
    pub(crate) name: String,
    /// Whether it takes requests now.
    pub(crate) usable: bool,
    /// How many more workers it can have; `None` if nobody knows a limit.
    pub(crate) room: Option<u32>,
    /// Workers that serve or are to serve.
    pub(crate) wanted: u32,
    /// Those among them that have not been started.
    pub(crate) asked: u32,
    /// Workers it is to have at least.
    pub(crate) min: u32,
}

impl Observed {
    /// Decides what to do. Doing it and asking again gives a plan without steps.
    pub(crate) fn plan(&self) -> Plan {
        let per_worker = self.slots_per_worker.max(1);
        let needed = self.lacking + self.reserve;
        let missing = needed.saturating_sub(self.free);
        let mut plan = Plan { missing_slots: missing, pending_slots: self.pending, ..Plan::default() };
        // What is withdrawn may make room for what a provider is to have anyway, which may allow to withdraw more.
        let mut withdrawn = 0;
        let (least, coming, room) = loop {
            let pending = self.pending - withdrawn * per_worker;
            let mut room = self.max_slots.map(|max| max.saturating_sub(self.registered + pending) / per_worker);
            let least: Vec<u32> = self.providers.iter().map(|supply| self.least(supply, &mut room)).collect();
            let coming = self.pending + least.iter().sum::<u32>() * per_worker;
            plan.steps = self.withdrawals((self.free + coming).saturating_sub(needed) / per_worker);
            let before = std::mem::replace(&mut withdrawn, plan.steps.iter().map(Step::workers).sum());
            if withdrawn == before {
                break (least, coming, room);
            }
        };
        let short = missing.saturating_sub(coming);
        let started = self.starts(short.div_ceil(per_worker), &least, room, &mut plan.steps);
        plan.unmet_slots = short.saturating_sub(started * per_worker);
        plan
    }

    /// Starts workers with the first providers that have room, beside what each is to have anyway. Returns how many.
    fn starts(&self, mut workers: u32, least: &[u32], mut room: Option<u32>, steps: &mut Vec<Step>) -> u32 {
        let mut started = 0;
        for (supply, &least) in self.providers.iter().zip(least) {
            let limits = [supply.room.map(|room| room - least), room, (!supply.usable).then_some(0)];
            let count = limits.into_iter().flatten().fold(workers, u32::min);
            room = room.map(|room| room - count);
            workers -= count;
            started += count;
            if least + count > 0 {
                steps.push(Step::Start { provider: supply.name.clone(), workers: least + count });
            }
        }
        started
    }

    /// How many workers to start so that the provider has its least number.
    fn least(&self, supply: &Supply, room: &mut Option<u32>) -> u32 {
        if !supply.usable {
            return 0;
        }
        let limits = [supply.room, *room];
        let count = limits.into_iter().flatten().fold(supply.min.saturating_sub(supply.wanted), u32::min);
        *room = room.map(|room| room - count);
        count
    }

    /// Gives up requests that have not been answered, from the last provider to the first.
    fn withdrawals(&self, mut workers: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        for supply in self.providers.iter().rev() {
            let count = workers.min(supply.asked).min(supply.wanted.saturating_sub(supply.min));
            if count > 0 {
                workers -= count;
                steps.push(Step::Withdraw { provider: supply.name.clone(), workers: count });
            }
        }
        steps
    }
}
