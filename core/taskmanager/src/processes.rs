//! Processes as the kernel shows them, and orphans: what workers started, and what they left.

use std::collections::BTreeSet;
use std::io;

use weir_process::{children, state_of};
pub(crate) use weir_process::{is_stopped, memory, resident_bytes_of_tree};

/// Makes this process the parent of what its workers leave behind, so that it can be found.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: the call sets an attribute of this process and takes plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Looks after adopted processes: what workers started, whose parents are gone. Killing those of a worker that ended is not its
/// business, as long as they can be told from others'.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    /// Dead ones found at the last look.
    dead: BTreeSet<u32>,
}

impl Adopted {
    /// Takes the ends of those that have ended since the look before, so that they do not fill the process table. `workers`: the
    /// children that others wait for. Any other child somebody here waits for is taken by them in the time between two looks.
    ///
    /// `kill`: no worker is left, and nobody else here starts processes, so that whatever is a child of this process hid from those
    /// who ended its worker.
    pub(crate) fn look_after(&mut self, workers: &BTreeSet<u32>, kill: bool) {
        let (dead, living): (BTreeSet<u32>, BTreeSet<u32>) = children(std::process::id())
            .into_iter()
            .filter(|pid| !workers.contains(pid))
            .partition(|pid| state_of(*pid) == Some('Z'));
        dead.intersection(&self.dead).for_each(|pid| reap(*pid));
        self.dead = dead;
        if kill && !living.is_empty() {
            tracing::info!(processes = ?living, "killing what workers left behind");
            living.iter().for_each(|pid| kill_process(*pid));
        }
    }
}

fn kill_process(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: the call takes plain numbers. A process that is gone is what is wanted.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Takes the end of a child of this process.
fn reap(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: a null pointer stands for "the status is of no interest".
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a shell start something in the background and end; the process id of what it started.
    fn orphan(command: &str) -> u32 {
        let script = format!("{command} >/dev/null 2>&1 & echo $!");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn adopted_children_are_reaped_and_killed_when_nobody_can_want_them() {
        adopt_orphans().unwrap();
        let (short, long) = (orphan("sleep 0.1"), orphan("sleep 100"));
        // Other tests in this process have children as well.
        let others = |own: u32| children(std::process::id()).into_iter().filter(|pid| *pid != own).collect();
        let mut adopted = Adopted::default();
        wait_for("the short one is reaped", || {
            adopted.look_after(&others(short), false);
            state_of(short).is_none()
        });
        assert!(state_of(long).is_some_and(|state| state != 'Z'));
        wait_for("the long one is killed and reaped", || {
            adopted.look_after(&others(long), true);
            state_of(long).is_none()
        });
    }
}
