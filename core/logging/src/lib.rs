//! Log files of Weir's processes: where they are, how they rotate, how they are read back.
//!
//! Owns the format of a log line, the rotation of files, the bounds on what is kept of a process's output, and the rule which
//! files of a log directory may be read from outside. Never decides what is logged: that is `tracing`'s, in the components.
//!
//! A process calls [`init`] once, early. TaskManager and JobManager write their children's output through [`RollingFile`], keep
//! the end of it in [`LastLines`] for the report of a dead process, and serve files through [`list`], [`open`] and [`read`].

mod ended;
mod files;
mod filter;
mod lines;
mod rolling;
mod subscriber;

pub use ended::{remove_ended, remove_ended_folders};
pub use files::{LogChunk, LogFile, LogFileError, list, open, read};
pub use filter::{FILTER_VARIABLE, InvalidLogFilter, LogFilter};
pub use lines::LastLines;
pub use rolling::RollingFile;
pub use subscriber::{InitError, LogOptions, Stderr, file_name, init};
