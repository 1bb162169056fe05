//! What is done to a cluster while a job runs on it.

use std::time::{Duration, Instant};

use super::random::Random;
use crate::harness::{Cluster, Proxy, TaskManager, cut_connections, descendants, exists, kill, resume, stop};

/// TaskManagers there are, with a slot each: one more than the job needs.
pub(super) const TASK_MANAGERS: usize = 3;
/// Longer than `heartbeat.timeout`: whoever gives no sign of life for so long is taken for lost.
const LONG: Duration = Duration::from_millis(1_500);
const SHORT: Duration = Duration::from_millis(100);

/// One harm.
#[derive(Debug, Clone, Copy)]
enum Harm {
    KillWorker,
    KillTaskManager,
    KillCoordinator,
    /// A TaskManager is stopped for a while, its workers go on.
    FreezeTaskManager,
    /// A machine is stopped: a TaskManager with its workers, who believe that nothing has happened when they go on.
    FreezeMachine,
    FreezeWorker,
    FreezeCoordinator,
    /// The connection between a TaskManager and the JobManager breaks; the next one works.
    CutControl,
    /// For a while nothing arrives that the two send each other.
    SwallowControl,
    /// A TaskManager cannot reach the JobManager any more, although it is well, for long or for ever.
    Isolate,
    /// Connections between two workers break.
    CutData,
}

use Harm::{
    CutControl, CutData, FreezeCoordinator, FreezeMachine, FreezeTaskManager, FreezeWorker, Isolate, KillCoordinator,
    KillTaskManager, KillWorker, SwallowControl,
};

/// How often each is chosen.
const HARMS: [Harm; 16] = [
    KillWorker,
    KillWorker,
    KillWorker,
    KillTaskManager,
    KillTaskManager,
    KillCoordinator,
    KillCoordinator,
    FreezeTaskManager,
    FreezeMachine,
    FreezeWorker,
    FreezeCoordinator,
    CutControl,
    SwallowControl,
    Isolate,
    CutData,
    CutData,
];

/// A TaskManager, which reaches the JobManager through a proxy.
struct Machine {
    task_manager: TaskManager,
    proxy: Proxy,
    /// Whether its slots may be counted on.
    well: bool,
}

/// What ends a harm later on.
enum Healing {
    Resume(Vec<u32>),
    /// Of the TaskManager with this id.
    Reconnect(String),
}

/// The machines of a cluster, and what is wrong with them.
pub(super) struct Machines {
    machines: Vec<Machine>,
    healings: Vec<(Instant, Healing)>,
    /// What was done so far.
    pub(super) story: Vec<String>,
    begin: Instant,
}

impl Machines {
    /// Starts the TaskManagers of a cluster that has a JobManager.
    pub(super) fn start(cluster: &mut Cluster) -> Machines {
        let mut machines =
            Machines { machines: Vec::new(), healings: Vec::new(), story: Vec::new(), begin: Instant::now() };
        machines.complete(cluster);
        cluster.wait_for_task_managers(TASK_MANAGERS);
        machines
    }

    /// Starts TaskManagers until there are enough that are well.
    fn complete(&mut self, cluster: &mut Cluster) {
        while self.machines.iter().filter(|machine| machine.well).count() < TASK_MANAGERS {
            let proxy = Proxy::to(cluster.rpc_port());
            let port = format!("jobmanager.rpc.port={}", proxy.port());
            let task_manager = cluster.start_task_manager_with(1, &[&port]);
            self.machines.push(Machine { task_manager, proxy, well: true });
        }
    }

    fn tell(&mut self, what: String) {
        self.story.push(format!("{:6.2} s: {what}", self.begin.elapsed().as_secs_f64()));
    }

    fn heal_after(&mut self, time: Duration, healing: Healing) {
        self.healings.push((Instant::now() + time, healing));
    }

    /// Ends the harms whose time has come; `all`: also the others.
    pub(super) fn heal(&mut self, all: bool) {
        let now = Instant::now();
        let (due, later) = self.healings.drain(..).partition(|(at, _)| all || *at <= now);
        self.healings = later;
        for (_, healing) in due {
            match healing {
                Healing::Resume(pids) => {
                    self.tell(format!("{pids:?} go on"));
                    pids.into_iter().filter(|pid| exists(*pid)).for_each(resume);
                }
                Healing::Reconnect(id) => {
                    self.tell(format!("{id} reaches the JobManager again"));
                    if let Some(machine) = self.machines.iter().find(|machine| machine.task_manager.id == id) {
                        machine.proxy.refuse(false);
                        machine.proxy.swallow(false);
                    }
                }
            }
        }
    }

    /// Does one harm; some end by themselves later.
    pub(super) fn harm(&mut self, cluster: &mut Cluster, job: &str, random: &mut Random) {
        let harm = *random.one_of(&HARMS).expect("there are some");
        let (worker, coordinator) =
            (random.one_of(&cluster.workers(job)).copied(), cluster.coordinators().first().copied());
        let at = random.below(self.machines.len() as u64) as usize;
        let Machine { task_manager: TaskManager { id, pid }, .. } = &self.machines[at];
        let (id, pid) = (id.clone(), *pid);
        let pause = if random.below(2) == 0 { SHORT } else { LONG };
        let victim = match harm {
            KillWorker | FreezeWorker | CutData => worker.map(|pid| format!("worker {pid}")),
            KillCoordinator | FreezeCoordinator => coordinator.map(|pid| format!("coordinator {pid}")),
            _ => Some(id.clone()),
        };
        self.tell(format!("{harm:?}, {}", victim.as_deref().unwrap_or("there is none")));
        match harm {
            KillWorker => worker.into_iter().for_each(kill),
            KillCoordinator => coordinator.into_iter().for_each(kill),
            KillTaskManager => {
                self.machines.remove(at);
                kill(pid);
            }
            FreezeTaskManager => self.freeze(vec![pid], pause),
            FreezeMachine => {
                self.machines[at].well = false;
                // Until long after it was taken for lost, or until the job has ended.
                let pids = [vec![pid], descendants(pid)].concat();
                self.freeze(pids, LONG * (1 + random.below(4) as u32));
            }
            FreezeWorker => worker.into_iter().for_each(|pid| self.freeze(vec![pid], pause)),
            FreezeCoordinator => coordinator.into_iter().for_each(|pid| self.freeze(vec![pid], pause)),
            CutControl => self.machines[at].proxy.cut(),
            SwallowControl => {
                self.machines[at].proxy.swallow(true);
                self.heal_after(pause, Healing::Reconnect(id));
            }
            Isolate => {
                let machine = &mut self.machines[at];
                machine.well = false;
                machine.proxy.refuse(true);
                machine.proxy.cut();
                if random.below(2) == 0 {
                    self.heal_after(LONG * 2, Healing::Reconnect(id));
                }
            }
            CutData => worker.into_iter().for_each(cut_connections),
        }
        self.complete(cluster);
        self.remove_superfluous();
    }

    fn freeze(&mut self, pids: Vec<u32>, time: Duration) {
        pids.iter().copied().for_each(stop);
        self.heal_after(time, Healing::Resume(pids));
    }

    /// Ends what has come back beside its replacement: a machine must not become ever busier.
    fn remove_superfluous(&mut self) {
        while self.machines.len() > 2 * TASK_MANAGERS {
            let lost = self.machines.iter().position(|machine| !machine.well).unwrap_or(0);
            kill(self.machines.remove(lost).task_manager.pid);
        }
    }
}
