//! One option: its key, default and manual text.

use std::marker::PhantomData;

use crate::value::MASK;
use crate::{ConfigError, ConfigValue, Origin};

/// Says what is wrong with a value that has the right type.
type RangeCheck<T> = fn(&T) -> Result<(), String>;

/// An option whose value is a `T`.
pub struct ConfigOption<T> {
    key: &'static str,
    fallback_keys: &'static [&'static str],
    /// In the notation people write; tests check that it parses.
    default: Option<&'static str>,
    doc: &'static str,
    range: Option<RangeCheck<T>>,
    scope: Scope,
    value: PhantomData<fn() -> T>,
}

/// Whom an option concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each job; a cluster's configuration gives the default of its jobs.
    Job,
    /// The cluster and its processes.
    Cluster,
}

impl<T: ConfigValue> ConfigOption<T> {
    /// An option with a default, written as people would write it. `doc` is the manual's text, in Markdown.
    pub const fn new(key: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self {
            key,
            fallback_keys: &[],
            default: Some(default),
            doc,
            range: None,
            scope: Scope::Job,
            value: PhantomData,
        }
    }

    /// Other keys it may be set by.
    pub const fn with_fallback_keys(self, keys: &'static [&'static str]) -> Self {
        Self { fallback_keys: keys, ..self }
    }

    /// The option concerns the cluster, not jobs.
    pub const fn cluster(self) -> Self {
        Self { scope: Scope::Cluster, ..self }
    }

    /// A condition values must meet; its error says what is wrong with a value, to follow `but`.
    pub const fn in_range(self, range: RangeCheck<T>) -> Self {
        Self { range: Some(range), ..self }
    }

    /// The option's key.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// The value written as `text`, checked.
    pub(crate) fn parse(&self, text: &str, origin: Origin) -> Result<T, ConfigError> {
        let value = T::parse(text).and_then(|value| match self.range.map(|range| range(&value)) {
            None | Some(Ok(())) => Ok(value),
            Some(Err(problem)) => Err(problem),
        });
        value.map_err(|problem| ConfigError::InvalidValue {
            key: self.key.to_owned(),
            origin,
            value: if T::IS_SECRET { MASK.to_owned() } else { text.to_owned() },
            problem,
            expected: T::FORM.to_owned(),
            example: self.default.unwrap_or(T::EXAMPLE).to_owned(),
        })
    }

    pub(crate) fn default_value(&self) -> T {
        match self.default {
            Some(text) => self.parse(text, Origin::Default).expect("tests parse every default"),
            None => T::absent().expect("only an Option<_> can be made without a default"),
        }
    }
}

impl<T: ConfigValue> ConfigOption<Option<T>> {
    /// An option that has no value unless it is set. `doc` is the manual's text, in Markdown.
    pub const fn optional(key: &'static str, doc: &'static str) -> Self {
        Self { key, fallback_keys: &[], default: None, doc, range: None, scope: Scope::Job, value: PhantomData }
    }
}

/// An option of any type: what the reference, and the check of a setting, need of it.
pub trait AnyOption: Sync {
    /// The option's key.
    fn key(&self) -> &'static str;
    /// Other keys it may be set by.
    fn fallback_keys(&self) -> &'static [&'static str];
    /// The default as text; `None` if the option need not have a value.
    fn default_text(&self) -> Option<&'static str>;
    /// The manual's text, in Markdown.
    fn doc(&self) -> &'static str;
    /// Name of the value's type.
    fn type_name(&self) -> &'static str;
    /// Whom it concerns.
    fn scope(&self) -> Scope;
    /// Whether its value must not be shown.
    fn is_secret(&self) -> bool;
    /// Whether `text` is a value of this option.
    fn check(&self, text: &str, origin: Origin) -> Result<(), ConfigError>;
}

impl<T: ConfigValue> AnyOption for ConfigOption<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn fallback_keys(&self) -> &'static [&'static str] {
        self.fallback_keys
    }

    fn default_text(&self) -> Option<&'static str> {
        self.default
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn type_name(&self) -> &'static str {
        T::TYPE
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    fn is_secret(&self) -> bool {
        T::IS_SECRET
    }

    fn check(&self, text: &str, origin: Origin) -> Result<(), ConfigError> {
        self.parse(text, origin).map(drop)
    }
}
