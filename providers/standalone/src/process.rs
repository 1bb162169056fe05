//! A process of this machine that is not necessarily a child of this one.
//!
//! A process id alone does not name a process: the number is used again. Together with the time at which the process was started it
//! does, until the machine is booted again. No signal is sent before both were compared.

use std::fmt;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Names a process while the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// In clock ticks since the machine was booted.
    pub(crate) started: u64,
}

impl ProcessId {
    /// Out of a line of `/proc/<pid>/stat`; `None` if it is not a whole one.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        let (pid, fields) = split_stat(stat)?;
        Some(Self { pid, started: fields.split(' ').nth(19)?.trim().parse().ok()? })
    }
}

/// The process id, and the fields from the state on. The name before it is free text in parentheses.
fn split_stat(stat: &str) -> Option<(i32, &str)> {
    let (pid, rest) = stat.split_once(' ')?;
    let (_, fields) = rest.rsplit_once(") ")?;
    Some((pid.parse().ok()?, fields))
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// It was another process's child, which alone was told.
    Unknown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "it exited with status {status}"),
            Self::Killed(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "it was ended by signal {signal} ({name})"),
                None => write!(f, "it was ended by signal {signal}"),
            },
            Self::Unknown => {
                f.write_str("it ended; its exit status is not known, because it was started by an earlier JobManager")
            }
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL; if nobody sent it, the machine ran out of memory",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        _ => return None,
    })
}

/// A process that leads a session and a group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    id: ProcessId,
    /// Readable when the process has ended. `None` on kernels that have no such thing: then it is looked at now and then.
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// The process with this id, if it is there.
    pub(crate) fn find(id: ProcessId) -> Option<Self> {
        // Opened first: what is compared afterwards is then the process that the descriptor stands for.
        let pidfd = open_pidfd(id.pid);
        (look(id) == Sight::Running).then_some(Self { id, pidfd })
    }

    /// A child that was just started and not waited for, so that its number cannot have been used again.
    pub(crate) fn child(id: ProcessId) -> Self {
        Self { id, pidfd: open_pidfd(id.pid) }
    }

    #[cfg(test)]
    pub(crate) fn without_pidfd(self) -> Self {
        Self { pidfd: None, ..self }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.id.pid
    }

    /// What to poll for its end.
    pub(crate) fn pidfd(&self) -> Option<RawFd> {
        self.pidfd.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        match &self.pidfd {
            // Reaches this process or none.
            Some(pidfd) => {
                let (fd, none) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
                // SAFETY: the descriptor is open, and no information about the sender is given.
                unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGTERM, none, 0) };
            }
            None => self.signal(self.id.pid, libc::SIGTERM),
        }
    }

    /// Ends it and its group.
    pub(crate) fn kill(&self) {
        self.signal(-self.id.pid, libc::SIGKILL);
    }

    fn signal(&self, target: i32, signal: i32) {
        if look(self.id) == Sight::Running {
            // SAFETY: no memory is involved. Fails if the process has ended in the meantime, which is noticed elsewhere.
            unsafe { libc::kill(target, signal) };
        }
    }

    /// How it ended, if it has. What it leaves behind in its group is ended, and a child is waited for.
    pub(crate) fn end(&self) -> Option<End> {
        let sight = look(self.id);
        match sight {
            Sight::Running => None,
            Sight::Zombie => {
                // Nobody else can get the number before it is waited for, so this is still its group.
                kill_group(self.id.pid);
                Some(reap(self.id.pid))
            }
            Sight::Gone => {
                // The number stays taken while the group has members; if there are none, there is nobody to signal.
                kill_group(self.id.pid);
                Some(End::Unknown)
            }
            Sight::Replaced => Some(End::Unknown),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Running,
    /// Ended, but not waited for.
    Zombie,
    /// There is no such number.
    Gone,
    /// The number has gone to another process.
    Replaced,
}

fn look(id: ProcessId) -> Sight {
    let Ok(stat) = fs::read(format!("/proc/{}/stat", id.pid)) else { return Sight::Gone };
    let stat = String::from_utf8_lossy(&stat);
    match (ProcessId::parse(&stat), split_stat(&stat)) {
        (Some(found), Some((_, fields))) if found == id => {
            if fields.starts_with(['Z', 'X']) {
                Sight::Zombie
            } else {
                Sight::Running
            }
        }
        (Some(_), _) => Sight::Replaced,
        (None, _) => Sight::Gone,
    }
}

fn kill_group(pid: i32) {
    // SAFETY: no memory is involved. Fails if nobody is left.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// Waits for a zombie. Unknown if it is not our child.
fn reap(pid: i32) -> End {
    let mut status = 0;
    // SAFETY: `status` is written to before the call returns.
    let waited = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
    if waited != pid {
        End::Unknown
    } else if libc::WIFSIGNALED(status) {
        End::Killed(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: no memory is involved; the descriptor is closed on exec.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = RawFd::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: just opened, and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Names this boot of the machine: start times of processes mean nothing after another one.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_understood_whatever_the_process_is_called() {
        let fields = (4..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("4711 (a ) R (b) S {fields}\n");
        assert_eq!(ProcessId::parse(&stat), Some(ProcessId { pid: 4711, started: 22 }));
        assert_eq!(ProcessId::parse(""), None);
        assert_eq!(ProcessId::parse("4711 (sh) S 1 2"), None);
    }

    #[test]
    fn a_number_that_was_used_again_is_not_taken_for_the_process() {
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let own = ProcessId::parse(&own).unwrap();
        assert_eq!(look(own), Sight::Running);
        let earlier = ProcessId { started: own.started - 1, ..own };
        assert_eq!(look(earlier), Sight::Replaced);
        assert!(Process::find(earlier).is_none());
        // Would end this test if it reached the process.
        let process = Process { id: earlier, pidfd: None };
        process.kill();
        assert_eq!(process.end(), Some(End::Unknown));
    }

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(End::Exited(7).to_string(), "it exited with status 7");
        assert!(End::Killed(9).to_string().contains("signal 9 (SIGKILL"));
        assert_eq!(End::Killed(64).to_string(), "it was ended by signal 64");
    }
}
