//! File systems behind one trait, and the content-addressed store of artifacts.
//!
//! Owns bytes at rest. Never decides what is kept or for how long: its users tell it.

mod artifacts;
mod error;
mod file_system;
mod local;
mod location;

pub use artifacts::{ArtifactPin, ArtifactStore, ArtifactStream, Listed, Upload};
pub use error::StorageError;
pub use file_system::{Answer, FileMetadata, FileReader, FileSystem, FileWriter, IfExists, ListedFile};
pub use local::LocalFileSystem;
pub use location::{Location, file_system};
