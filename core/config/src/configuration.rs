//! Which value every option has, and where it came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::value::MASK;
use crate::{AnyOption, ConfigError, ConfigOption, ConfigValue, Scope, all_options};

/// Who set a value. Later ones win over earlier ones, whatever the order in which they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Nobody; or the program, as its own default.
    Default,
    /// The cluster's configuration file.
    File,
    /// An environment variable `WEIR_CONF_…`.
    Environment,
    /// The job's builder, or the JobGraph it made.
    Job,
    /// `-D` on the command line. The person who runs a job has the last word.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Default => "default",
            Origin::File => "config.yaml",
            Origin::Environment => "environment",
            Origin::Job => "job",
            Origin::CommandLine => "-D",
        })
    }
}

/// Names the folder of `config.yaml`; begins as variables of options do, but is none.
pub const FOLDER_VARIABLE: &str = "WEIR_CONF_DIR";

/// Environment variables that set an option begin with this; the rest is the key in upper case, `_` for `.` and `-`.
const VARIABLE_PREFIX: &str = "WEIR_CONF_";

/// Options of providers begin with this. Which there are, and what they may be, is known to the provider's plugin only.
const PROVIDER_PREFIX: &str = "provider.";

/// The options that are set, each checked when it was set; all others have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    values: BTreeMap<Cow<'static, str>, (String, Origin)>,
}

impl Configuration {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option by key. A value from a stronger origin stays; one from the same or a weaker origin is replaced.
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        match find(key) {
            Some(option) => {
                option.check(value, origin)?;
                self.put(Cow::Borrowed(option.key()), value.to_owned(), origin);
            }
            None if is_of_plugin(key) => self.put(Cow::Owned(key.to_owned()), value.to_owned(), origin),
            None => return Err(unknown(key, key, origin)),
        }
        Ok(())
    }

    /// Sets an option in code; an error if the value is out of the option's range.
    pub fn set_value<T: ConfigValue>(
        &mut self,
        option: &ConfigOption<T>,
        value: T,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let text = value.render();
        option.parse(&text, origin)?;
        self.put(Cow::Borrowed(option.key()), text, origin);
        Ok(())
    }

    /// Takes an argument of `-D`: `key=value`.
    pub fn set_argument(&mut self, argument: &str) -> Result<(), ConfigError> {
        let Some((key, value)) = argument.split_once('=') else {
            return Err(ConfigError::NotASetting { found: argument.to_owned() });
        };
        self.set(key.trim(), value.trim(), Origin::CommandLine)
    }

    /// Takes all variables `WEIR_CONF_…`, e.g. `WEIR_CONF_PARALLELISM_DEFAULT=4`, and leaves others alone.
    ///
    /// Give it `std::env::vars_os()` with what is not UTF-8 left out.
    pub fn set_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables.into_iter().filter(|(name, _)| name != FOLDER_VARIABLE) {
            let Some(suffix) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
            let option = keys().find(|(key, _)| variable_suffix(key) == suffix);
            let (key, _) = option.ok_or_else(|| unknown(&name, &suffix.to_lowercase(), Origin::Environment))?;
            self.set(key, &value, Origin::Environment)?;
        }
        Ok(())
    }

    /// The option's value: what was set, or its default.
    pub fn get<T: ConfigValue>(&self, option: &ConfigOption<T>) -> T {
        match self.values.get(option.key()) {
            Some((text, origin)) => option.parse(text, *origin).expect("values are checked when they are set"),
            None => option.default_value(),
        }
    }

    /// Where the option's value came from.
    pub fn origin<T: ConfigValue>(&self, option: &ConfigOption<T>) -> Origin {
        self.values.get(option.key()).map_or(Origin::Default, |(_, origin)| *origin)
    }

    /// What is set, by key: key, value, origin.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Origin)> {
        self.values.iter().map(|(key, (value, origin))| (key.as_ref(), value.as_str(), *origin))
    }

    /// What is set, as a JobGraph carries it.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value, _)| (key.to_owned(), value.to_owned())).collect()
    }

    /// What is set and concerns jobs: the defaults a cluster gives them.
    pub fn of_jobs(&self) -> impl Iterator<Item = (&str, &str)> {
        let concerns_jobs = |key: &str| find(key).is_some_and(|option| option.scope() == Scope::Job);
        self.iter().filter(move |(key, ..)| concerns_jobs(key)).map(|(key, value, _)| (key, value))
    }

    /// All options in effect by key, defaults included; those that have no value are left out, secrets are masked.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let defaults = all_options().iter().filter_map(|o| Some((o.key().to_owned(), o.default_text()?.to_owned())));
        let set = self.iter().map(|(key, value, _)| {
            let value = if is_secret(key) { MASK } else { value };
            (key.to_owned(), value.to_owned())
        });
        defaults.chain(set).collect()
    }

    fn put(&mut self, key: Cow<'static, str>, value: String, origin: Origin) {
        if self.values.get(&key).is_none_or(|(_, present)| *present <= origin) {
            self.values.insert(key, (value, origin));
        }
    }
}

/// Every key an option may be set by, with the option.
fn keys() -> impl Iterator<Item = (&'static str, &'static dyn AnyOption)> {
    all_options().iter().flat_map(|&option| {
        let keys = [option.key()].into_iter().chain(option.fallback_keys().iter().copied());
        keys.map(move |key| (key, option))
    })
}

fn find(key: &str) -> Option<&'static dyn AnyOption> {
    keys().find(|(other, _)| *other == key).map(|(_, option)| option)
}

/// Whether an option's value must not be shown. Of a plugin's options only the names are known, so those that sound like it are taken for secrets.
pub fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 8] = ["password", "secret", "token", "apikey", "api-key", "credential", "private-key", "auth"];
    match find(key) {
        Some(option) => option.is_secret(),
        None => WORDS.iter().any(|word| key.to_ascii_lowercase().contains(word)),
    }
}

/// Whether only a plugin can know the option: `provider.<name>.<option>`, and no provider that comes with Weir has the name.
fn is_of_plugin(key: &str) -> bool {
    let name = key.strip_prefix(PROVIDER_PREFIX).and_then(|rest| rest.split_once('.'));
    name.is_some_and(|(name, option)| {
        let ours = format!("{PROVIDER_PREFIX}{name}.");
        !name.is_empty() && !option.is_empty() && !keys().any(|(key, _)| key.starts_with(&ours))
    })
}

/// The environment variable that sets the option `key`: `WEIR_CONF_PARALLELISM_DEFAULT` for `parallelism.default`.
pub fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", variable_suffix(key))
}

fn variable_suffix(key: &str) -> String {
    key.to_uppercase().replace(['.', '-'], "_")
}

/// `shown` is what the person wrote, `key` what it is compared by.
fn unknown(shown: &str, key: &str, origin: Origin) -> ConfigError {
    let written = |key: &str| match origin {
        Origin::Environment => variable(key),
        Origin::Default | Origin::File | Origin::Job | Origin::CommandLine => key.to_owned(),
    };
    ConfigError::UnknownKey { key: shown.to_owned(), origin, suggestion: nearest(key).map(written) }
}

/// The key that `key` was most likely meant to be: within a third of its length in edits, or one it is a part of.
fn nearest(key: &str) -> Option<&'static str> {
    let spelled = |key: &str| key.to_lowercase().replace(['_', '-'], ".");
    let found = spelled(key);
    let (distance, best) = keys().map(|(key, _)| (edit_distance(&found, &spelled(key)), key)).min()?;
    if distance <= found.chars().count() / 3 {
        return Some(best);
    }
    let is_part = |key: &str| found.len() >= 4 && spelled(key).contains(&found);
    keys().map(|(key, _)| key).find(|key| is_part(key))
}

/// Levenshtein distance, in characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, right) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
