//! Typed configuration options under Flink's key names.
//!
//! Owns the list of options ([`options`]), what their values look like, and [`Configuration`]: which value holds and where it came from.
//! Never reads a file, the environment or a clock by itself, and there is no global: whoever starts a process builds a
//! Configuration once and passes it down.

mod configuration;
mod error;
mod option;
pub mod options;
mod reference;
mod value;

pub use configuration::{Configuration, Origin};
pub use error::ConfigError;
pub use option::{AnyOption, ConfigOption};
pub use options::all_options;
pub use reference::reference_markdown;
pub use value::{BufferTimeout, ByteSize, ConfigValue, RuntimeMode};
