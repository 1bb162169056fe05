//! What can be chosen about the standalone provider.

use std::collections::BTreeMap;
use std::path::PathBuf;

use weir_config::ConfigValue;

/// Key of the number of TaskManagers that are kept even if nobody needs them. The ResourceManager sees to it.
pub const MIN_WORKERS: &str = "provider.standalone.min-workers";
/// Key of the most TaskManagers at a time; as many as there are cores when it is not set.
pub const MAX_WORKERS: &str = "provider.standalone.max-workers";
const LOG_DIR: &str = "env.log.dir";

/// What can be chosen about the standalone provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandaloneOptions {
    /// The most TaskManagers at a time.
    pub max_workers: u32,
    /// Whether somebody has set it.
    pub max_is_set: bool,
    /// Where the output of TaskManagers goes; a folder beside the records if it is not set.
    pub log_dir: Option<PathBuf>,
}

impl StandaloneOptions {
    /// Reads the options out of a configuration; an error says which key has which wrong value and what it may be.
    pub fn from_configuration(configuration: &BTreeMap<String, String>, cores: u32) -> Result<Self, String> {
        // An option that has no value may be there as an empty one.
        let value = |key: &str| configuration.get(key).filter(|text| !text.trim().is_empty());
        let number = |key: &str| match value(key) {
            None => Ok(None),
            Some(text) => match u32::parse(text) {
                Ok(number) => Ok(Some(number)),
                Err(problem) => Err(format!("{key} is {text:?}, but {problem}; it has to be {}", u32::FORM)),
            },
        };
        let (min, max) = (number(MIN_WORKERS)?.unwrap_or(0), number(MAX_WORKERS)?);
        let max_workers = max.unwrap_or(cores.max(1));
        if max_workers == 0 {
            return Err(format!(
                "{MAX_WORKERS} is 0, so that no TaskManager could be started: set it to at least 1, or take standalone out of resourcemanager.providers"
            ));
        }
        if min > max_workers {
            let max_text = match max {
                Some(max) => format!("{MAX_WORKERS} is {max}"),
                None => format!("{MAX_WORKERS} is not set and therefore {max_workers}, the number of cores"),
            };
            return Err(format!("{MIN_WORKERS} is {min}, but {max_text}: lower the one or raise the other"));
        }
        let log_dir = value(LOG_DIR).map(PathBuf::from);
        Ok(Self { max_workers, max_is_set: max.is_some(), log_dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<StandaloneOptions, String> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        StandaloneOptions::from_configuration(&settings.collect(), 3)
    }

    #[test]
    fn there_are_as_many_workers_as_cores_unless_told_otherwise() {
        let unset = StandaloneOptions { max_workers: 3, max_is_set: false, log_dir: None };
        assert_eq!(read(&[]), Ok(unset.clone()));
        assert_eq!(read(&[(MAX_WORKERS, ""), (MIN_WORKERS, " "), (LOG_DIR, "")]), Ok(unset));
        let set = read(&[(MAX_WORKERS, "9"), (MIN_WORKERS, "9"), (LOG_DIR, "/log")]);
        let expected = StandaloneOptions { max_workers: 9, max_is_set: true, log_dir: Some("/log".into()) };
        assert_eq!(set, Ok(expected));
    }

    #[test]
    fn wrong_values_are_refused_with_key_and_remedy() {
        #[track_caller]
        fn check(settings: &[(&str, &str)], expected: &[&str]) {
            let message = read(settings).unwrap_err();
            for part in expected {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
        check(&[(MAX_WORKERS, "many")], &[MAX_WORKERS, "\"many\"", "a whole number"]);
        check(&[(MAX_WORKERS, "0")], &[MAX_WORKERS, "at least 1"]);
        check(&[(MIN_WORKERS, "-1")], &[MIN_WORKERS, "\"-1\""]);
        check(&[(MIN_WORKERS, "4")], &[MIN_WORKERS, "is 4", "the number of cores"]);
        check(&[(MIN_WORKERS, "4"), (MAX_WORKERS, "2")], &[MIN_WORKERS, MAX_WORKERS, "is 2"]);
    }
}
