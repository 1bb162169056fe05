//! Processes as the operating system shows them.

use std::fs;

/// The processes whose environment contains `NAME=VALUE`: a started process and all that it started in turn.
pub fn processes_marked(name: &str, value: &str) -> Vec<u32> {
    let mark = format!("{name}={value}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<u32> = pids
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .filter(|&pid| !matches!(state_of(pid), None | Some('Z' | 'X')))
        .collect();
    found.sort_unstable();
    found
}

/// The state letter of a process, e.g. `T` for stopped; `None` if there is no such process.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state follows the last one.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes no pointers; the pid is that of a process this harness started, or of one of its children.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
