//! `weir plugins`.

use serde_json::{Value, json};
use weir_config::Configuration;
use weir_jobmanager::JobManagerOptions;
use weir_plugin::{Found, LoadOptions, scan};
use weir_provider_api::Capability;

use crate::arguments::{OutputFormat, PluginsArgs};
use crate::failure::{self, usage};
use crate::text;

pub(crate) fn plugins(arguments: &PluginsArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let folder = JobManagerOptions::from_configuration(configuration)?.plugins_dir;
    let found = scan(&folder, &LoadOptions::default()).map_err(|error| {
        usage(format!(
            "the plugins' folder {} cannot be listed ({error}); plugins.dir names another one",
            folder.display()
        ))
    })?;
    match arguments.output {
        OutputFormat::Json => text::print(&format!("{}\n", Value::Array(found.iter().map(as_json).collect())))?,
        OutputFormat::Text if found.is_empty() => {
            let pattern = weir_plugin::file_name("<name>");
            text::print(&format!("no plugins in {} (files named {pattern})\n", folder.display()))?;
        }
        OutputFormat::Text => text::print(&list(&found))?,
    }
    Ok(if found.iter().all(|found| found.plugin.is_ok()) { failure::OK } else { failure::FAILED })
}

fn list(found: &[Found]) -> String {
    let mut rows = vec![["NAME", "VERSION", "INTERFACE", "CAPABILITIES", "SUMMARY"].map(str::to_owned).to_vec()];
    let mut unusable = String::new();
    for found in found {
        match &found.plugin {
            Ok(info) => rows.push(vec![
                found.name.clone(),
                info.description.version.clone(),
                format!("{}.{}", info.abi_major, info.abi_minor),
                capabilities(&info.description.capabilities).join(","),
                info.description.summary.clone(),
            ]),
            Err(error) => unusable.push_str(&format!("{error}\n")),
        }
    }
    let table = if rows.len() > 1 { text::table(&rows) } else { String::new() };
    table + &unusable
}

fn as_json(found: &Found) -> Value {
    match &found.plugin {
        Ok(info) => json!({
            "name": found.name,
            "path": found.path,
            "version": info.description.version,
            "abi": { "major": info.abi_major, "minor": info.abi_minor },
            "capabilities": capabilities(&info.description.capabilities),
            "summary": info.description.summary,
            "built_with": info.build_info,
        }),
        Err(error) => json!({ "name": found.name, "path": found.path, "error": error.to_string() }),
    }
}

fn capabilities(all: &[Capability]) -> Vec<&'static str> {
    let word = |capability: &Capability| match capability {
        Capability::Recover => "recover",
        Capability::Demand => "demand",
        Capability::Draining => "draining",
        Capability::Capacity => "capacity",
    };
    all.iter().map(word).collect()
}
