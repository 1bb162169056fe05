//! What crosses the boundary, as C sees it. `include/weir_provider.h` says the same for other languages; a test compares the two.
//!
//! Append-only: a new minor version adds fields at the end of a table, which the other side finds by `struct_size`. What is here is
//! never changed or moved; that would be a new major version, under a new symbol.

use std::ffi::{c_char, c_void};

/// Name of the symbol under which a plugin exports its [`ProviderTable`].
pub const SYMBOL: &str = "weir_provider_v1";
/// What a symbol of any major version begins with.
pub(crate) const SYMBOL_STEM: &str = "weir_provider_v";
/// First bytes of a [`ProviderTable`].
pub const MAGIC: [u8; 8] = *b"WEIRPROV";
/// The major version: both sides must have the same.
pub const ABI_MAJOR: u32 = 1;
/// The minor version: says which of the optional fields at the end are known.
pub const ABI_MINOR: u32 = 0;

/// [`ProviderTable::panics`]: the language has no unwinding.
pub const PANICS_NONE: u8 = 0;
/// [`ProviderTable::panics`]: built with `panic = "unwind"`, so that panics are caught inside the plugin.
pub const PANICS_UNWIND: u8 = 1;
/// [`ProviderTable::panics`]: built with `panic = "abort"`. A host refuses such a plugin: a panic would end the JobManager.
pub const PANICS_ABORT: u8 = 2;

/// Return code: done.
pub const OK: i32 = 0;
/// Return code: not done; the text written to the output says why.
pub const ERROR: i32 = 1;
/// Return code: a panic was caught; the text written to the output is its message.
pub const PANICKED: i32 = 2;

/// Log level: work was lost.
pub const LOG_ERROR: i32 = 1;
/// Log level: someone should look.
pub const LOG_WARN: i32 = 2;
/// Log level: a state changed.
pub const LOG_INFO: i32 = 3;
/// Log level: for developers.
pub const LOG_DEBUG: i32 = 4;

/// Takes bytes from the other side, which keeps them: they are copied before the function returns.
#[repr(C)]
pub struct Output {
    /// Handed back to `write`.
    pub ctx: *mut c_void,
    /// Appends `len` bytes.
    pub write: unsafe extern "C" fn(ctx: *mut c_void, bytes: *const u8, len: usize),
}

/// What a plugin exports.
#[repr(C)]
pub struct ProviderTable {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`ABI_MAJOR`] of the plugin.
    pub abi_major: u32,
    /// [`ABI_MINOR`] of the plugin.
    pub abi_minor: u32,
    /// Bytes of this table as the plugin knows it.
    pub struct_size: u32,
    /// One of the `PANICS_…` constants.
    pub panics: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// For people, NUL-terminated UTF-8: name and version of the package and what it was built with. May be null.
    pub build_info: *const c_char,
    /// Writes a `Description`.
    pub describe: Option<unsafe extern "C" fn(out: *const Output) -> i32>,
    /// Opens the provider: `OpenRequest` in, a handle or the text of an error out.
    pub open: Option<
        unsafe extern "C" fn(
            request: *const u8,
            len: usize,
            host: *const HostTable,
            handle: *mut *mut c_void,
            error: *const Output,
        ) -> i32,
    >,
    /// Takes a `Request` and returns at once.
    pub request:
        Option<unsafe extern "C" fn(handle: *mut c_void, request: *const u8, len: usize, error: *const Output) -> i32>,
    /// Frees the handle; called once, after the last request.
    pub close: Option<unsafe extern "C" fn(handle: *mut c_void, error: *const Output) -> i32>,
}

// SAFETY: a table is never written to, and what it points to is static.
unsafe impl Sync for ProviderTable {}

/// What a host hands to `open`. It stays valid until the process ends, so that a straggling thread of a plugin does no harm.
#[repr(C)]
pub struct HostTable {
    /// Bytes of this table as the host knows it.
    pub struct_size: u32,
    /// [`ABI_MINOR`] of the host.
    pub abi_minor: u32,
    /// Handed back to the functions.
    pub ctx: *mut c_void,
    /// Takes an `Event`; from any thread, at any time, also during `open` and `request`. Never waits.
    pub on_event: unsafe extern "C" fn(ctx: *mut c_void, event: *const u8, len: usize),
    /// Takes a line for the JobManager's log, UTF-8, at one of the `LOG_…` levels. Never waits.
    pub log: unsafe extern "C" fn(ctx: *mut c_void, level: i32, text: *const u8, len: usize),
}

// SAFETY: a table is never written to; its functions may be called from any thread.
unsafe impl Sync for HostTable {}
// SAFETY: as above.
unsafe impl Send for HostTable {}

impl Output {
    /// An output that appends to `buffer`. Must not be used after `buffer` has been touched otherwise.
    pub(crate) fn into_vec(buffer: &mut Vec<u8>) -> Self {
        unsafe extern "C" fn write(ctx: *mut c_void, bytes: *const u8, len: usize) {
            // SAFETY: `ctx` is the buffer below, which outlives the call the output is made for; `bytes` is the caller's promise.
            let (buffer, bytes) = unsafe { (&mut *ctx.cast::<Vec<u8>>(), slice(bytes, len)) };
            buffer.extend_from_slice(bytes);
        }
        Self { ctx: std::ptr::from_mut(buffer).cast(), write }
    }

    /// Hands `bytes` over.
    pub(crate) fn put(&self, bytes: &[u8]) {
        // SAFETY: whoever made the output keeps it usable while it is lent; the bytes live through the call.
        unsafe { (self.write)(self.ctx, bytes.as_ptr(), bytes.len()) }
    }
}

/// The bytes at `data`, which may be null if there are none.
///
/// # Safety
/// Unless `len` is 0, `data` points to `len` bytes that live and do not change for `'a`.
pub(crate) unsafe fn slice<'a>(data: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if len == 0 || data.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(data, len) } }
}

/// The message of a caught panic. The payload is not dropped: that could panic again.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    };
    std::mem::forget(payload);
    message
}
