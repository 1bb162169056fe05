//! `weir config`.

use serde_json::{Value, json};
use weir_config::{AnyOption, ConfigError, Configuration, Origin, all_options, is_secret};

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
        (OutputFormat::Json, None) => {
            let of_plugins = of_plugins(configuration)
                .map(|[key, value, origin]| json!({ "key": key, "type": PLUGIN, "value": value, "origin": origin }));
            format!("{}\n", Value::Array(rows.iter().map(Row::json).chain(of_plugins).collect()))
        }
        (OutputFormat::Text, Some(_)) => rows[0].explanation(),
        (OutputFormat::Text, None) => list(&rows, of_plugins(configuration)),
    };
    text::print(&page)?;
    Ok(failure::OK)
}

/// The type of options that only a plugin knows.
const PLUGIN: &str = "(plugin's)";

/// The options of plugins that are set: key, value unless it sounds secret, origin.
fn of_plugins(configuration: &Configuration) -> impl Iterator<Item = [String; 3]> {
    let is_known = |key: &str| all_options().iter().any(|option| option.key() == key);
    configuration.iter().filter(move |(key, ..)| !is_known(key)).map(|(key, value, origin)| {
        let value = if is_secret(key) { "******" } else { value };
        [key.to_owned(), value.to_owned(), origin_word(origin).to_owned()]
    })
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
        origin_word(self.origin)
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

/// The word for where a value came from.
fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Default => "default",
        Origin::File => "file",
        Origin::Environment => "environment",
        Origin::Job => "job",
        Origin::CommandLine => "command-line",
    }
}

fn list(rows: &[Row], of_plugins: impl Iterator<Item = [String; 3]>) -> String {
    let mut lines = vec![row(["KEY", "TYPE", "DEFAULT", "VALUE", "FROM"])];
    lines.extend(rows.iter().map(|it| {
        let default = it.option.default_text().unwrap_or(NONE);
        row([it.option.key(), it.option.type_name(), default, it.value.as_deref().unwrap_or(NONE), it.origin()])
    }));
    lines.extend(of_plugins.map(|[key, value, origin]| vec![key, PLUGIN.to_owned(), NONE.to_owned(), value, origin]));
    text::table(&lines)
}
