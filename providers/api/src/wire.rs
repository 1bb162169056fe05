//! Conversions to and from `provider.proto`, whose bytes cross the plugin boundary.
//!
//! Whatever a later version may add is left out rather than refused: unknown messages become `None`, unknown capabilities are skipped.

use std::time::Duration;

use weir_model::TaskManagerId;
use weir_proto::provider as proto;

use crate::{
    Capability, Description, FinalStatus, OpenRequest, ProviderEvent, ProviderRequest, RecoveredWorker,
    ResourceProfile, WorkerFile, WorkerSpec,
};

/// A message that decodes as protobuf but does not keep the contract. Who: the side that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A field that must be set is not.
    #[error("{message} has no {field}, but it needs one")]
    Missing {
        /// Name of the message.
        message: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// A digest of the wrong length.
    #[error(
        "the SHA-256 of the file {path:?} is {found} bytes long, but it has 32 bytes (or none, when it is not known)"
    )]
    Digest {
        /// The file's path in the working folder.
        path: String,
        /// Length in bytes.
        found: usize,
    },
    /// A path that protobuf text cannot carry.
    #[error("the state folder {0:?} is not UTF-8: choose another one")]
    StateDir(std::path::PathBuf),
}

fn id(message: &'static str, text: String) -> Result<TaskManagerId, WireError> {
    if text.is_empty() { Err(WireError::Missing { message, field: "id" }) } else { Ok(TaskManagerId::new(text)) }
}

impl From<Description> for proto::Description {
    fn from(description: Description) -> Self {
        let capabilities = description.capabilities.into_iter().map(|it| proto::Capability::from(it) as i32).collect();
        Self { name: description.name, version: description.version, summary: description.summary, capabilities }
    }
}

impl From<proto::Description> for Description {
    fn from(message: proto::Description) -> Self {
        let capabilities = message.capabilities().filter_map(capability).collect();
        Self { name: message.name, version: message.version, summary: message.summary, capabilities }
    }
}

impl From<Capability> for proto::Capability {
    fn from(capability: Capability) -> Self {
        match capability {
            Capability::Recover => Self::Recover,
            Capability::Demand => Self::Demand,
            Capability::Draining => Self::Draining,
            Capability::Capacity => Self::Capacity,
        }
    }
}

fn capability(message: proto::Capability) -> Option<Capability> {
    match message {
        proto::Capability::Unspecified => None,
        proto::Capability::Recover => Some(Capability::Recover),
        proto::Capability::Demand => Some(Capability::Demand),
        proto::Capability::Draining => Some(Capability::Draining),
        proto::Capability::Capacity => Some(Capability::Capacity),
    }
}

impl TryFrom<OpenRequest> for proto::OpenRequest {
    type Error = WireError;

    fn try_from(request: OpenRequest) -> Result<Self, WireError> {
        let state_dir =
            request.state_dir.into_os_string().into_string().map_err(|path| WireError::StateDir(path.into()))?;
        Ok(Self { cluster_id: request.cluster_id, configuration: request.configuration, state_dir })
    }
}

impl From<proto::OpenRequest> for OpenRequest {
    fn from(message: proto::OpenRequest) -> Self {
        Self {
            cluster_id: message.cluster_id,
            configuration: message.configuration,
            state_dir: message.state_dir.into(),
        }
    }
}

impl From<ProviderRequest> for proto::Request {
    fn from(request: ProviderRequest) -> Self {
        use proto::request::Request;
        let request = match request {
            ProviderRequest::RecoverWorkers => Request::RecoverWorkers(proto::RecoverWorkers {}),
            ProviderRequest::StartWorker(spec) => Request::StartWorker(proto::StartWorker { spec: Some(spec.into()) }),
            ProviderRequest::StopWorker(id) => Request::StopWorker(proto::StopWorker { id: id.to_string() }),
            ProviderRequest::DeclareDemand { workers } => Request::DeclareDemand(proto::DeclareDemand { workers }),
            ProviderRequest::Shutdown { stop_workers, status, message } => {
                let status = proto::FinalStatus::from(status) as i32;
                Request::Shutdown(proto::Shutdown { stop_workers, status, message })
            }
        };
        Self { request: Some(request) }
    }
}

impl ProviderRequest {
    /// The request in `message`; `None` if it is one that this version does not know.
    pub fn from_wire(message: proto::Request) -> Result<Option<Self>, WireError> {
        use proto::request::Request;
        let Some(request) = message.request else { return Ok(None) };
        Ok(Some(match request {
            Request::RecoverWorkers(proto::RecoverWorkers {}) => Self::RecoverWorkers,
            Request::StartWorker(start) => {
                let spec = start.spec.ok_or(WireError::Missing { message: "StartWorker", field: "spec" })?;
                Self::StartWorker(spec.try_into()?)
            }
            Request::StopWorker(stop) => Self::StopWorker(id("StopWorker", stop.id)?),
            Request::DeclareDemand(demand) => Self::DeclareDemand { workers: demand.workers },
            Request::Shutdown(shutdown) => Self::Shutdown {
                stop_workers: shutdown.stop_workers,
                status: final_status(shutdown.status()),
                message: shutdown.message,
            },
        }))
    }
}

impl From<FinalStatus> for proto::FinalStatus {
    fn from(status: FinalStatus) -> Self {
        match status {
            FinalStatus::Succeeded => Self::Succeeded,
            FinalStatus::Failed => Self::Failed,
            FinalStatus::Canceled => Self::Canceled,
        }
    }
}

/// A shutdown is obeyed whatever its status; one that is not known is taken for the worst.
fn final_status(message: proto::FinalStatus) -> FinalStatus {
    match message {
        proto::FinalStatus::Succeeded => FinalStatus::Succeeded,
        proto::FinalStatus::Canceled => FinalStatus::Canceled,
        proto::FinalStatus::Failed | proto::FinalStatus::Unspecified => FinalStatus::Failed,
    }
}

impl From<WorkerSpec> for proto::WorkerSpec {
    fn from(spec: WorkerSpec) -> Self {
        Self {
            id: spec.id.to_string(),
            resources: Some(spec.resources.into()),
            slots: spec.slots,
            command: spec.command,
            environment: spec.environment,
            files: spec.files.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::WorkerSpec> for WorkerSpec {
    type Error = WireError;

    fn try_from(message: proto::WorkerSpec) -> Result<Self, WireError> {
        Ok(Self {
            id: id("WorkerSpec", message.id)?,
            resources: message.resources.map(Into::into).unwrap_or_default(),
            slots: message.slots,
            command: message.command,
            environment: message.environment,
            files: message.files.into_iter().map(WorkerFile::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<ResourceProfile> for proto::ResourceProfile {
    fn from(profile: ResourceProfile) -> Self {
        Self {
            cpu_cores: profile.cpu_cores,
            memory_bytes: profile.memory_bytes,
            disk_bytes: profile.disk_bytes,
            named: profile.named,
        }
    }
}

impl From<proto::ResourceProfile> for ResourceProfile {
    fn from(message: proto::ResourceProfile) -> Self {
        Self {
            cpu_cores: message.cpu_cores,
            memory_bytes: message.memory_bytes,
            disk_bytes: message.disk_bytes,
            named: message.named,
        }
    }
}

impl From<WorkerFile> for proto::File {
    fn from(file: WorkerFile) -> Self {
        let sha256 = file.sha256.map(|digest| digest.to_vec()).unwrap_or_default();
        Self { path: file.path, uri: file.uri, sha256, executable: file.executable }
    }
}

impl TryFrom<proto::File> for WorkerFile {
    type Error = WireError;

    fn try_from(message: proto::File) -> Result<Self, WireError> {
        let sha256 = match message.sha256.len() {
            0 => None,
            _ => match <[u8; 32]>::try_from(&message.sha256[..]) {
                Ok(digest) => Some(digest),
                Err(_) => return Err(WireError::Digest { path: message.path, found: message.sha256.len() }),
            },
        };
        Ok(Self { path: message.path, uri: message.uri, sha256, executable: message.executable })
    }
}

impl From<ProviderEvent> for proto::Event {
    fn from(event: ProviderEvent) -> Self {
        use proto::event::Event;
        let event = match event {
            ProviderEvent::Recovered(workers) => {
                Event::Recovered(proto::Recovered { workers: workers.into_iter().map(Into::into).collect() })
            }
            ProviderEvent::Started { id, location } => {
                Event::Started(proto::WorkerStarted { id: id.to_string(), location })
            }
            ProviderEvent::Ready { id } => Event::Ready(proto::WorkerReady { id: id.to_string() }),
            ProviderEvent::Terminated { id, reason, retryable } => {
                Event::Terminated(proto::WorkerTerminated { id: id.to_string(), reason, retryable })
            }
            ProviderEvent::Draining { id, deadline, reason } => Event::Draining(proto::WorkerDraining {
                id: id.to_string(),
                deadline_millis: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
                reason,
            }),
            ProviderEvent::Capacity { max_workers, message } => {
                Event::Capacity(proto::CapacityHint { max_workers, message })
            }
            ProviderEvent::Failed { message, fatal } => Event::Failed(proto::ProviderFailed { message, fatal }),
            ProviderEvent::Closed => Event::Closed(proto::Closed {}),
        };
        Self { event: Some(event) }
    }
}

impl ProviderEvent {
    /// The event in `message`; `None` if it is one that this version does not know.
    pub fn from_wire(message: proto::Event) -> Result<Option<Self>, WireError> {
        use proto::event::Event;
        let Some(event) = message.event else { return Ok(None) };
        Ok(Some(match event {
            Event::Recovered(recovered) => {
                Self::Recovered(recovered.workers.into_iter().map(RecoveredWorker::try_from).collect::<Result<_, _>>()?)
            }
            Event::Started(started) => {
                Self::Started { id: id("WorkerStarted", started.id)?, location: started.location }
            }
            Event::Ready(ready) => Self::Ready { id: id("WorkerReady", ready.id)? },
            Event::Terminated(terminated) => Self::Terminated {
                id: id("WorkerTerminated", terminated.id)?,
                reason: terminated.reason,
                retryable: terminated.retryable,
            },
            Event::Draining(draining) => Self::Draining {
                id: id("WorkerDraining", draining.id)?,
                deadline: Duration::from_millis(draining.deadline_millis),
                reason: draining.reason,
            },
            Event::Capacity(capacity) => {
                Self::Capacity { max_workers: capacity.max_workers, message: capacity.message }
            }
            Event::Failed(failed) => Self::Failed { message: failed.message, fatal: failed.fatal },
            Event::Closed(proto::Closed {}) => Self::Closed,
        }))
    }
}

impl From<RecoveredWorker> for proto::RecoveredWorker {
    fn from(worker: RecoveredWorker) -> Self {
        Self { id: worker.id.to_string(), slots: worker.slots, location: worker.location }
    }
}

impl TryFrom<proto::RecoveredWorker> for RecoveredWorker {
    type Error = WireError;

    fn try_from(message: proto::RecoveredWorker) -> Result<Self, WireError> {
        Ok(Self { id: id("RecoveredWorker", message.id)?, slots: message.slots, location: message.location })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    fn spec() -> WorkerSpec {
        WorkerSpec {
            id: TaskManagerId::new("tm-1"),
            resources: ResourceProfile {
                cpu_cores: 1.5,
                memory_bytes: 1 << 30,
                disk_bytes: 7,
                named: BTreeMap::from([("gpu".to_owned(), 2.0)]),
            },
            slots: 4,
            command: vec!["weir".to_owned(), "taskmanager".to_owned()],
            environment: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            files: vec![
                WorkerFile {
                    path: "weir".to_owned(),
                    uri: "file:///weir".to_owned(),
                    sha256: Some([7; 32]),
                    executable: true,
                },
                WorkerFile { path: "x".to_owned(), uri: "file:///x".to_owned(), sha256: None, executable: false },
            ],
        }
    }

    #[test]
    fn every_request_survives_the_wire() {
        let id = TaskManagerId::new("tm-1");
        let mut requests = vec![
            ProviderRequest::RecoverWorkers,
            ProviderRequest::StartWorker(spec()),
            ProviderRequest::StopWorker(id),
            ProviderRequest::DeclareDemand { workers: 3 },
        ];
        for status in [FinalStatus::Succeeded, FinalStatus::Failed, FinalStatus::Canceled] {
            requests.push(ProviderRequest::Shutdown { stop_workers: true, status, message: "why".to_owned() });
        }
        for request in requests {
            let message = proto::Request::from(request.clone());
            assert_eq!(ProviderRequest::from_wire(message), Ok(Some(request)));
        }
    }

    #[test]
    fn every_event_survives_the_wire() {
        let id = || TaskManagerId::new("tm-1");
        let text = || "text".to_owned();
        let events = [
            ProviderEvent::Recovered(vec![RecoveredWorker { id: id(), slots: 2, location: text() }]),
            ProviderEvent::Started { id: id(), location: text() },
            ProviderEvent::Ready { id: id() },
            ProviderEvent::Terminated { id: id(), reason: text(), retryable: true },
            ProviderEvent::Draining { id: id(), deadline: Duration::from_millis(1500), reason: text() },
            ProviderEvent::Capacity { max_workers: Some(0), message: text() },
            ProviderEvent::Capacity { max_workers: None, message: text() },
            ProviderEvent::Failed { message: text(), fatal: true },
            ProviderEvent::Closed,
        ];
        for event in events {
            assert_eq!(ProviderEvent::from_wire(proto::Event::from(event.clone())), Ok(Some(event)));
        }
    }

    #[test]
    fn messages_of_a_later_version_are_left_out() {
        assert_eq!(ProviderRequest::from_wire(proto::Request { request: None }), Ok(None));
        assert_eq!(ProviderEvent::from_wire(proto::Event { event: None }), Ok(None));
        let message = proto::Description { capabilities: vec![1, 99], ..Default::default() };
        assert_eq!(Description::from(message).capabilities, [Capability::Recover]);
    }

    #[test]
    fn a_description_and_an_open_request_survive_the_wire() {
        use Capability::{Capacity, Demand, Draining, Recover};
        let description = Description {
            name: "n".to_owned(),
            version: "1".to_owned(),
            summary: "s".to_owned(),
            capabilities: vec![Recover, Demand, Draining, Capacity],
        };
        assert_eq!(Description::from(proto::Description::from(description.clone())), description);
        let request = OpenRequest {
            cluster_id: "c".to_owned(),
            configuration: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            state_dir: PathBuf::from("/state"),
        };
        assert_eq!(OpenRequest::from(proto::OpenRequest::try_from(request.clone()).unwrap()), request);
    }

    #[test]
    fn broken_messages_are_refused_with_the_field() {
        let stop = proto::request::Request::StopWorker(proto::StopWorker { id: String::new() });
        let error = ProviderRequest::from_wire(proto::Request { request: Some(stop) }).unwrap_err();
        assert_eq!(error.to_string(), "StopWorker has no id, but it needs one");

        let mut broken = proto::WorkerSpec::from(spec());
        broken.files[0].sha256.truncate(31);
        let error = WorkerSpec::try_from(broken).unwrap_err();
        assert!(error.to_string().contains("31 bytes"), "{error}");
    }
}
