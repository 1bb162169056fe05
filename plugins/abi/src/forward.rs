//! Brings a plugin's log to its host. A plugin has its own copies of `tracing` and of the panic hook, which nobody else sets up.

use std::fmt::{self, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::LogLevel;
use crate::abi::HostTable;

/// The host that opened the plugin last.
static HOST: AtomicPtr<HostTable> = AtomicPtr::new(std::ptr::null_mut());

/// From now on lines go to `host`.
pub(crate) fn to_host(host: &'static HostTable) {
    static ONCE: Once = Once::new();
    HOST.store(std::ptr::from_ref(host).cast_mut(), Ordering::Release);
    ONCE.call_once(|| {
        // A plugin whose author has set a subscriber keeps it.
        let _ = tracing::subscriber::set_global_default(Forward);
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            log(LogLevel::Error, &format!("thread {:?} {panic}", thread.name().unwrap_or("without a name")));
        }));
    });
}

pub(crate) fn log(level: LogLevel, text: &str) {
    // SAFETY: only ever set to a host's table, which stays valid until the process ends.
    if let Some(host) = unsafe { HOST.load(Ordering::Acquire).as_ref() } {
        // SAFETY: as the table; the text lives through the call.
        unsafe { (host.log)(host.ctx, level.code(), text.as_ptr(), text.len()) }
    }
}

/// Hands events on as lines. Spans are not kept: a line says all it has to say.
struct Forward;

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG | Level::TRACE => LogLevel::Debug,
        };
        let mut line = Line::default();
        event.record(&mut line);
        log(level, &format!("{}{}", line.message, line.fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
