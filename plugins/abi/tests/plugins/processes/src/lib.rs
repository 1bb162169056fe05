//! A provider that starts workers as processes of this machine, and finds none of them again: the smallest that is of use.

use std::collections::HashMap;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use weir_provider_api::{
    Description, EventSink, OpenError, OpenRequest, Provider, ProviderEvent, ProviderFactory, ProviderRequest,
    TaskManagerId, WorkerSpec,
};

weir_plugin::export_provider!(Processes);

struct Processes;

impl ProviderFactory for Processes {
    fn describe(&self) -> Description {
        Description {
            name: "processes".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Starts workers as processes of this machine".to_owned(),
            capabilities: Vec::new(),
        }
    }

    fn open(&self, request: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        let nice = request.configuration.get("provider.processes.nice").map_or("0", String::as_str);
        let nice: u8 = nice.parse().map_err(|_| {
            OpenError(format!("provider.processes.nice is {nice:?}, but it has to be a number from 0 to 19"))
        })?;
        Ok(Box::new(Open { events, nice, workers: HashMap::new() }))
    }
}

struct Open {
    events: EventSink,
    nice: u8,
    workers: HashMap<TaskManagerId, (Sender<()>, JoinHandle<()>)>,
}

impl Provider for Open {
    fn request(&mut self, request: ProviderRequest) {
        match request {
            ProviderRequest::RecoverWorkers => (self.events)(ProviderEvent::Recovered(Vec::new())),
            ProviderRequest::StartWorker(spec) => {
                let (stop, stopped) = mpsc::channel();
                let (id, events, nice) = (spec.id.clone(), self.events.clone(), self.nice);
                let keeper = thread::spawn(move || keep(&spec, nice, &stopped, &events));
                self.workers.insert(id, (stop, keeper));
            }
            ProviderRequest::StopWorker(id) => {
                if let Some((stop, _)) = self.workers.remove(&id) {
                    // A worker that has ended by itself does not listen any more.
                    let _ = stop.send(());
                }
            }
            ProviderRequest::DeclareDemand { .. } => {}
            ProviderRequest::Shutdown { stop_workers, .. } => {
                let (events, workers) = (self.events.clone(), std::mem::take(&mut self.workers));
                // Waiting is for another thread: a request returns at once.
                thread::spawn(move || {
                    for (stop, keeper) in workers.into_values().filter(|_| stop_workers) {
                        let _ = stop.send(());
                        let _ = keeper.join();
                    }
                    events(ProviderEvent::Closed);
                });
            }
        }
    }
}

/// The life of a worker.
fn keep(spec: &WorkerSpec, nice: u8, stopped: &Receiver<()>, events: &EventSink) {
    let id = &spec.id;
    let terminated = |reason: String| {
        events(ProviderEvent::Terminated { id: id.clone(), reason, retryable: true });
    };
    let mut child = match start(spec, nice) {
        Ok(child) => child,
        Err(error) => return terminated(format!("{:?} cannot be started: {error}", spec.command)),
    };
    events(ProviderEvent::Started { id: id.clone(), location: format!("pid {}", child.id()) });
    events(ProviderEvent::Ready { id: id.clone() });
    match wait(&mut child, stopped) {
        Some(Ok(status)) => terminated(format!("it ended with {status}")),
        Some(Err(error)) => terminated(format!("it cannot be waited for: {error}")),
        None => {}
    }
}

fn start(spec: &WorkerSpec, nice: u8) -> std::io::Result<Child> {
    let program = spec.command.first().ok_or_else(|| std::io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    if nice > 0 {
        command = Command::new("nice");
        command.args(["-n", &nice.to_string()]).arg(program);
    }
    command.args(&spec.command[1..]).envs(&spec.environment).stdin(Stdio::null()).spawn()
}

/// Until the worker has ended, stopped or not; `None` if the provider is gone and the worker stays.
fn wait(child: &mut Child, stopped: &Receiver<()>) -> Option<std::io::Result<ExitStatus>> {
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Some(Ok(status)),
            Err(error) => return Some(Err(error)),
        }
        match stopped.recv_timeout(Duration::from_millis(20)) {
            Ok(()) => return Some(child.kill().and_then(|()| child.wait())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}
