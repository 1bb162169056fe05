//! The lines a plugin logs, on both sides.

use std::sync::Arc;

use crate::abi;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Work was lost.
    Error,
    /// Someone should look.
    Warn,
    /// A state changed.
    Info,
    /// For developers.
    Debug,
}

/// Where the lines of plugins go: the plugin's name, the level, the text. May be called from any thread.
pub type LogSink = Arc<dyn Fn(&str, LogLevel, &str) + Send + Sync>;

/// Logs with `tracing`, the plugin's name as the field `plugin`.
pub fn log_to_tracing() -> LogSink {
    Arc::new(|plugin, level, text| match level {
        LogLevel::Error => tracing::error!(plugin, "{text}"),
        LogLevel::Warn => tracing::warn!(plugin, "{text}"),
        LogLevel::Info => tracing::info!(plugin, "{text}"),
        LogLevel::Debug => tracing::debug!(plugin, "{text}"),
    })
}

impl LogLevel {
    pub(crate) fn from_code(code: i32) -> Self {
        match code {
            abi::LOG_ERROR => Self::Error,
            abi::LOG_WARN => Self::Warn,
            abi::LOG_INFO => Self::Info,
            // A later version may have more; they can only be finer.
            _ => Self::Debug,
        }
    }

    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Error => abi::LOG_ERROR,
            Self::Warn => abi::LOG_WARN,
            Self::Info => abi::LOG_INFO,
            Self::Debug => abi::LOG_DEBUG,
        }
    }
}
