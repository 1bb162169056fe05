//! The provider as the ResourceManager sees it: puts requests into the keeper's inbox.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};

use weir_provider_api::{
    Capability, Description, EventSink, OpenError, OpenRequest, Provider, ProviderFactory, ProviderRequest,
};

use crate::StandaloneOptions;
use crate::keeper::Keeper;
use crate::records::Records;

/// Makes the standalone provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standalone;

impl ProviderFactory for Standalone {
    fn describe(&self) -> Description {
        Description {
            name: "standalone".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Starts TaskManagers as processes on this machine".to_owned(),
            capabilities: vec![Capability::Recover, Capability::Capacity],
        }
    }

    /// Takes possession of the cluster's records in the state folder, which no other JobManager may use then.
    fn open(&self, request: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let options = StandaloneOptions::from_configuration(&request.configuration, cores).map_err(OpenError)?;
        if request.cluster_id.is_empty() {
            return Err(OpenError(
                "the cluster has no id, so that its TaskManagers could not be told from others".to_owned(),
            ));
        }
        let records = Records::open(&request.state_dir, &request.cluster_id).map_err(OpenError)?;
        let thread_failed = |error| OpenError(format!("the standalone provider's thread cannot be started: {error}"));
        let (wake, woken) = UnixStream::pair().map_err(thread_failed)?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(thread_failed)?;
        }
        let (requests, inbox) = mpsc::channel();
        let keeper = Keeper::new(options, records, events, inbox, woken).map_err(OpenError)?;
        let thread = std::thread::Builder::new().name("standalone".to_owned());
        thread.spawn(move || keeper.run()).map_err(thread_failed)?;
        Ok(Box::new(StandaloneProvider { requests: Some(requests), wake }))
    }
}

struct StandaloneProvider {
    /// `None` while it is dropped.
    requests: Option<Sender<ProviderRequest>>,
    wake: UnixStream,
}

impl StandaloneProvider {
    fn wake(&mut self) {
        // When the pipe is full the keeper has enough to wake up for; when it is closed there is nobody to wake.
        let _ = self.wake.write(&[1]);
    }
}

impl Provider for StandaloneProvider {
    fn request(&mut self, request: ProviderRequest) {
        if let Some(requests) = &self.requests {
            // The keeper only ends after Closed.
            let _ = requests.send(request);
        }
        self.wake();
    }
}

impl Drop for StandaloneProvider {
    fn drop(&mut self) {
        self.requests = None;
        self.wake();
    }
}
