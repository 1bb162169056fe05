//! An open provider of a plugin, as its host sees it.
//!
//! All calls to the plugin are made by one thread of the host's, the caller. A second one, the watch, says so when a call does not return. Whoever
//! uses the provider only puts requests into a queue.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use prost::Message;
use weir_proto::provider as proto;
use weir_provider_api::{EventSink, OpenError, OpenRequest, Provider, ProviderEvent, ProviderRequest, TaskManagerId};

use crate::abi::{self, HostTable, Output, ProviderTable};
use crate::{LoadOptions, LogLevel, LogSink};

/// A duration as people write it.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// What a plugin said when a call returned `code`.
pub(crate) fn failure_text(code: i32, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = if text.is_empty() { "it did not say why".into() } else { text };
    match code {
        abi::ERROR => text.into_owned(),
        abi::PANICKED => format!("it panicked: {text}"),
        other => format!("{text} (code {other})"),
    }
}

/// Where the events of one open provider go through. Shut for good when the provider has closed or nobody listens any more.
struct Gate {
    plugin: String,
    log: LogSink,
    events: Mutex<Option<EventSink>>,
}

impl Gate {
    fn tell(&self, event: ProviderEvent) {
        let mut events = lock(&self.events);
        let last = event == ProviderEvent::Closed;
        if let Some(events) = &*events {
            events(event);
        }
        if last {
            *events = None;
        }
    }

    fn shut(&self) {
        *lock(&self.events) = None;
    }

    fn log(&self, level: LogLevel, text: &str) {
        (self.log)(&self.plugin, level, text);
    }

    /// Takes the bytes of an event from the plugin.
    fn take(&self, bytes: &[u8]) {
        let event = match proto::Event::decode(bytes) {
            Ok(message) => ProviderEvent::from_wire(message).map_err(|error| error.to_string()),
            Err(error) => Err(format!("it is no Event of provider.proto: {error}")),
        };
        match event {
            Ok(Some(event)) => self.tell(event),
            Ok(None) => self.log(LogLevel::Debug, "an event that this version does not know was left out"),
            Err(problem) => {
                let message =
                    format!("the provider plugin {} sent an event that cannot be read: {problem}", self.plugin);
                self.tell(ProviderEvent::Failed { message, fatal: false });
            }
        }
    }
}

/// The host's table for `gate`. Both are never freed: the plugin may hold on to them.
fn host_table(gate: Arc<Gate>) -> &'static HostTable {
    unsafe extern "C" fn on_event(ctx: *mut c_void, event: *const u8, len: usize) {
        // SAFETY: `ctx` is a gate that was leaked below; the bytes are the plugin's promise.
        let (gate, event) = unsafe { (&*ctx.cast::<Gate>(), abi::slice(event, len)) };
        contain(gate, || gate.take(event));
    }

    unsafe extern "C" fn log(ctx: *mut c_void, level: i32, text: *const u8, len: usize) {
        // SAFETY: as above.
        let (gate, text) = unsafe { (&*ctx.cast::<Gate>(), abi::slice(text, len)) };
        contain(gate, || gate.log(LogLevel::from_code(level), &String::from_utf8_lossy(text)));
    }

    /// A panic must not go back through the plugin's frames.
    fn contain(gate: &Gate, run: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
            let message = abi::panic_message(payload);
            tracing::error!(plugin = gate.plugin, "the host panicked while it took a message of a plugin: {message}");
        }
    }

    Box::leak(Box::new(HostTable {
        struct_size: size_of::<HostTable>() as u32,
        abi_minor: abi::ABI_MINOR,
        ctx: Arc::into_raw(gate).cast_mut().cast(),
        on_event,
        log,
    }))
}

/// A plugin's open provider; only ever used by one thread at a time.
struct Handle {
    table: &'static ProviderTable,
    raw: *mut c_void,
}

// SAFETY: the contract says that a handle may be used from any thread, by one at a time.
unsafe impl Send for Handle {}

impl Handle {
    /// An error says what the plugin said, and whether it is of no use any more.
    fn request(&self, bytes: &[u8]) -> Result<(), (String, bool)> {
        let Some(request) = self.table.request else { return Err(("its function request is null".to_owned(), true)) };
        let mut error = Vec::new();
        let output = Output::into_vec(&mut error);
        // SAFETY: the handle came from this table's open and is not closed; bytes and output live through the call.
        let code = unsafe { request(self.raw, bytes.as_ptr(), bytes.len(), &output) };
        // After a panic nobody knows what state a provider is in.
        if code == abi::OK { Ok(()) } else { Err((failure_text(code, &error), code == abi::PANICKED)) }
    }

    fn close(self) -> Result<(), String> {
        let Some(close) = self.table.close else { return Ok(()) };
        let mut error = Vec::new();
        let output = Output::into_vec(&mut error);
        // SAFETY: as above; the handle is used up.
        let code = unsafe { close(self.raw, &output) };
        if code == abi::OK { Ok(()) } else { Err(failure_text(code, &error)) }
    }
}

fn open_handle(
    table: &'static ProviderTable,
    request: OpenRequest,
    host: &'static HostTable,
) -> Result<Handle, String> {
    let open = table.open.ok_or("its function open is null")?;
    let request = proto::OpenRequest::try_from(request).map_err(|error| error.to_string())?.encode_to_vec();
    let mut raw = std::ptr::null_mut();
    let mut error = Vec::new();
    let output = Output::into_vec(&mut error);
    // SAFETY: the table's version was checked; everything lent lives through the call, the host's table for ever.
    let code = unsafe { open(request.as_ptr(), request.len(), host, &mut raw, &output) };
    if code == abi::OK { Ok(Handle { table, raw }) } else { Err(failure_text(code, &error)) }
}

/// What the caller is to do next.
struct Call {
    name: &'static str,
    request: ProviderRequest,
}

struct Running {
    name: &'static str,
    since: Instant,
    /// Whether it has been said that it takes too long.
    reported: bool,
    shutdown: bool,
}

#[derive(Default)]
struct Calls {
    queue: VecDeque<Call>,
    running: Option<Running>,
    /// Nothing is asked of it any more: close it when the queue is empty.
    closing: bool,
    closed: bool,
}

impl Calls {
    fn hangs(&self) -> Option<&'static str> {
        self.running.as_ref().filter(|running| running.reported).map(|running| running.name)
    }
}

struct Shared {
    calls: Mutex<Calls>,
    changed: Condvar,
    gate: Arc<Gate>,
    deadline: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these mutexes is whole at every moment, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a plugin's provider on a thread of its own.
pub(crate) fn open(
    table: &'static ProviderTable,
    plugin: &str,
    options: &LoadOptions,
    request: OpenRequest,
    events: EventSink,
) -> Result<PluginProvider, OpenError> {
    let gate = Arc::new(Gate { plugin: plugin.to_owned(), log: options.log.clone(), events: Mutex::new(Some(events)) });
    let shared = Arc::new(Shared {
        calls: Mutex::default(),
        changed: Condvar::new(),
        gate: gate.clone(),
        deadline: options.deadline,
    });
    let (done, opened) = mpsc::channel();
    let caller = shared.clone();
    spawn(format!("plugin-{plugin}"), move || {
        let handle = open_handle(table, request, host_table(caller.gate.clone()));
        match handle {
            Err(message) => drop(done.send(Err(message))),
            Ok(handle) => match done.send(Ok(())) {
                Ok(()) => caller.make_calls(handle),
                // Given up on in the meantime.
                Err(_) => drop(handle.close()),
            },
        }
    })?;
    let result = opened.recv_timeout(options.deadline).unwrap_or_else(|_| {
        Err(format!("it has not returned from open for {}; it is left alone", seconds(options.deadline)))
    });
    if let Err(message) = result {
        gate.shut();
        return Err(OpenError(format!("the provider plugin {plugin} could not be opened: {message}")));
    }
    let provider = PluginProvider { shared: shared.clone() };
    spawn(format!("watch-{plugin}"), move || shared.watch())?;
    Ok(provider)
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    // The kernel shows 15 bytes of a thread's name.
    match std::thread::Builder::new().name(name).spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => Err(OpenError(format!("no thread could be started for a provider plugin: {error}"))),
    }
}

impl Shared {
    /// The caller's loop.
    fn make_calls(&self, handle: Handle) {
        while let Some(call) = self.next_call() {
            let bytes = proto::Request::from(call.request).encode_to_vec();
            let result = handle.request(&bytes);
            self.returned();
            if let Err((problem, fatal)) = result {
                let message = format!("the provider plugin {} failed in {}: {problem}", self.gate.plugin, call.name);
                self.gate.tell(ProviderEvent::Failed { message, fatal });
            }
        }
        if let Err(problem) = handle.close() {
            self.gate.log(LogLevel::Warn, &format!("closing failed: {problem}"));
        }
        let mut calls = lock(&self.calls);
        calls.running = None;
        calls.closed = true;
        self.changed.notify_all();
    }

    /// Waits for the next request; `None` when the provider is to be closed.
    fn next_call(&self) -> Option<Call> {
        let mut calls = lock(&self.calls);
        loop {
            if let Some(call) = calls.queue.pop_front() {
                let shutdown = matches!(call.request, ProviderRequest::Shutdown { .. });
                calls.running = Some(Running { name: call.name, since: Instant::now(), reported: false, shutdown });
                self.changed.notify_all();
                return Some(call);
            }
            if calls.closing {
                calls.running =
                    Some(Running { name: "close", since: Instant::now(), reported: false, shutdown: false });
                self.changed.notify_all();
                return None;
            }
            calls = self.changed.wait(calls).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn returned(&self) {
        let running = lock(&self.calls).running.take();
        self.changed.notify_all();
        if let Some(running) = running.filter(|running| running.reported) {
            let took = seconds(running.since.elapsed());
            self.gate.log(LogLevel::Warn, &format!("has returned from {} after {took}", running.name));
        }
    }

    /// The watch's loop.
    fn watch(&self) {
        let mut calls = lock(&self.calls);
        while !calls.closed {
            let left = match &calls.running {
                Some(running) if !running.reported => Some(self.deadline.saturating_sub(running.since.elapsed())),
                Some(_) | None => None,
            };
            calls = match left {
                None => self.changed.wait(calls).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    self.report_hang(calls);
                    lock(&self.calls)
                }
                Some(left) => self.changed.wait_timeout(calls, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn report_hang(&self, mut calls: MutexGuard<'_, Calls>) {
        let Some(running) = &mut calls.running else { return };
        running.reported = true;
        let (name, mut shutdown) = (running.name, running.shutdown);
        let mut refused = Vec::new();
        calls.queue.retain(|call| match &call.request {
            ProviderRequest::StartWorker(spec) => {
                refused.push(spec.id.clone());
                false
            }
            ProviderRequest::Shutdown { .. } => {
                shutdown = true;
                true
            }
            ProviderRequest::RecoverWorkers
            | ProviderRequest::StopWorker(_)
            | ProviderRequest::DeclareDemand { .. } => true,
        });
        drop(calls);
        self.gate.log(LogLevel::Error, &self.hang_text(name));
        self.gate.tell(ProviderEvent::Failed { message: self.hang_text(name), fatal: shutdown });
        for id in refused {
            self.refuse(id, name);
        }
        if shutdown {
            self.gate.tell(ProviderEvent::Closed);
        }
    }

    fn hang_text(&self, call: &str) -> String {
        let (plugin, waited) = (&self.gate.plugin, seconds(self.deadline));
        format!(
            "the provider plugin {plugin} has not returned from {call} for {waited}; workers are asked of it again when it has"
        )
    }

    /// A worker the plugin was never asked for.
    fn refuse(&self, id: TaskManagerId, hangs_in: &str) {
        let plugin = &self.gate.plugin;
        let reason = format!("the provider plugin {plugin} has not returned from {hangs_in}, so it was not asked");
        self.gate.tell(ProviderEvent::Terminated { id, reason, retryable: true });
    }
}

/// The provider of a plugin. Dropping it closes the plugin's handle; no event follows.
pub(crate) struct PluginProvider {
    shared: Arc<Shared>,
}

impl Provider for PluginProvider {
    /// Puts the request into the queue. While the plugin hangs, workers are refused and a shutdown is over at once; the rest is done later.
    fn request(&mut self, request: ProviderRequest) {
        let shared = &self.shared;
        let mut calls = lock(&shared.calls);
        if let Some(name) = calls.hangs() {
            match &request {
                ProviderRequest::StartWorker(spec) => {
                    drop(calls);
                    return shared.refuse(spec.id.clone(), name);
                }
                ProviderRequest::Shutdown { .. } => {
                    calls.queue.push_back(Call { name: call_name(&request), request });
                    drop(calls);
                    let message = format!("{}; its workers may go on", shared.hang_text(name));
                    shared.gate.tell(ProviderEvent::Failed { message, fatal: true });
                    return shared.gate.tell(ProviderEvent::Closed);
                }
                ProviderRequest::DeclareDemand { .. } => {
                    calls.queue.retain(|call| !matches!(call.request, ProviderRequest::DeclareDemand { .. }));
                }
                ProviderRequest::RecoverWorkers | ProviderRequest::StopWorker(_) => {}
            }
        }
        calls.queue.push_back(Call { name: call_name(&request), request });
        shared.changed.notify_all();
    }
}

impl Drop for PluginProvider {
    fn drop(&mut self) {
        self.shared.gate.shut();
        lock(&self.shared.calls).closing = true;
        self.shared.changed.notify_all();
    }
}

fn call_name(request: &ProviderRequest) -> &'static str {
    match request {
        ProviderRequest::RecoverWorkers => "recover_workers",
        ProviderRequest::StartWorker(_) => "start_worker",
        ProviderRequest::StopWorker(_) => "stop_worker",
        ProviderRequest::DeclareDemand { .. } => "declare_demand",
        ProviderRequest::Shutdown { .. } => "shutdown",
    }
}
