//! Resource providers: loaded from plugins, opened, and brought together with the ResourceManager.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use weir_config::{ConfigOption, Configuration, Secret, options, variable};
use weir_plugin::{LoadOptions, load_by_name};
use weir_provider_api::{OpenRequest, ProviderFactory};
use weir_resourcemanager::Event;

use crate::resource_manager::{ResourceManagerMessage, ResourceManagerSender};
use crate::{JobManagerError, JobManagerOptions};

/// Options that a TaskManager does not need and that may say what is nobody else's business: command lines can be read by everybody on the
/// machine.
const NOT_FOR_COMMAND_LINES: [&str; 4] = ["provider.", "security.", "rest.", "web."];

/// A provider that can be opened.
pub(crate) struct LoadedProvider {
    name: String,
    factory: Arc<dyn ProviderFactory>,
}

/// Loads all providers the options name. One that cannot be loaded is an error of the configuration, so nothing is started.
pub(crate) async fn load(options: &JobManagerOptions) -> Result<Vec<LoadedProvider>, JobManagerError> {
    let mut loaded = Vec::new();
    for choice in &options.resources.providers {
        let name = choice.name.clone();
        let factory = match options.built_in_providers.get(&name) {
            Some(factory) => factory.clone(),
            None => load_plugin(options.plugins_dir.clone(), name.clone()).await?,
        };
        loaded.push(LoadedProvider { name, factory });
    }
    Ok(loaded)
}

/// On a thread that may wait: a plugin's initialisation is its own code.
async fn load_plugin(folder: PathBuf, name: String) -> Result<Arc<dyn ProviderFactory>, JobManagerError> {
    let wanted = name.clone();
    let load = tokio::task::spawn_blocking(move || load_by_name(&folder, &wanted, &LoadOptions::default()));
    let problem = match load.await {
        Ok(Ok(plugin)) => return Ok(Arc::new(plugin)),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(JobManagerError::Provider { name, problem })
}

/// Opens a provider, and tells the ResourceManager of it. One that cannot be opened now does not keep the others from working.
pub(crate) async fn open(provider: LoadedProvider, request: OpenRequest, resource_manager: ResourceManagerSender) {
    let LoadedProvider { name, factory } = provider;
    let (provider_name, events) = (name.clone(), resource_manager.clone());
    let sink = Arc::new(move |event| {
        let name = provider_name.clone();
        let _ = events.send(ResourceManagerMessage::Event(Event::Provider { name, event }));
    });
    let description = factory.describe();
    let opened = tokio::task::spawn_blocking(move || factory.open(request, sink)).await;
    let problem = match opened {
        Ok(Ok(provider)) => {
            tracing::info!(provider = name, version = description.version, "a resource provider is open");
            let _ = resource_manager.send(ResourceManagerMessage::Provider(name.clone(), provider));
            let event = Event::ProviderOpened { name, description };
            let _ = resource_manager.send(ResourceManagerMessage::Event(event));
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(provider = name, problem, "a resource provider cannot be used");
    let event = Event::ProviderUnusable { name, reason: problem };
    let _ = resource_manager.send(ResourceManagerMessage::Event(event));
}

/// How a provider is opened.
pub(crate) fn open_request(options: &JobManagerOptions, state_dir: PathBuf) -> OpenRequest {
    // Secrets are masked among those in effect, and a provider may need them.
    let mut configuration = options.configuration.effective();
    configuration.extend(options.configuration.to_map());
    OpenRequest { cluster_id: options.cluster_id.clone(), configuration, state_dir }
}

impl LoadedProvider {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The command that starts a TaskManager of this cluster: what is set for the cluster, and where its JobManager is.
pub(crate) fn task_manager_command(options: &JobManagerOptions, rpc_port: u16) -> Vec<String> {
    let mut settings: BTreeMap<String, String> = BTreeMap::new();
    let shown = options.configuration.effective();
    let for_everybody = |key: &str, value: &String| {
        // What is masked is a secret.
        shown.get(key) == Some(value) && !NOT_FOR_COMMAND_LINES.iter().any(|prefix| key.starts_with(prefix))
    };
    settings.extend(options.configuration.to_map().into_iter().filter(|(key, value)| for_everybody(key, value)));
    settings.insert("cluster.id".to_owned(), options.cluster_id.clone());
    settings.insert("jobmanager.rpc.address".to_owned(), options.rpc_host.clone());
    settings.insert("jobmanager.rpc.port".to_owned(), rpc_port.to_string());
    settings.insert("taskmanager.numberOfTaskSlots".to_owned(), options.resources.template.slots.to_string());
    // Filled in by the ResourceManager, which names the TaskManagers it wants.
    settings.insert("taskmanager.resource-id".to_owned(), "{id}".to_owned());
    let settings = settings.into_iter().flat_map(|(key, value)| ["-D".to_owned(), format!("{key}={value}")]);
    options.task_manager_command.iter().cloned().chain(settings).collect()
}

/// The variables of a TaskManager that a provider starts: the secrets it needs, which only its own user can read there.
pub(crate) fn task_manager_environment(configuration: &Configuration) -> BTreeMap<String, String> {
    let secrets = [&options::INTERNAL_TOKEN, &options::REST_TOKEN];
    let set = |option: &&ConfigOption<Option<Secret>>| Some((variable(option.key()), configuration.get(option)?));
    secrets.iter().filter_map(set).map(|(name, secret)| (name, secret.reveal().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_of_task_managers_have_no_secrets() {
        let mut configuration = Configuration::new();
        for setting in [
            "security.internal.token=internal-0123456789",
            "security.rest.token=rest-0123456789abc",
            "provider.cloud.user=somebody",
            "provider.cloud.passphrase=hush-hush",
            "rest.port=1234",
            "web.submit.enable=false",
            "taskmanager.memory.process.size=1gb",
        ] {
            configuration.set_argument(setting).unwrap();
        }
        let options = JobManagerOptions::from_configuration(&configuration).unwrap();
        let line = task_manager_command(&options, 7).join(" ");
        for missing in ["internal-0123", "rest-0123", "security.", "provider.", "hush", "rest.port", "web."] {
            assert!(!line.contains(missing), "{missing} in {line}");
        }
        assert!(
            line.contains("taskmanager.memory.process.size=1gb") && line.contains("jobmanager.rpc.port=7"),
            "{line}"
        );
        let environment = task_manager_environment(&configuration);
        assert_eq!(environment["WEIR_CONF_SECURITY_INTERNAL_TOKEN"], "internal-0123456789");
        assert_eq!(environment["WEIR_CONF_SECURITY_REST_TOKEN"], "rest-0123456789abc");
        assert_eq!(environment.len(), 2);
    }
}
