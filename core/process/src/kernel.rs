//! Processes as the kernel shows them in `/proc`: children, states, memory.

use std::collections::BTreeSet;
use std::fs;

/// The children of a process, with those of all its threads.
pub fn children(pid: u32) -> Vec<u32> {
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

/// The letter of a process's state; `None` if there is no such process.
pub fn state_of(pid: u32) -> Option<char> {
    stat_of(pid).map(|(state, _)| state)
}

/// Whether a signal has stopped a process.
pub fn is_stopped(pid: u32) -> bool {
    state_of(pid) == Some('T')
}

/// Resident bytes of a process and all its descendants.
pub fn resident_bytes_of_tree(pid: u32) -> u64 {
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
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).unwrap_or(4096))
}

/// Bytes of memory: of the machine, and what this process may use, which a control group may make less.
pub fn memory() -> (u64, u64) {
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

    #[test]
    fn memory_counts_descendants() {
        let mut shell = Command::new("sh").args(["-c", "sleep 100 & sleep 100 & wait"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while children(shell.id()).len() != 2 {
            assert!(Instant::now() < deadline, "both start");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(resident_bytes_of_tree(shell.id()) > resident_bytes(shell.id()).unwrap());
        assert_eq!(children_by_parent(shell.id()).len(), 2);
        for pid in children(shell.id()) {
            // SAFETY: the call takes plain numbers.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
        }
        shell.wait().unwrap();
        let (machine, allowed) = memory();
        assert!(allowed > 0 && allowed <= machine);
    }
}
