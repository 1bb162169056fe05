//! Checkpoints as plain data and pure decisions: what a snapshot consists of, how its metadata is written, the life of a
//! checkpoint from its trigger to its removal, which task restores what, and which changes of a state's schema are possible.
//!
//! Never does I/O, never reads a clock. The JobMaster, the driver of embedded runs and the simulation feed the coordinator;
//! tasks make snapshots of the types here; tools read metadata with it.

mod assign;
mod codec;
mod completed;
mod coordinator;
mod declarations;
mod event;
mod job;
mod metadata;
mod migration;
mod options;
mod schema;
mod snapshot;
#[cfg(test)]
mod testing;
mod uri;
mod view;

pub use assign::{AssignError, Assignment, assign};
pub use codec::{DecodeError, FORMAT_VERSION, MetadataError};
pub use completed::{CompletedCheckpoint, RestoreMode, RestorePoint};
pub use coordinator::CheckpointCoordinator;
pub use declarations::{
    Carried, ListDeclaration, OperatorDeclaration, Refused, StateDeclarations, TableDeclaration, check,
};
pub use event::{Acknowledgement, CheckpointEffect, CheckpointEvent, Removal, RequestOutcome, StopMode};
pub use job::{CheckpointJob, JobVertexState, VertexInput};
pub use metadata::{CheckpointMetadata, OperatorMetadata, SubtaskState};
pub use migration::{Incompatible, Migration, migration};
pub use options::{CheckpointMode, CheckpointOptions, Externalized};
pub use schema::{Field, Schema, SchemaBuilder, Variant};
pub use snapshot::{
    Column, FileSlice, GroupSlice, IN_FLIGHT, ListSnapshot, Location, OperatorSnapshot, Redistribution, SortedFile,
    StateKind, TableSnapshot, TaskSnapshot,
};
pub use uri::METADATA_FILE;
pub use view::{
    CheckpointCounts, CheckpointStatus, CheckpointSummary, CheckpointView, CheckpointsView, Distribution, RestoredView,
    SubtaskCheckpointView, VertexCheckpointView,
};
pub use weir_model::{Alignment, CheckpointKind, CheckpointTrigger, DeclineCause, SnapshotMetrics};
