//! Processes as the system shows them, and signals to them.

use std::fs;

/// Sends a signal. Fine if the process is gone.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    assert!(pid > 1, "{pid} would be other processes than one");
    // SAFETY: `kill` takes any numbers.
    unsafe { libc::kill(pid, signal) };
}

/// SIGKILL.
pub(crate) fn kill(pid: u32) {
    signal(pid, libc::SIGKILL);
}

/// SIGSTOP: the process does nothing any more, without knowing.
pub(crate) fn stop(pid: u32) {
    signal(pid, libc::SIGSTOP);
}

/// SIGCONT.
pub(crate) fn resume(pid: u32) {
    signal(pid, libc::SIGCONT);
}

/// Whether a process is there and not a zombie.
pub(crate) fn exists(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// The process that waits for it.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, parent)| parent)
}

/// Resident bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// State and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have anything in it.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The value of a variable in a process's environment.
pub(super) fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|variable| variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// All processes with this variable that are not zombies.
pub(super) fn with_variable(name: &str, value: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| variable(*pid, name).is_some_and(|its| its == value) && exists(*pid)).collect()
}

/// A process's command line.
pub(super) fn words(pid: u32) -> Vec<String> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// A process in a sentence.
pub(super) fn describe(pid: u32) -> String {
    format!("{pid} (state {:?}, parent {:?}): {}", stat(pid).map(|it| it.0), parent(pid), words(pid).join(" "))
}
