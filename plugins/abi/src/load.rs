//! Finding and loading plugins.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use prost::Message;
use weir_proto::provider as proto;
use weir_provider_api::{Description, EventSink, OpenError, OpenRequest, Provider, ProviderFactory};

use crate::abi::{self, Output, ProviderTable};
use crate::{LoadError, LoadProblem, LogSink, elf, host, log_to_tracing};

const FILE_PREFIX: &str = "libweir_provider_";
const FILE_SUFFIX: &str = ".so";

/// Name of the file that holds the provider `name`.
pub fn file_name(name: &str) -> String {
    format!("{FILE_PREFIX}{name}{FILE_SUFFIX}")
}

/// How plugins are treated.
#[derive(Clone)]
pub struct LoadOptions {
    /// How long a call may take before the plugin is taken to hang. 10 s by default.
    pub deadline: Duration,
    /// Where plugins' log lines go. By default to `tracing`.
    pub log: LogSink,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), log: log_to_tracing() }
    }
}

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// What the provider is and can do.
    pub description: Description,
    /// The interface it was built for.
    pub abi_major: u32,
    /// The interface it was built for.
    pub abi_minor: u32,
    /// What it was built with; empty if it does not say.
    pub build_info: String,
}

/// A file that may be a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The provider's name, by the file's name.
    pub name: String,
    /// What it is, or why it cannot be used.
    pub plugin: Result<PluginInfo, LoadError>,
}

/// What the files `libweir_provider_<name>.so` in `dir` are, in the order of their names. Loads and describes them, but opens none.
pub fn scan(dir: &Path, options: &LoadOptions) -> std::io::Result<Vec<Found>> {
    let mut found: Vec<Found> = plugin_files(dir)?
        .into_iter()
        .map(|(name, path)| {
            let plugin = load_named(&path, &name, options).map(|plugin| plugin.info);
            Found { path, name, plugin }
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Loads the provider `name` from `dir`.
pub fn load_by_name(dir: &Path, name: &str, options: &LoadOptions) -> Result<LoadedPlugin, LoadError> {
    let path = dir.join(file_name(name));
    if !path.exists() {
        return Err(LoadError { path, problem: LoadProblem::NotFound(what_is_there(dir)) });
    }
    load_named(&path, name, options)
}

fn load_named(path: &Path, name: &str, options: &LoadOptions) -> Result<LoadedPlugin, LoadError> {
    let plugin = load(path, options)?;
    let described = &plugin.info.description.name;
    if described != name {
        let problem = LoadProblem::OtherName { described: described.clone(), named: name.to_owned() };
        return Err(LoadError { path: path.to_owned(), problem });
    }
    Ok(plugin)
}

fn plugin_files(dir: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| name.strip_prefix(FILE_PREFIX)?.strip_suffix(FILE_SUFFIX));
        if let Some(name) = name.map(str::to_owned) {
            files.push((name, path));
        }
    }
    Ok(files)
}

fn what_is_there(dir: &Path) -> String {
    match plugin_files(dir) {
        Err(error) => format!("The folder {} cannot be listed ({error}): check plugins.dir", dir.display()),
        Ok(files) if files.is_empty() => {
            format!("The folder {} has no plugins: check plugins.dir", dir.display())
        }
        Ok(files) => {
            let mut names: Vec<_> = files.into_iter().map(|(name, _)| name).collect();
            names.sort();
            format!("The folder {} has plugins for: {}", dir.display(), names.join(", "))
        }
    }
}

/// Loads the plugin at `path`; the file is never unloaded again.
///
/// Blocks for up to the deadline when the plugin's initialisation or its `describe` does not return.
pub fn load(path: &Path, options: &LoadOptions) -> Result<LoadedPlugin, LoadError> {
    let fail = |problem| LoadError { path: path.to_owned(), problem };
    // The dynamic linker searches the system's folders for a name without a slash.
    let path = std::path::absolute(path).map_err(|error| fail(LoadProblem::Unreadable(error.to_string())))?;
    elf::check(&path).map_err(fail)?;
    let file = path.clone();
    let table = with_deadline("loading", options.deadline, move || link(&file)).map_err(fail)?;
    let description = with_deadline("describe", options.deadline, move || describe(table)).map_err(fail)?;
    let info = PluginInfo {
        description,
        abi_major: table.abi_major,
        abi_minor: table.abi_minor,
        build_info: build_info(table),
    };
    Ok(LoadedPlugin { table, info, options: options.clone() })
}

/// Runs `call` on a thread of its own. If it does not return in time the thread is left behind.
fn with_deadline<T: Send + 'static>(
    call: &'static str,
    deadline: Duration,
    run: impl FnOnce() -> Result<T, LoadProblem> + Send + 'static,
) -> Result<T, LoadProblem> {
    let (done, result) = mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("plugin-{call}"));
    let spawned = thread.spawn(move || {
        // Nobody listens after the deadline.
        let _ = done.send(run());
    });
    if let Err(error) = spawned {
        return Err(LoadProblem::Failed { call, message: format!("no thread could be started for it: {error}") });
    }
    result.recv_timeout(deadline).unwrap_or(Err(LoadProblem::Hangs { call, waited: deadline }))
}

fn link(path: &Path) -> Result<&'static ProviderTable, LoadProblem> {
    // SAFETY: runs the library's initialisers. `elf::check` has seen a provider table of this version in the file, so it is meant to be
    // loaded by us; that its initialisers are sound is what an operator vouches for who puts it into plugins.dir.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| refused(error_text(&error)))?;
    // SAFETY: as a raw pointer the symbol has no type yet.
    let symbol = unsafe { library.get::<*const ProviderTable>(abi::SYMBOL) };
    let table = symbol.map(|symbol| symbol.as_raw_ptr().cast::<ProviderTable>());
    // Threads of the plugin may run its code at any time, so it stays for good.
    std::mem::forget(library);
    let table = table.map_err(|error| refused(error_text(&error)))?;
    // SAFETY: the symbol is a table of at least this size and alignment (checked in the file), constant, and never unmapped.
    unsafe { table.as_ref() }.ok_or_else(|| LoadProblem::NotATable("it is null".to_owned()))
}

fn error_text(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

fn refused(message: String) -> LoadProblem {
    let start = message.find("GLIBC_").filter(|_| message.contains("not found"));
    match start {
        Some(start) => {
            let version = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
            let needs = message[start..].split(|letter| !version(letter)).next().unwrap_or_default().to_owned();
            LoadProblem::NewerGlibc { needs, message }
        }
        None => LoadProblem::Refused(message),
    }
}

fn describe(table: &'static ProviderTable) -> Result<Description, LoadProblem> {
    let Some(describe) = table.describe else {
        return Err(LoadProblem::NotATable("its function describe is null".to_owned()));
    };
    let mut bytes = Vec::new();
    let output = Output::into_vec(&mut bytes);
    // SAFETY: the table's version was checked; the output lives through the call.
    let code = unsafe { describe(&output) };
    if code != abi::OK {
        return Err(LoadProblem::Failed { call: "describe", message: host::failure_text(code, &bytes) });
    }
    let description = proto::Description::decode(&bytes[..])
        .map_err(|error| LoadProblem::BadDescription(format!("it is no Description of provider.proto ({error})")))?;
    let description = Description::from(description);
    match description.problem() {
        Some(problem) => Err(LoadProblem::BadDescription(problem)),
        None => Ok(description),
    }
}

fn build_info(table: &'static ProviderTable) -> String {
    if table.build_info.is_null() {
        return String::new();
    }
    // SAFETY: the contract says that it is NUL-terminated and static.
    unsafe { CStr::from_ptr(table.build_info) }.to_string_lossy().into_owned()
}

/// A plugin in memory: makes providers whose calls run on threads of their own.
///
/// `open` waits for the plugin, for the deadline at most. A call to an open provider that does not return in time is reported as
/// [`ProviderEvent::Failed`](weir_provider_api::ProviderEvent::Failed) and never keeps the caller waiting.
pub struct LoadedPlugin {
    table: &'static ProviderTable,
    info: PluginInfo,
    options: LoadOptions,
}

impl LoadedPlugin {
    /// What the plugin says about itself.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// Changes how long calls to providers that are opened from now on may take.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.options.deadline = deadline;
    }
}

impl std::fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPlugin").field("info", &self.info).finish_non_exhaustive()
    }
}

impl ProviderFactory for LoadedPlugin {
    fn describe(&self) -> Description {
        self.info.description.clone()
    }

    fn open(&self, request: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        let provider = host::open(self.table, &self.info.description.name, &self.options, request, events)?;
        Ok(Box::new(provider))
    }
}
