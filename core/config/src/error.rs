//! What can be wrong with a setting. Who: the person who set it. What now: correct it and start again.

use crate::Origin;

/// A setting that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such option.
    #[error(
        "unknown option {key:?} (set by {origin}){}; all options are listed in docs/configuration.md",
        hint(suggestion)
    )]
    UnknownKey {
        /// The key found; an environment variable by its full name.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// The nearest key there is, if one is near.
        suggestion: Option<String>,
    },
    /// The value is not of the option's type, or out of its range.
    #[error(
        "option {key:?} (set by {}) has the value {value:?}, but {problem}: expected {expected}, e.g. {example:?}",
        setter(key, *origin)
    )]
    InvalidValue {
        /// The option's key.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// The value found.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What the option takes.
        expected: String,
        /// A value that would do.
        example: String,
    },
    /// The configuration file cannot be read, or is not YAML, or not a map of options.
    #[error("{path} {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it, to follow its name.
        problem: String,
    },
    /// An option in the configuration file cannot be taken.
    #[error("{path}: {error}")]
    InFile {
        /// The file.
        path: String,
        /// What is wrong.
        error: Box<ConfigError>,
    },
    /// An argument of `-D` without an equals sign.
    #[error("the argument {found:?} of -D is no setting: expected key=value, e.g. -D parallelism.default=4")]
    NotASetting {
        /// The argument found.
        found: String,
    },
}

fn setter(key: &str, origin: Origin) -> String {
    match origin {
        Origin::Environment => crate::configuration::variable(key),
        Origin::Default | Origin::File | Origin::Job | Origin::CommandLine => origin.to_string(),
    }
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|key| format!(": did you mean {key:?}?")).unwrap_or_default()
}
