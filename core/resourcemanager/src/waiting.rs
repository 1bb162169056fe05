//! Why jobs wait for slots: the same in the API, in logs and in the failure of a job that waited in vain.

use std::time::Duration;

use weir_model::{JobId, SlotWait};

use crate::ResourceManager;
use crate::workers::{Phase, Provider, ProviderState};

impl ResourceManager {
    /// How the wait of each waiting job stands, oldest first.
    pub(crate) fn explain(&self, now: Duration) -> Vec<(JobId, SlotWait)> {
        let possible = self.possible_slots();
        let common = self.common_reasons(now);
        let (mut jobs_before, mut slots_before, mut oldest) = (0, 0, "");
        let mut waits = Vec::with_capacity(self.waiting.len());
        for id in self.waiting.values() {
            let job = &self.jobs[id];
            let never = possible
                .filter(|&possible| job.at_least > possible)
                .map(|possible| self.never(job.at_least, possible, &common));
            let mut reasons = common.clone();
            if jobs_before > 0 {
                let jobs = if jobs_before == 1 {
                    format!("the older job {oldest:?} waits")
                } else {
                    format!("{jobs_before} older jobs wait")
                };
                reasons.push(format!("{jobs} for {}", counted(slots_before, "slot", "slots")));
            }
            oldest = &job.name;
            (jobs_before, slots_before) = (jobs_before + 1, slots_before + job.lacking());
            let wait = SlotWait {
                needed: job.needed,
                granted: job.slots.len() as u32,
                available: self.slots.free(),
                pending: self.workers.pending_slots(),
                reasons,
                never,
            };
            waits.push((*id, wait));
        }
        waits
    }

    fn never(&self, needed: u32, possible: u32, reasons: &[String]) -> String {
        let mut text =
            format!("the job needs {}, and there can be {possible} at most", counted(needed, "slot", "slots"));
        let mut reasons = reasons.to_vec();
        if let Some(max) = self.options.max_slots
            && !self.limit_reached()
        {
            reasons.push(format!("`slotmanager.number-of-slots.max` is {max}"));
        }
        // Those without room have said so already.
        let others = self.workers.providers.iter().filter(|provider| provider.room() != Some(0));
        reasons.extend(others.filter_map(capacity));
        if !reasons.is_empty() {
            text.push_str(": ");
            text.push_str(&reasons.join("; "));
        }
        text.push_str(
            ". Lower the job's parallelism, raise the limit, or start more TaskManagers by hand (`weir taskmanager`)",
        );
        text
    }

    fn common_reasons(&self, now: Duration) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.workers.providers.is_empty() {
            reasons.push(
                "no resource provider is configured: start TaskManagers by hand (`weir taskmanager`), or name \
                 providers in `resourcemanager.providers`"
                    .to_owned(),
            );
        }
        for provider in &self.workers.providers {
            reasons.extend(self.about(provider, now));
        }
        if let Some(max) = self.options.max_slots
            && self.limit_reached()
        {
            reasons
                .push(format!("no more TaskManagers are started, because `slotmanager.number-of-slots.max` is {max}"));
        }
        reasons
    }

    /// Whether one more worker would bring more slots than there may be.
    fn limit_reached(&self) -> bool {
        let one_more = self.slots.total() + self.workers.pending_slots() + self.options.template.slots.max(1);
        self.options.max_slots.is_some_and(|max| one_more > max)
    }

    fn about(&self, provider: &Provider, now: Duration) -> Vec<String> {
        let name = &provider.name;
        let mut reasons = Vec::new();
        match &provider.state {
            ProviderState::Expected => reasons.push(format!("provider {name} is being opened")),
            ProviderState::Recovering { .. } => {
                reasons.push(format!("provider {name} looks for TaskManagers of an earlier JobManager"));
            }
            ProviderState::Unusable { reason } => reasons.push(format!("provider {name} cannot be used: {reason}")),
            ProviderState::Open => self.about_open(provider, now, &mut reasons),
        }
        reasons
    }

    fn about_open(&self, provider: &Provider, now: Duration, reasons: &mut Vec<String>) {
        let name = &provider.name;
        let starting = provider.counts.of(Phase::Asked) + provider.counts.of(Phase::Started);
        if starting > 0 {
            reasons.push(format!("provider {name} is starting {}", counted(starting, "TaskManager", "TaskManagers")));
        }
        if provider.counts.of(Phase::Lost) > 0 {
            let lost = counted(provider.counts.of(Phase::Lost), "TaskManager", "TaskManagers");
            reasons.push(format!("{lost} of provider {name} lost the connection and may come back"));
        }
        if let Some(reason) = &provider.refused {
            reasons.push(format!("provider {name} cannot start TaskManagers: {reason}"));
        } else if let Some(failure) = &provider.last_failure {
            let rest = if provider.rests(now) { "; it is asked again later" } else { "" };
            reasons.push(format!("provider {name} failed: {failure}{rest}"));
        }
        reasons.extend(capacity(provider).filter(|_| provider.room() == Some(0)));
    }
}

/// How many TaskManagers a provider can have, if that is known.
fn capacity(provider: &Provider) -> Option<String> {
    let max = counted(provider.max_workers?, "TaskManager", "TaskManagers");
    let message = &provider.capacity_message;
    let said = if message.is_empty() { String::new() } else { format!(" ({message})") };
    Some(format!("provider {} can have {max} at most{said}", provider.name))
}

fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
