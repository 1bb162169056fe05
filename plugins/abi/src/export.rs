//! The plugin's side: what [`export_provider!`](crate::export_provider) fills the table with.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use weir_proto::provider as proto;
pub use weir_provider_api::ProviderFactory;
use weir_provider_api::{EventSink, OpenRequest, Provider, ProviderEvent, ProviderRequest};

use crate::abi::{self, HostTable, Output, ProviderTable};
use crate::forward;
use crate::log::LogLevel;

/// Exports a provider: the argument is an expression whose value implements
/// [`ProviderFactory`](weir_provider_api::ProviderFactory). Used once, in a crate of type `cdylib`.
///
/// Once the provider is opened, `tracing` events of the plugin, and panics on its threads, go to the JobManager's log.
#[macro_export]
macro_rules! export_provider {
    ($factory:expr) => {
        const _: () = {
            struct Exported;

            impl $crate::export::Exported for Exported {
                fn factory() -> ::std::boxed::Box<dyn $crate::export::ProviderFactory> {
                    ::std::boxed::Box::new($factory)
                }
            }

            const BUILT: &[&str] = &[
                env!("CARGO_PKG_NAME"),
                " ",
                env!("CARGO_PKG_VERSION"),
                ", Rust, weir-plugin ",
                $crate::VERSION,
                "\0",
            ];
            static BUILD_INFO: [u8; $crate::export::len(BUILT)] = $crate::export::concat(BUILT);

            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            static weir_provider_v1: $crate::abi::ProviderTable =
                $crate::export::table::<Exported>(&BUILD_INFO, cfg!(panic = "unwind"));
        };
    };
}

/// What `export_provider!` implements.
pub trait Exported: 'static {
    /// The provider.
    fn factory() -> Box<dyn ProviderFactory>;
}

/// Bytes of all `parts`.
pub const fn len(parts: &[&str]) -> usize {
    let (mut bytes, mut part) = (0, 0);
    while part < parts.len() {
        bytes += parts[part].len();
        part += 1;
    }
    bytes
}

/// All `parts`, one after the other.
pub const fn concat<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut all = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            all[at] = bytes[byte];
            at += 1;
            byte += 1;
        }
        part += 1;
    }
    all
}

/// The table of the provider that `E` makes.
pub const fn table<E: Exported>(build_info: &'static [u8], unwinds: bool) -> ProviderTable {
    ProviderTable {
        magic: abi::MAGIC,
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        struct_size: size_of::<ProviderTable>() as u32,
        panics: if unwinds { abi::PANICS_UNWIND } else { abi::PANICS_ABORT },
        reserved: [0; 3],
        build_info: build_info.as_ptr().cast(),
        describe: Some(describe::<E>),
        open: Some(open::<E>),
        request: Some(request),
        close: Some(close),
    }
}

/// Runs what the plugin's author wrote; a panic becomes a code and a message.
fn contained(output: *const Output, run: impl FnOnce() -> Result<(), String>) -> i32 {
    let (code, message) = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return abi::OK,
        Ok(Err(message)) => (abi::ERROR, message),
        Err(payload) => (abi::PANICKED, abi::panic_message(payload)),
    };
    // SAFETY: the host lends the output for the call, or gives none.
    if let Some(output) = unsafe { output.as_ref() } {
        output.put(message.as_bytes());
    }
    code
}

unsafe extern "C" fn describe<E: Exported>(out: *const Output) -> i32 {
    contained(out, || {
        let description = proto::Description::from(E::factory().describe());
        // SAFETY: the host lends the output for the call.
        let out = unsafe { out.as_ref() }.ok_or("the host gave no output to describe")?;
        out.put(&description.encode_to_vec());
        Ok(())
    })
}

/// What a handle points to.
struct Opened(Mutex<Guarded>);

struct Guarded {
    provider: Box<dyn Provider>,
    /// While a request is taken, and after a panic: nobody knows then what state the provider is in, so it is not used again.
    broken: bool,
}

unsafe extern "C" fn open<E: Exported>(
    request: *const u8,
    len: usize,
    host: *const HostTable,
    handle: *mut *mut c_void,
    error: *const Output,
) -> i32 {
    contained(error, || {
        // SAFETY: the host lends the bytes for the call, and its table until the process ends.
        let (bytes, host) = unsafe { (abi::slice(request, len), host.as_ref()) };
        let host = host.filter(|host| host.struct_size as usize >= size_of::<HostTable>());
        let host = host.ok_or("the host's table is too small for this plugin: use a newer Weir")?;
        if handle.is_null() {
            return Err("the host gave no place for the handle".to_owned());
        }
        let request =
            proto::OpenRequest::decode(bytes).map_err(|error| format!("the OpenRequest is broken: {error}"))?;
        forward::to_host(host);
        let told = Arc::new(Told { host, armed: AtomicBool::new(false) });
        let provider = E::factory().open(OpenRequest::from(request), sink(told.clone()));
        let provider = provider.map_err(|error| error.to_string())?;
        told.armed.store(true, Ordering::Release);
        let opened = Box::new(Opened(Mutex::new(Guarded { provider, broken: false })));
        // SAFETY: not null; the host lends it for the call.
        unsafe { *handle = Box::into_raw(opened).cast() };
        Ok(())
    })
}

unsafe extern "C" fn request(handle: *mut c_void, request: *const u8, len: usize, error: *const Output) -> i32 {
    contained(error, || {
        // SAFETY: a handle that open made and close has not taken; the bytes are lent for the call.
        let (opened, bytes) = unsafe { (&*handle.cast::<Opened>(), abi::slice(request, len)) };
        let message = proto::Request::decode(bytes).map_err(|error| format!("the request is broken: {error}"))?;
        let Some(request) = ProviderRequest::from_wire(message).map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let mut guarded = opened.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guarded.broken {
            return Err("the provider panicked earlier and is not used any more".to_owned());
        }
        guarded.broken = true;
        guarded.provider.request(request);
        guarded.broken = false;
        Ok(())
    })
}

unsafe extern "C" fn close(handle: *mut c_void, error: *const Output) -> i32 {
    contained(error, || {
        // SAFETY: made by open from a box; the host closes it once and does not use it again.
        drop(unsafe { Box::from_raw(handle.cast::<Opened>()) });
        Ok(())
    })
}

/// Tells the host, and notices when nobody can tell it anything any more.
struct Told {
    host: &'static HostTable,
    armed: AtomicBool,
}

impl Told {
    fn tell(&self, event: ProviderEvent) {
        if event == ProviderEvent::Closed {
            self.armed.store(false, Ordering::Release);
        }
        let bytes = proto::Event::from(event).encode_to_vec();
        // SAFETY: the host's table and its functions stay usable until the process ends.
        unsafe { (self.host.on_event)(self.host.ctx, bytes.as_ptr(), bytes.len()) }
    }
}

fn sink(told: Arc<Told>) -> EventSink {
    let last = Last(told);
    Arc::new(move |event| last.0.tell(event))
}

/// Dropped with the last clone of the event sink.
struct Last(Arc<Told>);

impl Drop for Last {
    fn drop(&mut self) {
        // After Closed, before open has returned, or when the host closes the handle, nothing is lost. Otherwise a thread of the provider
        // has ended that should not have.
        if self.0.armed.load(Ordering::Acquire) {
            let message =
                "the provider can tell nothing any more: the thread that held its event sink has ended".to_owned();
            self.0.tell(ProviderEvent::Failed { message, fatal: true });
        }
    }
}

/// Writes a line to the log of the JobManager that opened the plugin; before that it is lost.
pub fn log(level: LogLevel, text: &str) {
    forward::log(level, text);
}
