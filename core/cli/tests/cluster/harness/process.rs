//! Processes as the system shows them, signals to them, and what can be done to their connections.

use std::fs;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};

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

/// Processes that a process has started, and those they have.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&ancestor) = found.get(at) {
        found.extend(pids.iter().copied().filter(|pid| parent(*pid) == Some(ancestor)));
        at += 1;
    }
    found.split_off(1)
}

/// Breaks the TCP connections that a process has at the moment, as a network would: both ends notice. Fine if the process is gone, or
/// if the system does not let this one reach into another.
pub(crate) fn cut_connections(pid: u32) {
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let is_socket = fs::read_link(descriptor.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = descriptor.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|_| is_socket) else { continue };
        if let Some(socket) = descriptor_of(pid, number) {
            let stream = TcpStream::from(socket);
            if stream.peer_addr().is_ok() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// A copy of another process's file descriptor.
fn descriptor_of(pid: u32, number: libc::c_int) -> Option<OwnedFd> {
    // SAFETY: both calls take any numbers, and what they return belongs to this process.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        if process < 0 {
            return None;
        }
        let process = OwnedFd::from_raw_fd(process as libc::c_int);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, std::os::fd::AsRawFd::as_raw_fd(&process), number, 0);
        (copy >= 0).then(|| OwnedFd::from_raw_fd(copy as libc::c_int))
    }
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
