//! Control protocol: what TaskManagers and the JobManager tell each other, from the model to its messages and back.
//!
//! A deployment's plan is large and the same for all its TaskManagers: the JobManager encodes it once ([`encode_plan`]), and a
//! TaskManager passes it on to its worker without looking into it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use prost::bytes::Bytes;
use weir_model as model;

use crate::control::{self as proto, from_task_manager as from, to_task_manager as to};
use crate::{InvalidMessage, worker};

/// What a TaskManager says.
#[derive(Debug, Clone, PartialEq)]
pub enum ForJobManager {
    /// Its first message.
    Register(Box<Registration>),
    /// It is alive.
    Heartbeat {
        /// Its own metrics, by Flink's name without the scope.
        metrics: BTreeMap<String, f64>,
    },
    /// Something about a worker.
    Worker(model::FromTaskManager),
    /// The JobManager's epoch is out of date.
    Fenced {
        /// The greatest epoch the TaskManager has seen.
        current: model::LeaderEpoch,
    },
    /// It is about to end of its own will.
    Leaving {
        /// Why.
        reason: String,
    },
}

/// How a TaskManager introduces itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Version of the control protocol it speaks; to be compared with [`proto::PROTOCOL_VERSION`].
    pub protocol_version: u32,
    /// The cluster it belongs to; empty: any.
    pub cluster_id: String,
    /// The rest.
    pub info: model::TaskManagerInfo,
}

/// What the JobManager says to a TaskManager.
#[derive(Debug, Clone, PartialEq)]
pub enum ForTaskManager {
    /// Welcome.
    Registered(Timing),
    /// The registration is not accepted.
    Refused {
        /// Why.
        reason: String,
        /// Whether asking again later may help.
        retry: bool,
    },
    /// Answers a heartbeat.
    HeartbeatAnswer,
    /// See [`model::ToTaskManager::StartWorker`].
    StartWorker(model::StartWorker),
    /// See [`model::ToTaskManager::Deploy`].
    Deploy {
        /// The deployment.
        deployment: model::DeploymentId,
        /// The receiver's number in the deployment.
        worker: u32,
        /// An encoded `weir.worker.Deploy`, for the worker.
        plan: Bytes,
        /// The state that the receiver's tasks begin with: an encoded `TaskSnapshot` each.
        restore: Vec<(model::TaskId, Vec<u8>)>,
    },
    /// See [`model::ToTaskManager::TriggerCheckpoint`].
    TriggerCheckpoint {
        /// The deployment.
        deployment: model::DeploymentId,
        /// The checkpoint.
        trigger: Arc<model::CheckpointTrigger>,
        /// The receiver's tasks that begin its barrier.
        tasks: Vec<model::TaskId>,
    },
    /// See [`model::ToTaskManager::CheckpointCompleted`].
    CheckpointCompleted {
        /// The deployment.
        deployment: model::DeploymentId,
        /// Its number.
        checkpoint: u64,
    },
    /// See [`model::ToTaskManager::CheckpointAborted`].
    CheckpointAborted {
        /// The deployment.
        deployment: model::DeploymentId,
        /// Its number.
        checkpoint: u64,
    },
    /// See [`model::ToTaskManager::SplitAnswer`].
    SplitAnswer {
        /// The deployment.
        deployment: model::DeploymentId,
        /// Who asked.
        task: model::TaskId,
        /// An encoded `weir.worker.SplitResponse`, for the worker.
        answer: Bytes,
    },
    /// See [`model::ToTaskManager::CancelTasks`].
    CancelTasks {
        /// The deployment.
        deployment: model::DeploymentId,
        /// By vertex and subtask; empty means all of the worker's.
        tasks: Vec<model::TaskId>,
    },
    /// See [`model::ToTaskManager::ReleaseWorker`].
    ReleaseWorker {
        /// The deployment.
        deployment: model::DeploymentId,
    },
    /// See [`model::ToTaskManager::KillWorker`].
    KillWorker {
        /// The deployment.
        deployment: model::DeploymentId,
        /// Why.
        reason: String,
    },
    /// Asks for a file, or for the list of files.
    FileRequest(proto::FileRequest),
    /// Asks what threads are doing.
    StacksRequest {
        /// Names the request in its answer.
        request: u64,
    },
    /// The TaskManager is not needed any more.
    Shutdown {
        /// Why.
        reason: String,
    },
    /// The TaskManager's epoch is out of date.
    Fenced {
        /// The greatest epoch the JobManager has seen.
        current: model::LeaderEpoch,
    },
}

/// How often a registered TaskManager gives signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat_interval: Duration,
    /// Without a sign of life of the other side for this long, the connection counts as lost.
    pub heartbeat_timeout: Duration,
    /// Between reports of tasks' metrics.
    pub metrics_interval: Duration,
}

/// The plan as the workers get it. Encode it once a deployment, not once a TaskManager.
pub fn encode_plan(plan: &model::DeploymentPlan) -> Bytes {
    let address = |(worker, address): (u32, &std::net::SocketAddr)| worker::WorkerAddress {
        worker,
        data_address: address.to_string(),
    };
    let vertices = 0..plan.placement.vertices();
    let message = worker::Deploy {
        peers: (0u32..).zip(&plan.peers).map(address).collect(),
        placements: vertices
            .map(|v| worker::VertexPlacement::from_workers(v, plan.placement.workers_of_vertex(v)))
            .collect(),
        job_graph_hash: plan.job_graph_hash,
        run_id: plan.run_id.clone(),
        deployment: plan.deployment.number,
    };
    message.encode_to_vec().into()
}

impl ForJobManager {
    /// The message on the wire. `epoch`: the leader it is meant for; 0 for [`ForJobManager::Register`].
    pub fn into_message(self, epoch: model::LeaderEpoch) -> proto::FromTaskManager {
        let message = match self {
            ForJobManager::Register(registration) => from::Message::Register((*registration).into()),
            ForJobManager::Heartbeat { metrics } => from::Message::Heartbeat(proto::Heartbeat { metrics }),
            ForJobManager::Worker(message) => worker_message(message),
            ForJobManager::Fenced { current } => from::Message::Fenced(proto::Fenced { current: current.0 }),
            ForJobManager::Leaving { reason } => from::Message::Leaving(proto::Leaving { reason }),
        };
        proto::FromTaskManager { epoch: epoch.0, message: Some(message) }
    }

    /// What a message says, and the epoch of the leader it is meant for. `None`: a newer TaskManager says something that is
    /// not known here, to be skipped.
    pub fn from_message(
        message: proto::FromTaskManager,
    ) -> Result<Option<(model::LeaderEpoch, ForJobManager)>, InvalidMessage> {
        let epoch = model::LeaderEpoch(message.epoch);
        let Some(message) = message.message else { return Ok(None) };
        Ok(Some((
            epoch,
            match message {
                from::Message::Register(register) => ForJobManager::Register(Box::new(register.into())),
                from::Message::Heartbeat(heartbeat) => ForJobManager::Heartbeat { metrics: heartbeat.metrics },
                from::Message::WorkerReady(m) => ForJobManager::Worker(worker_ready(m)?),
                from::Message::TasksChanged(m) => ForJobManager::Worker(model::FromTaskManager::TasksChanged {
                    deployment: deployment(m.deployment)?,
                    changes: m.changes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                }),
                from::Message::SplitRequested(m) => ForJobManager::Worker(model::FromTaskManager::SplitRequested {
                    deployment: deployment(m.deployment)?,
                    task: model::TaskId { vertex: m.vertex, subtask: m.subtask },
                }),
                from::Message::MetricsReported(m) => ForJobManager::Worker(model::FromTaskManager::MetricsReported {
                    deployment: deployment(m.deployment)?,
                    tasks: m.tasks.iter().map(worker::TaskMetrics::snapshot).collect(),
                }),
                from::Message::CheckpointAcknowledged(m) => {
                    ForJobManager::Worker(model::FromTaskManager::CheckpointAcknowledged {
                        deployment: deployment(m.deployment)?,
                        acknowledgement: Box::new(m.acknowledgement.unwrap_or_default().into()),
                    })
                }
                from::Message::CheckpointDeclined(m) => {
                    ForJobManager::Worker(model::FromTaskManager::CheckpointDeclined {
                        deployment: deployment(m.deployment)?,
                        decline: Box::new(m.decline.unwrap_or_default().into()),
                    })
                }
                from::Message::WorkerEnded(m) => ForJobManager::Worker(model::FromTaskManager::WorkerEnded {
                    deployment: deployment(m.deployment)?,
                    reason: m.reason,
                }),
                from::Message::Fenced(fenced) => ForJobManager::Fenced { current: model::LeaderEpoch(fenced.current) },
                from::Message::Leaving(leaving) => ForJobManager::Leaving { reason: leaving.reason },
            },
        )))
    }
}

fn worker_message(message: model::FromTaskManager) -> from::Message {
    use model::FromTaskManager as M;
    let deployment = Some(message.deployment().into());
    match message {
        M::WorkerReady { data_address, pid, .. } => {
            from::Message::WorkerReady(proto::WorkerReady { deployment, data_address: data_address.to_string(), pid })
        }
        M::TasksChanged { changes, .. } => from::Message::TasksChanged(proto::TasksChanged {
            deployment,
            changes: changes.into_iter().map(Into::into).collect(),
        }),
        M::SplitRequested { task, .. } => from::Message::SplitRequested(proto::SplitRequested {
            deployment,
            vertex: task.vertex,
            subtask: task.subtask,
        }),
        M::MetricsReported { tasks, .. } => from::Message::MetricsReported(proto::MetricsReported {
            deployment,
            tasks: tasks.into_iter().map(|(task, metrics)| worker::TaskMetrics::new(task, metrics)).collect(),
        }),
        M::CheckpointAcknowledged { acknowledgement, .. } => {
            from::Message::CheckpointAcknowledged(proto::CheckpointAcknowledged {
                deployment,
                acknowledgement: Some((*acknowledgement).into()),
            })
        }
        M::CheckpointDeclined { decline, .. } => from::Message::CheckpointDeclined(proto::CheckpointDeclined {
            deployment,
            decline: Some((*decline).into()),
        }),
        M::WorkerEnded { reason, .. } => from::Message::WorkerEnded(proto::WorkerEnded { deployment, reason }),
    }
}

fn worker_ready(message: proto::WorkerReady) -> Result<model::FromTaskManager, InvalidMessage> {
    let deployment = deployment(message.deployment)?;
    let data_address = message.data_address.parse().map_err(|_| InvalidMessage::Address {
        what: format!("the data address of the worker of deployment {deployment}"),
        found: message.data_address,
    })?;
    Ok(model::FromTaskManager::WorkerReady { deployment, data_address, pid: message.pid })
}

impl ForTaskManager {
    /// A JobMaster's message. `encoded`: gives the plan as [`encode_plan`] makes it; the caller keeps it, so that all
    /// TaskManagers of a deployment get the same bytes.
    pub fn from_model(
        message: model::ToTaskManager,
        encoded: impl FnOnce(&Arc<model::DeploymentPlan>) -> Bytes,
    ) -> ForTaskManager {
        use model::ToTaskManager as M;
        match message {
            M::StartWorker(start) => ForTaskManager::StartWorker(start),
            M::Deploy { plan, worker, restore } => {
                ForTaskManager::Deploy { deployment: plan.deployment, worker, plan: encoded(&plan), restore }
            }
            M::TriggerCheckpoint { deployment, trigger, tasks } => {
                ForTaskManager::TriggerCheckpoint { deployment, trigger, tasks }
            }
            M::CheckpointCompleted { deployment, checkpoint } => {
                ForTaskManager::CheckpointCompleted { deployment, checkpoint }
            }
            M::CheckpointAborted { deployment, checkpoint } => {
                ForTaskManager::CheckpointAborted { deployment, checkpoint }
            }
            M::SplitAnswer { deployment, task, answer } => {
                ForTaskManager::SplitAnswer { deployment, task, answer: answer.into() }
            }
            M::CancelTasks { deployment, tasks } => ForTaskManager::CancelTasks { deployment, tasks },
            M::ReleaseWorker { deployment } => ForTaskManager::ReleaseWorker { deployment },
            M::KillWorker { deployment, reason } => ForTaskManager::KillWorker { deployment, reason },
        }
    }

    /// The message on the wire. `epoch`: the sender's.
    pub fn into_message(self, epoch: model::LeaderEpoch) -> proto::ToTaskManager {
        let message = match self {
            ForTaskManager::Registered(timing) => to::Message::Registered(timing.into()),
            ForTaskManager::Refused { reason, retry } => to::Message::Refused(proto::Refused { reason, retry }),
            ForTaskManager::HeartbeatAnswer => to::Message::HeartbeatAnswer(proto::HeartbeatAnswer {}),
            ForTaskManager::StartWorker(start) => to::Message::StartWorker(start.into()),
            ForTaskManager::Deploy { deployment, worker, plan, restore } => to::Message::Deploy(proto::Deploy {
                deployment: Some(deployment.into()),
                worker,
                plan,
                restore: restore.into_iter().map(|(task, state)| worker::TaskRestore::new(task, state)).collect(),
            }),
            ForTaskManager::TriggerCheckpoint { deployment, trigger, tasks } => {
                to::Message::TriggerCheckpoint(proto::TriggerCheckpoint {
                    deployment: Some(deployment.into()),
                    trigger: Some(worker::TriggerCheckpoint::new(&trigger, &tasks)),
                })
            }
            ForTaskManager::CheckpointCompleted { deployment, checkpoint } => {
                let deployment = Some(deployment.into());
                to::Message::CheckpointCompleted(proto::CheckpointCompleted { deployment, checkpoint })
            }
            ForTaskManager::CheckpointAborted { deployment, checkpoint } => {
                let deployment = Some(deployment.into());
                to::Message::CheckpointAborted(proto::CheckpointAborted { deployment, checkpoint })
            }
            ForTaskManager::SplitAnswer { deployment, task, answer } => to::Message::SplitAnswer(proto::SplitAnswer {
                deployment: Some(deployment.into()),
                vertex: task.vertex,
                subtask: task.subtask,
                answer,
            }),
            ForTaskManager::CancelTasks { deployment, tasks } => to::Message::CancelTasks(proto::CancelTasks {
                deployment: Some(deployment.into()),
                tasks: tasks
                    .into_iter()
                    .map(|task| worker::TaskRef { vertex: task.vertex, subtask: task.subtask })
                    .collect(),
            }),
            ForTaskManager::ReleaseWorker { deployment } => {
                to::Message::ReleaseWorker(proto::ReleaseWorker { deployment: Some(deployment.into()) })
            }
            ForTaskManager::KillWorker { deployment, reason } => {
                to::Message::KillWorker(proto::KillWorker { deployment: Some(deployment.into()), reason })
            }
            ForTaskManager::FileRequest(request) => to::Message::FileRequest(request),
            ForTaskManager::StacksRequest { request } => to::Message::StacksRequest(proto::StacksRequest { request }),
            ForTaskManager::Shutdown { reason } => to::Message::Shutdown(proto::Shutdown { reason }),
            ForTaskManager::Fenced { current } => to::Message::Fenced(proto::Fenced { current: current.0 }),
        };
        proto::ToTaskManager { epoch: epoch.0, message: Some(message) }
    }

    /// What a message says, and the epoch of its sender. `None`: a newer JobManager says something that is not known here, to
    /// be skipped.
    pub fn from_message(
        message: proto::ToTaskManager,
    ) -> Result<Option<(model::LeaderEpoch, ForTaskManager)>, InvalidMessage> {
        let epoch = model::LeaderEpoch(message.epoch);
        let Some(message) = message.message else { return Ok(None) };
        Ok(Some((
            epoch,
            match message {
                to::Message::Registered(registered) => ForTaskManager::Registered(registered.into()),
                to::Message::Refused(m) => ForTaskManager::Refused { reason: m.reason, retry: m.retry },
                to::Message::HeartbeatAnswer(_) => ForTaskManager::HeartbeatAnswer,
                to::Message::StartWorker(start) => ForTaskManager::StartWorker(start.try_into()?),
                to::Message::Deploy(m) => ForTaskManager::Deploy {
                    deployment: deployment(m.deployment)?,
                    worker: m.worker,
                    plan: m.plan,
                    restore: m.restore.into_iter().map(worker::TaskRestore::into_parts).collect(),
                },
                to::Message::TriggerCheckpoint(m) => {
                    let (trigger, tasks) = m.trigger.unwrap_or_default().into_parts()?;
                    let deployment = deployment(m.deployment)?;
                    ForTaskManager::TriggerCheckpoint { deployment, trigger: Arc::new(trigger), tasks }
                }
                to::Message::CheckpointCompleted(m) => ForTaskManager::CheckpointCompleted {
                    deployment: deployment(m.deployment)?,
                    checkpoint: m.checkpoint,
                },
                to::Message::CheckpointAborted(m) => ForTaskManager::CheckpointAborted {
                    deployment: deployment(m.deployment)?,
                    checkpoint: m.checkpoint,
                },
                to::Message::SplitAnswer(m) => ForTaskManager::SplitAnswer {
                    deployment: deployment(m.deployment)?,
                    task: model::TaskId { vertex: m.vertex, subtask: m.subtask },
                    answer: m.answer,
                },
                to::Message::CancelTasks(m) => ForTaskManager::CancelTasks {
                    deployment: deployment(m.deployment)?,
                    tasks: m.tasks.iter().map(|t| model::TaskId { vertex: t.vertex, subtask: t.subtask }).collect(),
                },
                to::Message::ReleaseWorker(m) => {
                    ForTaskManager::ReleaseWorker { deployment: deployment(m.deployment)? }
                }
                to::Message::KillWorker(m) => {
                    ForTaskManager::KillWorker { deployment: deployment(m.deployment)?, reason: m.reason }
                }
                to::Message::FileRequest(request) => ForTaskManager::FileRequest(request),
                to::Message::StacksRequest(m) => ForTaskManager::StacksRequest { request: m.request },
                to::Message::Shutdown(m) => ForTaskManager::Shutdown { reason: m.reason },
                to::Message::Fenced(m) => ForTaskManager::Fenced { current: model::LeaderEpoch(m.current) },
            },
        )))
    }
}

impl From<Registration> for proto::Register {
    fn from(registration: Registration) -> Self {
        let Registration { protocol_version, cluster_id, info } = registration;
        Self {
            protocol_version,
            cluster_id,
            id: info.id.as_str().to_owned(),
            incarnation: info.incarnation,
            slots: info.slots,
            host: info.host,
            metrics_port: info.metrics_port.into(),
            pid: info.pid,
            memory: info.memory,
            cpu_cores: info.cpu_cores,
            physical_memory: info.physical_memory,
            version: info.version,
        }
    }
}

/// A metrics port that is none counts as no endpoint.
impl From<proto::Register> for Registration {
    fn from(message: proto::Register) -> Self {
        let info = model::TaskManagerInfo {
            id: model::TaskManagerId::new(message.id),
            incarnation: message.incarnation,
            slots: message.slots,
            host: message.host,
            metrics_port: u16::try_from(message.metrics_port).unwrap_or_default(),
            pid: message.pid,
            memory: message.memory,
            cpu_cores: message.cpu_cores,
            physical_memory: message.physical_memory,
            version: message.version,
        };
        Self { protocol_version: message.protocol_version, cluster_id: message.cluster_id, info }
    }
}

impl From<Timing> for proto::Registered {
    fn from(timing: Timing) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            heartbeat_interval_millis: millis(timing.heartbeat_interval),
            heartbeat_timeout_millis: millis(timing.heartbeat_timeout),
            metrics_interval_millis: millis(timing.metrics_interval),
        }
    }
}

impl From<proto::Registered> for Timing {
    fn from(message: proto::Registered) -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(message.heartbeat_interval_millis),
            heartbeat_timeout: Duration::from_millis(message.heartbeat_timeout_millis),
            metrics_interval: Duration::from_millis(message.metrics_interval_millis),
        }
    }
}

impl From<model::DeploymentId> for proto::DeploymentId {
    fn from(id: model::DeploymentId) -> Self {
        Self { job: id.job.as_bytes().to_vec(), number: id.number }
    }
}

impl TryFrom<proto::DeploymentId> for model::DeploymentId {
    type Error = InvalidMessage;

    fn try_from(message: proto::DeploymentId) -> Result<Self, InvalidMessage> {
        let job = model::JobId::from_bytes(fixed(&message.job, "the job id of a deployment")?);
        Ok(Self { job, number: message.number })
    }
}

impl From<model::Artifact> for proto::Artifact {
    fn from(artifact: model::Artifact) -> Self {
        Self { id: artifact.id.as_bytes().to_vec(), size: artifact.size, name: artifact.name }
    }
}

impl TryFrom<proto::Artifact> for model::Artifact {
    type Error = InvalidMessage;

    fn try_from(message: proto::Artifact) -> Result<Self, InvalidMessage> {
        let id = model::ArtifactId::from_bytes(fixed(&message.id, "the id of an artifact")?);
        Ok(Self { id, size: message.size, name: message.name })
    }
}

/// The environment travels sorted by name; of a name that is there twice, the last value.
impl From<model::StartWorker> for proto::StartWorker {
    fn from(start: model::StartWorker) -> Self {
        let launch = Arc::unwrap_or_clone(start.launch);
        Self {
            deployment: Some(start.deployment.into()),
            worker: start.worker,
            artifact: Some(launch.artifact.into()),
            job_name: launch.job_name,
            arguments: launch.arguments,
            environment: launch.environment.into_iter().collect(),
            token: launch.token.to_vec(),
            slots: start.slots,
            job_graph_hash: start.job_graph_hash,
            start_timeout_millis: start.start_timeout_millis,
        }
    }
}

impl TryFrom<proto::StartWorker> for model::StartWorker {
    type Error = InvalidMessage;

    fn try_from(message: proto::StartWorker) -> Result<Self, InvalidMessage> {
        let deployment = deployment(message.deployment)?;
        let missing = |what: &str| InvalidMessage::Missing { what: format!("{what} of deployment {deployment}") };
        if message.slots.is_empty() {
            return Err(missing("the list of slots"));
        }
        let launch = model::Launch {
            artifact: message.artifact.ok_or_else(|| missing("the artifact"))?.try_into()?,
            job_name: message.job_name,
            arguments: message.arguments,
            environment: message.environment.into_iter().collect(),
            token: fixed(&message.token, "the token of a job")?,
        };
        Ok(Self {
            deployment,
            worker: message.worker,
            launch: Arc::new(launch),
            slots: message.slots,
            job_graph_hash: message.job_graph_hash,
            start_timeout_millis: message.start_timeout_millis,
        })
    }
}

fn deployment(message: Option<proto::DeploymentId>) -> Result<model::DeploymentId, InvalidMessage> {
    message.ok_or_else(|| InvalidMessage::Missing { what: "the deployment a message is about".to_owned() })?.try_into()
}

fn fixed<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], InvalidMessage> {
    bytes.try_into().map_err(|_| InvalidMessage::Length { what: what.to_owned(), found: bytes.len(), expected: N })
}

#[cfg(test)]
mod tests;
