//! Finding what a process has started, even what has left its session.

use std::fs;
use std::io::Read;

/// Environment variable by which descendants are known; inherited by whatever a process starts.
pub(crate) const LINEAGE_VARIABLE: &str = "WEIR_LINEAGE";

/// The name of such a process; set by the crate `weir`.
const GUARDIAN: &str = "weir-guardian";

/// Kills what is left of a process that ran with this lineage: its session, and all whose environment names it.
///
/// What has left both the session and the environment behind is not found; user code that wants to hide from its own operator can.
pub(crate) fn kill(session: u32, lineage: &str) -> usize {
    kill_group(session);
    let mut killed = 0;
    // What is killed may have forked a moment before; its child is found by looking again.
    for _ in 0..10 {
        let found = descendants(session, lineage);
        if found.is_empty() {
            break;
        }
        killed += found.len();
        for pid in found {
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

/// Processes that are not zombies, of the session or with the lineage in their environment.
fn descendants(session: u32, lineage: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let marker = format!("{LINEAGE_VARIABLE}={lineage}");
    pids.filter(|pid| *pid != own && is_descendant(*pid, session, &marker)).collect()
}

fn is_descendant(pid: u32, session: u32, marker: &str) -> bool {
    let Some((state, its_session)) = state_and_session(pid) else { return false };
    state != 'Z' && state != 'X' && (its_session == session || has_variable(pid, marker)) && !is_guardian(pid)
}

/// Whether it is the process by which a job's executable ends what it has started if nobody else does. It ends by itself, and is not
/// user code that was left running.
fn is_guardian(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == GUARDIAN)
}

/// Of `/proc/<pid>/stat`: the fields behind the name, which may have anything in it but ends with the last `)`.
fn state_and_session(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Parent and process group stand in between.
    let session = fields.nth(2)?.parse().ok()?;
    Some((state, session))
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
