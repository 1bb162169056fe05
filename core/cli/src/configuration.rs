//! The configuration of a command: defaults, config.yaml, environment, `-D`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use weir_config::{ConfigError, Configuration, FOLDER_VARIABLE};

use crate::failure::usage;

const FILE: &str = "config.yaml";

/// What holds for a process that is started from here with these settings.
pub(crate) fn load(folder: Option<&Path>, define: &[String]) -> anyhow::Result<Configuration> {
    let wrong = |error: ConfigError| usage(error.to_string());
    let mut configuration = Configuration::new();
    if let Some(file) = file(folder)? {
        configuration.set_file(&file).map_err(wrong)?;
    }
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    configuration.set_environment(variables).map_err(wrong)?;
    for argument in define {
        configuration.set_argument(argument).map_err(wrong)?;
    }
    Ok(configuration)
}

/// The configuration file: a folder that was named must have one, the usual place may.
fn file(folder: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let named = folder.map(Path::to_owned).or_else(|| std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from));
    if let Some(folder) = named {
        let file = folder.join(FILE);
        if !file.is_file() {
            return Err(usage(format!(
                "there is no {FILE} in {}: --config-dir and {FOLDER_VARIABLE} name the folder it is in",
                folder.display()
            )));
        }
        return Ok(Some(file));
    }
    let program = std::env::current_exe().context("the folder of this program is not known")?;
    let beside = program.parent().and_then(Path::parent).map(|home| home.join("conf").join(FILE));
    Ok(beside.filter(|file| file.is_file()))
}
