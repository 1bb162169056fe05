//! Typed configuration options under Flink's key names.
//!
//! Owns the list of options ([`options`]), what their values look like, and [`Configuration`]: which value holds and where it came from.
//! Never reads the environment or a clock by itself, nor a file unless it is named, and there is no global: whoever starts a process builds a
//! Configuration once and passes it down.

mod choices;
mod configuration;
mod error;
#[cfg(feature = "file")]
mod file;
mod option;
pub mod options;
mod reference;
mod value;

pub use choices::{CheckpointRetention, CheckpointingMode, ClaimMode, SchedulerType, StateBackendType};
pub use configuration::{Configuration, FOLDER_VARIABLE, Origin, is_secret, variable};
pub use error::ConfigError;
pub use option::{AnyOption, ConfigOption, Scope};
pub use options::all_options;
pub use reference::reference_markdown;
pub use value::{
    BufferTimeout, ByteSize, ConfigValue, FailoverStrategy, List, LoadBalanceMode, LogLevel, RestartStrategyType,
    RuntimeMode, Secret,
};
