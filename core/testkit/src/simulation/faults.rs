//! What goes wrong, and when.

use std::time::Duration;

use super::{Happening, START, World};

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    CutConnection,
    CrashTaskManager,
    FreezeTaskManager,
    KillWorker,
    KillCoordinator,
    ProviderTrouble,
    CrashJobManager,
    FreezeJobManager,
}

impl World {
    /// Plans all faults until it is calm.
    pub(crate) fn plan_faults(&mut self) {
        let rates = self.scenario.faults.clone();
        let kinds = [
            (Fault::CutConnection, rates.cut_connection),
            (Fault::CrashTaskManager, rates.crash_task_manager),
            (Fault::FreezeTaskManager, rates.freeze_task_manager),
            (Fault::KillWorker, rates.kill_worker),
            (Fault::KillCoordinator, rates.kill_coordinator),
            (Fault::ProviderTrouble, rates.provider_trouble),
            (Fault::CrashJobManager, rates.crash_job_manager),
            (Fault::FreezeJobManager, rates.freeze_job_manager),
        ];
        for (fault, mean) in kinds {
            let Some(mean) = mean else { continue };
            let mut at = START;
            loop {
                at += self.random.millis(0, 2 * mean.as_millis() as u64);
                if at >= START + self.scenario.calm_from {
                    break;
                }
                self.at(at, Happening::Fault(fault));
            }
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        self.faults += 1;
        match fault {
            Fault::CutConnection => {
                let open: Vec<_> = self.job_manager.connections.values().copied().collect();
                if !open.is_empty() {
                    let id = *self.random.pick(&open);
                    self.cut(id);
                }
            }
            Fault::CrashTaskManager => {
                if let Some(index) = self.some_task_manager() {
                    let silent = self.random.chance(200);
                    self.end_task_manager(index, "killed by signal 9 (SIGKILL)", silent);
                }
            }
            Fault::FreezeTaskManager => {
                if let Some(index) = self.some_task_manager() {
                    let time = self.random.millis(500, 120_000);
                    self.freeze_task_manager(index, time);
                }
            }
            Fault::KillWorker => self.kill_some_worker(),
            Fault::KillCoordinator => self.kill_some_coordinator(),
            Fault::ProviderTrouble => {
                if !self.providers.is_empty() && self.job_manager.up {
                    let index = self.random.below(self.providers.len() as u64) as usize;
                    self.trouble_provider(index);
                }
            }
            Fault::CrashJobManager => {
                if self.job_manager.up {
                    let epoch = self.job_manager.epoch();
                    self.crash_job_manager();
                    if self.former_leader.is_none() && self.random.chance(300) {
                        self.keep_former_leader(epoch);
                    }
                    let delay = self.random.millis(200, 20_000);
                    self.after(delay, Happening::StartJobManager);
                }
            }
            Fault::FreezeJobManager => {
                let time = self.random.millis(500, 90_000);
                self.freeze_job_manager(time);
            }
        }
    }

    fn some_task_manager(&mut self) -> Option<usize> {
        let living = self.task_managers.iter().enumerate().filter(|(_, process)| process.state.is_some());
        let living: Vec<_> = living.map(|(index, _)| index).collect();
        (!living.is_empty()).then(|| *self.random.pick(&living))
    }

    fn kill_some_worker(&mut self) {
        let workers: Vec<_> = (self.task_managers.iter().enumerate())
            .flat_map(|(index, process)| process.workers.keys().map(move |worker| (index, *worker)))
            .collect();
        if !workers.is_empty() {
            let (index, worker) = *self.random.pick(&workers);
            self.kill_worker(index, worker, "killed by signal 11 (SIGSEGV)");
        }
    }

    fn kill_some_coordinator(&mut self) {
        let living = self.coordinators.iter().filter(|(_, coordinator)| coordinator.alive);
        let living: Vec<_> = living.map(|(job, coordinator)| (*job, coordinator.instance)).collect();
        if !living.is_empty() {
            let (job, instance) = *self.random.pick(&living);
            self.after(Duration::ZERO, Happening::Coordinator { job, instance, step: super::coordinator::Step::Die });
        }
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.log(|_| "nothing goes wrong any more".to_owned());
    }
}
