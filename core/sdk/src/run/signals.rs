//! Ctrl-C and SIGTERM: the first one ends the job cleanly, the second one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::driver::DriverEvent;
use super::exit;

/// Supervisors often signal a process and then its whole group: signals this soon after the first one are the same wish.
const ONE_WISH: Duration = Duration::from_millis(500);

/// For a role of a run that somebody else drives: Ctrl-C in a terminal reaches every process, but only the driver decides.
pub(super) fn ignore() {
    // SAFETY: the calls only set how this process treats two signals.
    unsafe {
        libc::signal(SIGINT, libc::SIG_IGN);
        libc::signal(SIGTERM, libc::SIG_IGN);
    }
}

/// Sets `interrupted` and sends [`DriverEvent::Interrupted`] at the first signal, and ends the process at the second, after
/// `last_rites`.
pub(super) fn watch(
    events: Sender<DriverEvent>,
    interrupted: Arc<AtomicBool>,
    last_rites: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("weir-signals".into()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    interrupted.store(true, Ordering::Release);
                    // A driver that is gone has decided how the job ends; the process is about to end as well.
                    let _ = events.send(DriverEvent::Interrupted(signal));
                }
                Some(first) if first.elapsed() < ONE_WISH => {}
                Some(_) => {
                    last_rites();
                    std::process::exit(i32::from(exit::INTERRUPTED));
                }
            }
        }
    })?;
    Ok(())
}
