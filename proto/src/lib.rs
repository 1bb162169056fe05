//! Contracts between Weir's processes: the `.proto` files, the code generated from them, and the way to and from the model.
//!
//! Owns what travels and how it is framed. Never opens a socket, never decides anything. The SDK, the runtime and the
//! cluster's components speak through it. The generated code is checked in; `tests/generated.rs` keeps it current.

pub mod artifact;
#[cfg(feature = "grpc")]
mod control_convert;
mod elf;
mod frame;
mod job_graph_convert;
pub mod roles;
mod worker_convert;

pub use frame::{FrameError, MAX_FRAME_BYTES, read_frame, write_frame};
pub use job_graph_convert::job_graph_hash;

/// `weir/job_graph.proto`: the plan of a job.
#[allow(missing_docs, reason = "generated; described in the .proto file")]
pub mod job_graph {
    include!("generated/weir.job_graph.rs");
}

/// `weir/worker.proto`: what a worker process and its driver tell each other.
#[allow(missing_docs, reason = "generated; described in the .proto file")]
pub mod worker {
    include!("generated/weir.worker.rs");

    /// The version of the protocol this crate speaks; [`Hello`] carries it, and so does the note in a job's executable.
    pub const PROTOCOL_VERSION: u32 = 3;
}

/// `weir/coordinator.proto`: what the coordinator process of a job and its JobManager tell each other. Its version is that
/// of [`worker`]: both are spoken by the same executable.
#[allow(missing_docs, reason = "generated; described in the .proto file")]
pub mod coordinator {
    include!("generated/weir.coordinator.rs");
}

/// `weir/provider.proto`: what the JobManager and a resource-provider plugin tell each other.
#[allow(missing_docs, reason = "generated; described in the .proto file")]
pub mod provider {
    include!("generated/weir.provider.rs");
}

/// `weir/storage.proto`: what a worker process and the storage service of its TaskManager tell each other.
#[allow(missing_docs, reason = "generated; described in the .proto file")]
pub mod storage {
    include!("generated/weir.storage.rs");

    /// The version of the protocol this crate speaks; [`Request`] carries it.
    pub const PROTOCOL_VERSION: u32 = 1;
    /// The longest chunk of a file, in bytes.
    pub const MAX_CHUNK_BYTES: usize = 1 << 20;
    /// The longest [`Request`], in bytes.
    pub const MAX_REQUEST_BYTES: usize = 64 << 10;
}

/// `weir/control.proto`: the service between TaskManagers and the JobManager.
#[cfg(feature = "grpc")]
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated; described in the .proto file")]
pub mod control {
    include!("generated/weir.control.rs");

    pub use crate::control_convert::{ForJobManager, ForTaskManager, Registration, Timing, encode_plan};

    /// The version of the protocol this crate speaks; [`Register`] carries it.
    pub const PROTOCOL_VERSION: u32 = 2;
}

/// A message that decodes as protobuf but says nothing the model knows. Who: the process that sent it, most likely of another version of Weir.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// An id that is not 16 bytes long.
    #[error("{what} is {found} bytes long, but an id has 16 bytes")]
    IdLength {
        /// Which id.
        what: String,
        /// Its length in bytes.
        found: usize,
    },
    /// A binary field of a fixed length that has another one.
    #[error("{what} is {found} bytes long, but it has {expected} bytes")]
    Length {
        /// Which field.
        what: String,
        /// Its length in bytes.
        found: usize,
        /// The length it must have, in bytes.
        expected: usize,
    },
    /// A field that must be set.
    #[error("{what} is missing: use the same version of Weir on both sides")]
    Missing {
        /// Which field.
        what: String,
    },
    /// A text that is not an address.
    #[error("{what} is {found:?}, which is no address: expected host:port with a numeric host")]
    Address {
        /// Which field.
        what: String,
        /// The text found.
        found: String,
    },
    /// A number that is no value of its enum here.
    #[error(
        "{what} has the value {found}, which this version of Weir does not know: use the same version of Weir on both sides"
    )]
    UnknownValue {
        /// Which field.
        what: String,
        /// The number found.
        found: i32,
    },
    /// An option set twice.
    #[error("the option {key:?} is set twice in the job graph's config, but a key has one value")]
    DuplicateKey {
        /// The option's key.
        key: String,
    },
    /// A placement that does not fit its vertex.
    #[error("the placement of vertex {vertex} is broken: {problem}")]
    Placement {
        /// Position of the vertex.
        vertex: u32,
        /// What is wrong with it.
        problem: String,
    },
}
