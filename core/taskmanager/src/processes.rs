//! Processes as the kernel shows them in `/proc`: children, orphans, memory.

use std::collections::BTreeSet;
use std::fs;
use std::io;

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

/// The children of a process, with those of all its threads.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => children.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok())),
            // A kernel without that file, unless it is the thread that is gone.
            Err(_) if thread.path().exists() => return children_by_parent(pid),
            Err(_) => {}
        }
    }
    children
}

/// The same, found by looking at every process.
fn children_by_parent(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| stat_of(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

/// State and parent of a process.
fn stat_of(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn state_of(pid: u32) -> Option<char> {
    stat_of(pid).map(|(state, _)| state)
}

/// Whether a signal has stopped a process.
pub(crate) fn is_stopped(pid: u32) -> bool {
    state_of(pid) == Some('T')
}

/// Resident bytes of a process and all its descendants.
pub(crate) fn resident_bytes_of_tree(pid: u32) -> u64 {
    let mut total = resident_bytes(pid).unwrap_or(0);
    let mut open = children(pid);
    let mut seen = BTreeSet::new();
    while let Some(pid) = open.pop() {
        if seen.insert(pid) {
            total += resident_bytes(pid).unwrap_or(0);
            open.extend(children(pid));
        }
    }
    total
}

/// Resident bytes of a process.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).unwrap_or(4096))
}

/// Bytes of memory: of the machine, and what this process may use, which a control group may make less.
pub(crate) fn memory() -> (u64, u64) {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    });
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .min();
    let machine = machine.unwrap_or(u64::MAX / 10);
    (machine, group.map_or(machine, |group| group.min(machine)))
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

    #[test]
    fn memory_counts_descendants() {
        let mut shell = Command::new("sh").args(["-c", "sleep 100 & sleep 100 & wait"]).spawn().unwrap();
        wait_for("both start", || children(shell.id()).len() == 2);
        assert!(resident_bytes_of_tree(shell.id()) > resident_bytes(shell.id()).unwrap());
        assert_eq!(children_by_parent(shell.id()).len(), 2);
        children(shell.id()).into_iter().for_each(kill_process);
        shell.wait().unwrap();
        let (machine, allowed) = memory();
        assert!(allowed > 0 && allowed <= machine);
    }
}
