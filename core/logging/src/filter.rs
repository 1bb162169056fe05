//! Which events are logged.

use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

/// The environment variable that says what is logged, over the configuration.
pub const FILTER_VARIABLE: &str = "WEIR_LOG";

/// Crates that tell much about every byte below INFO. They stay at INFO unless they are named.
const CHATTY: [&str; 8] = ["axum", "h2", "hyper", "hyper_util", "reqwest", "rustls", "tonic", "tower"];

/// Which events are logged: a level for everything, and other levels for modules, e.g. `info` or
/// `warn,weir_jobmanager=debug,h2=off`.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFilter(Targets);

/// A text that is not a [`LogFilter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a log level: expected one of off, error, warn, info, debug, trace, or module=level, separated by commas"
)]
pub struct InvalidLogFilter {
    found: String,
}

impl LogFilter {
    /// What `WEIR_LOG` says, or else `configured` (the value of `env.log.level`).
    ///
    /// # Errors
    /// The text in use is not a filter.
    pub fn from_env_or(configured: &str) -> Result<Self, InvalidLogFilter> {
        match std::env::var(FILTER_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => text.parse(),
            _ => configured.parse(),
        }
    }

    pub(crate) fn into_targets(self) -> Targets {
        self.0
    }
}

/// `info`
impl Default for LogFilter {
    fn default() -> Self {
        Self(targets(LevelFilter::INFO, &[]))
    }
}

impl FromStr for LogFilter {
    type Err = InvalidLogFilter;

    fn from_str(text: &str) -> Result<Self, InvalidLogFilter> {
        let mut everything = None;
        let mut modules = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((module, name)) => modules.push((module.trim().to_owned(), level(name)?)),
                None => everything = Some(level(part)?),
            }
        }
        Ok(Self(targets(everything.unwrap_or(LevelFilter::INFO), &modules)))
    }
}

fn targets(everything: LevelFilter, modules: &[(String, LevelFilter)]) -> Targets {
    let quiet = everything.min(LevelFilter::INFO);
    let targets = Targets::new().with_default(everything);
    targets.with_targets(CHATTY.iter().map(|name| (*name, quiet))).with_targets(modules.iter().cloned())
}

/// Flink's names are taken too: FATAL is ERROR here, and ALL is TRACE.
fn level(name: &str) -> Result<LevelFilter, InvalidLogFilter> {
    match name.trim().to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" | "fatal" => Ok(LevelFilter::ERROR),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" | "all" => Ok(LevelFilter::TRACE),
        _ => Err(InvalidLogFilter { found: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_counts_for_everything_and_modules_have_their_own() {
        let check = |filter: &str, target: &str, level: Level, expect: bool| {
            let targets = filter.parse::<LogFilter>().unwrap().into_targets();
            assert_eq!(targets.would_enable(target, &level), expect, "{filter}: {target} at {level}");
        };
        check("INFO", "weir_jobmanager", Level::INFO, true);
        check("INFO", "weir_jobmanager", Level::DEBUG, false);
        check("", "weir_jobmanager", Level::INFO, true);
        check("off", "weir_jobmanager", Level::ERROR, false);
        check("warn, weir_rest=trace", "weir_rest::server", Level::TRACE, true);
        check("warn, weir_rest=trace", "weir_jobmanager", Level::INFO, false);
        check("debug", "weir_jobmanager", Level::DEBUG, true);
        check("debug", "h2::codec", Level::DEBUG, false);
        check("debug", "h2::codec", Level::INFO, true);
        check("error", "h2::codec", Level::INFO, false);
        check("debug,h2=trace", "h2::codec", Level::TRACE, true);
    }

    #[test]
    fn a_wrong_level_is_an_error_and_not_a_module() {
        for wrong in ["inof", "weir_rest=loud", "info,2", "weir_rest"] {
            let error = wrong.parse::<LogFilter>().expect_err(wrong).to_string();
            assert!(error.contains("expected one of off, error"), "{error}");
        }
    }
}
