//! Ctrl-C and SIGTERM: the first one ends the job cleanly, the second one at once.

use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::driver::DriverEvent;
use super::exit;

/// Sends [`DriverEvent::Interrupted`] at the first signal and ends the process at the second, after `last_rites`.
pub(super) fn watch(events: Sender<DriverEvent>, last_rites: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("weir-signals".into()).spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count == 0 && events.send(DriverEvent::Interrupted(signal)).is_ok() {
                continue;
            }
            last_rites();
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    })?;
    Ok(())
}
