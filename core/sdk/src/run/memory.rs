//! The memory guard: a job that allocates without end is ended with a report instead of taking the machine down.

use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::driver::DriverEvent;
use super::usage;

/// How often memory is looked at. A core fills about a gigabyte in this time at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// What one process may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Bytes of resident memory.
    pub(super) bytes: u64,
    /// Whether somebody set it, or it follows from the machine.
    pub(super) configured: bool,
}

impl Limit {
    /// The configured limit, or nine tenths of what there is.
    pub(super) fn new(configured: Option<u64>, processes: u32) -> Option<Limit> {
        if let Some(bytes) = configured {
            return Some(Limit { bytes, configured: true });
        }
        let all = usage::memory_limit()?;
        Some(Limit { bytes: all / 10 * 9 / u64::from(processes.max(1)), configured: false })
    }

    /// The report about a process that went over the limit.
    pub(super) fn message(&self, who: &str, used: u64) -> String {
        let origin = if self.configured {
            "taskmanager.memory.process.size allows"
        } else {
            "this machine can give it (nine tenths of its memory; taskmanager.memory.process.size sets another limit)"
        };
        let mib = |bytes: u64| bytes / (1024 * 1024);
        format!(
            "{who} uses {} MiB of memory, more than the {} MiB that {origin}; look for state or buffers in the job that only grow",
            mib(used),
            mib(self.bytes)
        )
    }
}

/// Watches process `pid` until it is gone and sends [`DriverEvent::MemoryExceeded`] when it goes over `limit`.
pub(super) fn watch(worker: u32, pid: u32, limit: Limit, events: Sender<DriverEvent>) -> std::io::Result<()> {
    thread::Builder::new().name("weir-memory".into()).spawn(move || {
        while let Some(used) = usage::resident_bytes(pid) {
            if used > limit.bytes {
                let _ = events.send(DriverEvent::MemoryExceeded { worker, used });
                return;
            }
            thread::sleep(INTERVAL);
        }
    })?;
    Ok(())
}
