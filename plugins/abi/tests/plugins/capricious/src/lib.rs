//! A provider that does what it is told to do wrong, by the option `capricious.how`. Its workers are make-believe.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use weir_plugin::LogLevel;
use weir_provider_api::{
    Description, EventSink, OpenError, OpenRequest, Provider, ProviderEvent, ProviderFactory, ProviderRequest,
};

weir_plugin::export_provider!(Capricious);

struct Capricious;

impl ProviderFactory for Capricious {
    fn describe(&self) -> Description {
        Description {
            name: "capricious".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "Does what it should not".to_owned(),
            capabilities: Vec::new(),
        }
    }

    fn open(&self, request: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        weir_plugin::log(LogLevel::Info, "opened");
        let how = request.configuration.get("capricious.how").cloned().unwrap_or_default();
        let release = request.state_dir.join("release");
        match how.as_str() {
            "refuse" => return Err(OpenError("it has no mind to".to_owned())),
            "panic in open" => panic!("no way in"),
            "hang in open" => wait_for(&release),
            _ => {}
        }
        Ok(Box::new(Open { how, release, events: Some(events) }))
    }
}

struct Open {
    how: String,
    release: PathBuf,
    events: Option<EventSink>,
}

impl Provider for Open {
    fn request(&mut self, request: ProviderRequest) {
        let Some(events) = self.events.clone() else { return };
        match request {
            ProviderRequest::RecoverWorkers => events(ProviderEvent::Recovered(Vec::new())),
            ProviderRequest::StartWorker(spec) => {
                match self.how.as_str() {
                    "panic in request" => panic!("no worker {}", spec.id),
                    "panic on a thread" => {
                        let id = spec.id.clone();
                        drop(thread::Builder::new().name("worse".to_owned()).spawn(move || panic!("not {id} either")));
                    }
                    "lose the sink on a thread" => {
                        self.events = None;
                        drop(thread::spawn(move || {
                            let _held = events;
                            panic!("the sink is lost");
                        }));
                        return;
                    }
                    "hang in request" => wait_for(&self.release),
                    _ => {}
                }
                events(ProviderEvent::Started { id: spec.id.clone(), location: "nowhere".to_owned() });
                events(ProviderEvent::Ready { id: spec.id });
            }
            ProviderRequest::StopWorker(id) => {
                events(ProviderEvent::Terminated { id, reason: "stopped".to_owned(), retryable: true });
            }
            ProviderRequest::DeclareDemand { .. } => {}
            ProviderRequest::Shutdown { .. } => {
                events(ProviderEvent::Closed);
                events(ProviderEvent::Failed { message: "told too late".to_owned(), fatal: false });
            }
        }
    }
}

fn wait_for(file: &std::path::Path) {
    while !file.exists() {
        thread::sleep(Duration::from_millis(10));
    }
}
