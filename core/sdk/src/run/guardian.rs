//! The guardian: a child process by which a worker or coordinator ends what user code has started, even when it was killed itself.
//!
//! Whoever starts a process in a role also ends what that process leaves behind. If the starter is killed, the kernel kills the process,
//! and nobody would be left for the children of user code. The guardian sleeps until then.

use std::fs;
use std::io::Read;

/// By which a TaskManager or JobManager knows what a process has started; a variable that children inherit.
const LINEAGE_VARIABLE: &str = "WEIR_LINEAGE";
/// Its name in `/proc`, by which others know that it is not user code.
const NAME: &std::ffi::CStr = c"weir-guardian";
/// Sent to the guardian by the kernel when the process it belongs to ends.
const PARENT_DIED: libc::c_int = libc::SIGUSR1;

/// The guardian of this process, which ends when this is dropped.
pub(super) struct Guardian(libc::pid_t);

/// Starts one, unless nobody has given this process a lineage. To be called while this thread, which is to be the one of `main`, is the
/// only one. Without one the role can be played as well, so that failing to fork is no error.
pub(super) fn start() -> Option<Guardian> {
    let lineage = std::env::var(LINEAGE_VARIABLE).ok()?;
    let marker = format!("{LINEAGE_VARIABLE}={lineage}");
    let role = std::process::id();
    // SAFETY: there is one thread, so the child may do whatever the parent may. It does not return from `guard`.
    match unsafe { libc::fork() } {
        0 => guard(role, &marker),
        -1 => None,
        child => Some(Guardian(child)),
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // SAFETY: the child was not waited for, so that its id is its own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

fn guard(role: u32, marker: &str) -> ! {
    // SAFETY: plain calls with values of their types. The descriptors belong to the parent, whose output would otherwise have no end
    // as long as this process lives.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, PARENT_DIED);
        libc::sigprocmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, PARENT_DIED);
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        for descriptor in 0..64 {
            libc::close(descriptor);
        }
        while libc::getppid() as u32 == role {
            let mut signal = 0;
            libc::sigwait(&signals, &mut signal);
        }
    }
    // What is killed may have forked a moment before; its child is found by looking again.
    for _ in 0..10 {
        let left = descendants(marker);
        if left.is_empty() {
            break;
        }
        for pid in left {
            // SAFETY: `kill` takes any numbers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    // SAFETY: ends the process. Handlers for its end are the parent's business.
    unsafe { libc::_exit(0) }
}

/// All other processes with the marker in their environment that are not zombies: those have no environment any more.
fn descendants(marker: &str) -> Vec<libc::pid_t> {
    let own = std::process::id() as libc::pid_t;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<libc::pid_t>().ok());
    pids.filter(|pid| *pid != own && has_variable(*pid, marker)).collect()
}

fn has_variable(pid: libc::pid_t, marker: &str) -> bool {
    let mut environment = Vec::new();
    let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    if file.take(4 << 20).read_to_end(&mut environment).is_err() {
        return false;
    }
    environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
}
