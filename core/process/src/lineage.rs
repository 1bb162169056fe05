//! Finding what a process has started, even what has left its session.

use std::fs;
use std::io::Read;

/// Environment variable by which descendants are known; inherited by whatever a process starts.
pub(crate) const LINEAGE_VARIABLE: &str = "WEIR_LINEAGE";

/// The name of such a process; set by the crate `weir`.
const GUARDIAN: &str = "weir-guardian";

/// Kills what is left of a process that ran with this lineage: its session, and all whose environment names it.
/// None of them is older than `born`, from [`now`].
///
/// What has left both the session and the environment behind is not found; user code that wants to hide from its own operator can.
pub(crate) fn kill(session: u32, lineage: &str, born: u64) -> usize {
    kill_group(session);
    let mut killed = 0;
    // What is killed may have forked a moment before; its child is found by looking again.
    for _ in 0..10 {
        let found = descendants(session, lineage, born);
        if found.is_empty() {
            break;
        }
        for pid in found {
            killed += usize::from(!is_guardian(pid));
            // SAFETY: `kill` takes any numbers.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
        }
    }
    killed
}

/// Kills a process group. Fine if there is none.
pub(crate) fn kill_group(group: u32) {
    // A group of 1 or less would mean others than the child's.
    if group > 1 {
        // SAFETY: `killpg` takes any numbers.
        unsafe { libc::killpg(group as libc::pid_t, libc::SIGKILL) };
    }
}

/// Clock ticks since the machine started, as processes' start times are given.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live local; sysconf reads a constant of the system.
    let hertz = unsafe {
        if libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) != 0 {
            return 0;
        }
        libc::sysconf(libc::_SC_CLK_TCK).max(1)
    };
    let ticks = time.tv_sec * hertz + time.tv_nsec / (1_000_000_000 / hertz);
    // One less, for whoever rounds in another way.
    u64::try_from(ticks - 1).unwrap_or(0)
}

/// Processes that are not zombies, of the session or with the lineage in their environment. On a machine with many processes it is
/// their environments that take long to read, so older ones are passed over.
fn descendants(session: u32, lineage: &str, born: u64) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let marker = format!("{LINEAGE_VARIABLE}={lineage}");
    pids.filter(|pid| *pid != own && is_descendant(*pid, session, &marker, born)).collect()
}

fn is_descendant(pid: u32, session: u32, marker: &str, born: u64) -> bool {
    let Some(Stat { state, session: its, started }) = stat(pid) else { return false };
    let lives = state != 'Z' && state != 'X' && started >= born;
    lives && (its == session || has_variable(pid, marker))
}

/// Whether it looks like the process by which a job's executable ends what it has started if nobody else does. It is killed as well, as
/// any process can have its name, but it is none that user code has left running.
fn is_guardian(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == GUARDIAN)
}

/// Of `/proc/<pid>/stat`: the fields behind the name, which may have anything in it but ends with the last `)`.
fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Parent and process group stand in between.
    let session = fields.nth(2)?.parse().ok()?;
    // The 22nd field of all; the session is the 6th.
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat { state, session, started })
}

struct Stat {
    state: char,
    session: u32,
    /// In clock ticks since the machine started.
    started: u64,
}

fn has_variable(pid: u32, marker: &str) -> bool {
    let mut environment = Vec::new();
    // Other users' cannot be read, and are none of ours.
    let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    if file.take(4 << 20).read_to_end(&mut environment).is_err() {
        return false;
    }
    environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_older_than_the_moment_before_its_start() {
        let born = now();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let started = stat(child.id()).unwrap().started;
        assert!(started >= born && started <= now() + 2, "{started} is not between {born} and {}", now());
        let session = stat(std::process::id()).unwrap().session;
        assert_eq!(stat(child.id()).unwrap().session, session);
        assert!(descendants(session, "", born).contains(&child.id()));
        assert!(!descendants(session, "", started + 1).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
