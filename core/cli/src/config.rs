//! `weir config`.

use serde_json::{Value, json};
use weir_config::{AnyOption, ConfigError, Configuration, Origin, all_options};

use crate::arguments::{ConfigArgs, OutputFormat};
use crate::failure::{self, usage};
use crate::text;

/// How wide explanations are.
const WIDTH: usize = 100;

pub(crate) fn config(arguments: &ConfigArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let rows: Vec<Row> = match &arguments.key {
        Some(key) => vec![Row::new(find(key)?, configuration)],
        None => all_options().iter().map(|option| Row::new(*option, configuration)).collect(),
    };
    let page = match (arguments.output, &arguments.key) {
        (OutputFormat::Json, Some(_)) => format!("{}\n", rows[0].json()),
        (OutputFormat::Json, None) => format!("{}\n", Value::Array(rows.iter().map(Row::json).collect())),
        (OutputFormat::Text, Some(_)) => rows[0].explanation(),
        (OutputFormat::Text, None) => list(&rows),
    };
    text::print(&page)?;
    Ok(failure::OK)
}

fn find(key: &str) -> anyhow::Result<&'static dyn AnyOption> {
    let is_it = |option: &&&'static dyn AnyOption| option.key() == key || option.fallback_keys().contains(&key);
    all_options().iter().find(is_it).copied().ok_or_else(|| {
        // Setting it finds the nearest key.
        let nearest = match Configuration::new().set(key, "", Origin::CommandLine) {
            Err(ConfigError::UnknownKey { suggestion: Some(nearest), .. }) => format!("; did you mean {nearest:?}?"),
            _ => String::from(";"),
        };
        usage(format!("there is no option {key:?}{nearest} `weir config` lists all options"))
    })
}

/// An option and its value.
struct Row {
    option: &'static dyn AnyOption,
    value: Option<String>,
    origin: Origin,
}

impl Row {
    fn new(option: &'static dyn AnyOption, configuration: &Configuration) -> Row {
        let set = configuration.iter().find(|(key, ..)| *key == option.key());
        match set {
            Some((.., origin)) if option.is_secret() => Row { option, value: Some("******".to_owned()), origin },
            Some((_, value, origin)) => Row { option, value: Some(value.to_owned()), origin },
            None => Row { option, value: option.default_text().map(str::to_owned), origin: Origin::Default },
        }
    }

    fn origin(&self) -> &'static str {
        match self.origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment => "environment",
            Origin::Job => "job",
            Origin::CommandLine => "command-line",
        }
    }

    /// The environment variable that sets it.
    fn variable(&self) -> String {
        format!("WEIR_CONF_{}", self.option.key().to_uppercase().replace(['.', '-'], "_"))
    }

    fn json(&self) -> Value {
        json!({
            "key": self.option.key(),
            "type": self.option.type_name(),
            "default": self.option.default_text(),
            "value": self.value,
            "origin": self.origin(),
            "variable": self.variable(),
            "fallback_keys": self.option.fallback_keys(),
            "doc": self.option.doc(),
        })
    }

    fn explanation(&self) -> String {
        let option = self.option;
        let mut lines = vec![
            row(["Type", option.type_name()]),
            row(["Default", option.default_text().unwrap_or(NONE)]),
            row(["Value", &format!("{} (from: {})", self.value.as_deref().unwrap_or(NONE), self.origin())]),
            row(["Set it with", &format!("-D {}=…", option.key())]),
            row(["or", &format!("{}=…", self.variable())]),
        ];
        lines.extend(option.fallback_keys().iter().map(|key| row(["Also named", key])));
        format!("{}\n\n{}\n\n{}\n", option.key(), text::wrap(option.doc(), WIDTH), text::table(&lines).trim_end())
    }
}

const NONE: &str = "(none)";

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn list(rows: &[Row]) -> String {
    let mut lines = vec![row(["KEY", "TYPE", "DEFAULT", "VALUE", "FROM"])];
    lines.extend(rows.iter().map(|it| {
        let default = it.option.default_text().unwrap_or(NONE);
        row([it.option.key(), it.option.type_name(), default, it.value.as_deref().unwrap_or(NONE), it.origin()])
    }));
    text::table(&lines)
}
