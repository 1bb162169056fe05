//! The conformance suite passes a provider that keeps the contract, and notices each way of breaking it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use weir_provider_api::conformance::{Level, Setup, names, run};
use weir_provider_api::{
    Capability, Description, EventSink, OpenError, OpenRequest, Provider, ProviderEvent, ProviderFactory,
    ProviderRequest, RecoveredWorker, TaskManagerId, WorkerSpec,
};

/// How a provider breaks the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NoName,
    ReadyFirst,
    StartsTwice,
    NeverReady,
    EndsTwice,
    EndsWithoutReason,
    KeepsItsCaller,
    HidesTheStatus,
    HidesTheSignal,
    ClosesEarly,
    TalksAfterClosed,
    StopsAllOnAnUnknownOne,
    ObeysTheHint,
    LosesWhatIsLeft,
    RecoversWithoutSlots,
    RecoversOtherClusters,
    ExceedsItsCapacity,
    InventsWorkers,
    Panics,
}

/// Workers that run, by cluster: what a real provider finds again.
type World = Arc<Mutex<BTreeMap<String, BTreeMap<TaskManagerId, u32>>>>;

struct Factory {
    fault: Fault,
    world: World,
}

struct Pretender {
    fault: Fault,
    world: World,
    cluster: String,
    events: EventSink,
    ended: BTreeSet<TaskManagerId>,
}

const CAPACITY: usize = 4;

impl ProviderFactory for Factory {
    fn describe(&self) -> Description {
        let name = if self.fault == Fault::NoName { "" } else { "pretender" };
        Description {
            name: name.to_owned(),
            version: "1".to_owned(),
            summary: "Pretends".to_owned(),
            capabilities: vec![Capability::Recover, Capability::Capacity],
        }
    }

    fn open(&self, request: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        let (fault, world, cluster) = (self.fault, self.world.clone(), request.cluster_id);
        Ok(Box::new(Pretender { fault, world, cluster, events, ended: BTreeSet::new() }))
    }
}

impl Pretender {
    fn tell(&self, event: ProviderEvent) {
        (self.events)(event);
    }

    fn workers(&self) -> BTreeMap<TaskManagerId, u32> {
        self.world.lock().expect("not poisoned").entry(self.cluster.clone()).or_default().clone()
    }

    fn recover(&self) {
        let world = self.world.lock().expect("not poisoned").clone();
        let all = self.fault == Fault::RecoversOtherClusters;
        let found = world.into_iter().filter(|(cluster, _)| all || *cluster == self.cluster).flat_map(|it| it.1);
        let slots = |slots| if self.fault == Fault::RecoversWithoutSlots { 0 } else { slots };
        let found = found.map(|(id, has)| RecoveredWorker { id, slots: slots(has), location: String::new() });
        self.tell(ProviderEvent::Recovered(found.collect()));
        self.tell(ProviderEvent::Capacity { max_workers: Some(CAPACITY as u32), message: String::new() });
    }

    fn start(&mut self, spec: WorkerSpec) {
        let id = spec.id;
        if self.fault == Fault::Panics {
            panic!("it panics");
        }
        if spec.command[0].starts_with("/nonexistent") {
            return self.end(id, "no such program");
        }
        if self.workers().len() >= CAPACITY && self.fault != Fault::ExceedsItsCapacity {
            return self.end(id, "there is no room");
        }
        let started = ProviderEvent::Started { id: id.clone(), location: String::new() };
        let ready = ProviderEvent::Ready { id: id.clone() };
        let told = match self.fault {
            Fault::ReadyFirst => vec![ready, started],
            Fault::StartsTwice => vec![started.clone(), started, ready],
            Fault::NeverReady => vec![started],
            _ => vec![started, ready],
        };
        told.into_iter().for_each(|event| self.tell(event));
        match spec.command.last().map(String::as_str) {
            Some("exit 7") if self.fault == Fault::HidesTheStatus => self.end(id, "it ended"),
            Some("exit 7") => self.end(id, "it exited with status 7"),
            Some("kill -9 $$") if self.fault == Fault::HidesTheSignal => self.end(id, "it ended"),
            Some("kill -9 $$") => self.end(id, "signal 9"),
            _ => {
                let mut world = self.world.lock().expect("not poisoned");
                world.entry(self.cluster.clone()).or_default().insert(id, spec.slots);
            }
        }
    }

    fn end(&mut self, id: TaskManagerId, reason: &str) {
        self.world.lock().expect("not poisoned").entry(self.cluster.clone()).or_default().remove(&id);
        self.ended.insert(id.clone());
        let reason = if self.fault == Fault::EndsWithoutReason { " " } else { reason }.to_owned();
        self.tell(ProviderEvent::Terminated { id, reason, retryable: true });
    }

    fn stop(&mut self, id: TaskManagerId) {
        if self.workers().contains_key(&id) {
            self.end(id, "stopped");
        } else if self.fault == Fault::StopsAllOnAnUnknownOne {
            self.stop_all();
        } else if self.fault == Fault::EndsTwice && self.ended.contains(&id) {
            self.end(id, "stopped");
        }
    }

    fn stop_all(&mut self) {
        for id in self.workers().into_keys() {
            self.end(id, "stopped");
        }
    }

    fn shut_down(&mut self, stop_workers: bool) {
        match (stop_workers, self.fault) {
            (true, Fault::ClosesEarly) => {
                self.tell(ProviderEvent::Closed);
                self.world.lock().expect("not poisoned").remove(&self.cluster);
                return;
            }
            (true, _) => self.stop_all(),
            (false, Fault::LosesWhatIsLeft) => {
                self.world.lock().expect("not poisoned").remove(&self.cluster);
            }
            (false, _) => {}
        }
        self.tell(ProviderEvent::Closed);
        if self.fault == Fault::TalksAfterClosed {
            self.tell(ProviderEvent::Capacity { max_workers: None, message: String::new() });
        }
    }
}

impl Provider for Pretender {
    fn request(&mut self, request: ProviderRequest) {
        match request {
            ProviderRequest::RecoverWorkers => self.recover(),
            ProviderRequest::StartWorker(spec) => {
                if self.fault == Fault::KeepsItsCaller {
                    thread::sleep(Duration::from_millis(600));
                }
                if self.fault == Fault::InventsWorkers {
                    let id = TaskManagerId::new("nobody-asked");
                    self.tell(ProviderEvent::Started { id, location: String::new() });
                }
                self.start(spec);
            }
            ProviderRequest::StopWorker(id) => self.stop(id),
            ProviderRequest::DeclareDemand { workers: 0 } if self.fault == Fault::ObeysTheHint => self.stop_all(),
            ProviderRequest::DeclareDemand { .. } => {}
            ProviderRequest::Shutdown { stop_workers, .. } => self.shut_down(stop_workers),
        }
    }
}

/// Names of the checks that a provider with this fault does not pass.
fn failed(fault: Fault, level: Level) -> Vec<&'static str> {
    let mut setup = Setup::with_shell("unused");
    setup.patience = Duration::from_millis(800);
    setup.request_limit = Duration::from_millis(500);
    // So that clusters exist side by side.
    setup.checks_at_once = 12;
    let factory = Factory { fault, world: World::default() };
    let report = run(&factory, &setup, level);
    assert_eq!(report.outcomes.len(), names(&factory, level).len());
    assert_eq!(report.passed(), report.outcomes.iter().all(|outcome| outcome.result.is_ok()));
    let failed = report.outcomes.into_iter().filter(|outcome| outcome.result.is_err());
    failed.map(|outcome| outcome.check).collect()
}

#[test]
fn a_provider_that_keeps_the_contract_passes() {
    let setup = Setup::with_shell("unused");
    let factory = Factory { fault: Fault::None, world: World::default() };
    run(&factory, &setup, Level::Full).assert_passed();
    assert!(names(&factory, Level::Basic).len() < names(&factory, Level::Full).len());
}

#[test]
fn each_fault_is_noticed_by_the_check_that_is_about_it() {
    let faults = [
        (Fault::NoName, "describes-itself"),
        (Fault::ReadyFirst, "starts-and-stops-a-worker"),
        (Fault::StartsTwice, "starts-and-stops-a-worker"),
        (Fault::NeverReady, "starts-and-stops-a-worker"),
        (Fault::EndsTwice, "stops-once-when-told-twice"),
        (Fault::EndsWithoutReason, "reports-a-command-that-cannot-start"),
        (Fault::KeepsItsCaller, "starts-and-stops-a-worker"),
        (Fault::HidesTheStatus, "names-the-exit-status"),
        (Fault::HidesTheSignal, "names-the-signal"),
        (Fault::ClosesEarly, "shutdown-stops-workers"),
        (Fault::TalksAfterClosed, "recovers-nothing-in-a-new-cluster"),
        (Fault::StopsAllOnAnUnknownOne, "keeps-two-clusters-apart"),
        (Fault::ObeysTheHint, "takes-a-hint-of-demand"),
        (Fault::LosesWhatIsLeft, "recovers-workers-that-were-left"),
        (Fault::RecoversWithoutSlots, "recovers-workers-that-were-left"),
        (Fault::RecoversOtherClusters, "does-not-recover-another-cluster"),
        (Fault::ExceedsItsCapacity, "refuses-more-than-its-capacity"),
        (Fault::InventsWorkers, "starts-and-stops-a-worker"),
        (Fault::Panics, "starts-and-stops-a-worker"),
    ];
    thread::scope(|scope| {
        let runs = faults.map(|(fault, check)| (fault, check, scope.spawn(move || failed(fault, Level::Full))));
        for (fault, check, run) in runs {
            let failed = run.join().expect("the suite does not panic");
            assert!(failed.contains(&check), "{fault:?} is not noticed by {check}, only by {failed:?}");
        }
    });
}
