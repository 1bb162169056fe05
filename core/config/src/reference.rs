//! The options as a page of the manual.

use std::fmt::Write;

use crate::all_options;

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from core/config/src/options/ by `WEIR_BLESS=1 cargo test -p weir-config`; edit it there. -->

Options carry Flink's keys where Flink has them. An option is set by, the last of these that sets it winning:

1. its default;
2. the cluster's configuration file, `config.yaml` in the folder that `WEIR_CONF_DIR` names (nested or with dotted keys);
3. an environment variable: `WEIR_CONF_` and the key in upper case, with `_` for `.` and `-`, e.g. `WEIR_CONF_PARALLELISM_DEFAULT=4`;
4. the job's own code;
5. `-D key=value` on the command line.

An executable that is started by itself does not read the file. Keys that begin with `provider.` and the name of a provider that does
not come with Weir are passed on to its plugin unseen.

Keys that do not exist and values of the wrong form are errors. Durations are a whole number and a unit (`d`, `h`, `min`, `s`, `ms`, `us`,
`ns`; `ms` if there is none), sizes a whole number and a unit (`b`, `kb`, `mb`, `gb`, `tb`, powers of 1024; `b` if there is none).

| Key | Default | Type | Meaning |
| --- | --- | --- | --- |
";

/// The text of `docs/configuration.md`.
pub fn reference_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for option in all_options() {
        let default = option.default_text().map_or_else(|| "(none)".to_owned(), |text| format!("`{text}`"));
        let others = match option.fallback_keys() {
            [] => String::new(),
            keys => format!(" Also accepted as `{}`.", keys.join("`, `")),
        };
        let doc = option.doc().replace('|', "\\|");
        writeln!(page, "| `{}` | {default} | {} | {doc}{others} |", option.key(), option.type_name())
            .expect("a String takes all that is written");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("WEIR_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(path, reference_markdown()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == reference_markdown(),
            "docs/configuration.md differs from the options: run `WEIR_BLESS=1 cargo test -p weir-config`"
        );
    }
}
