//! The processes of a measure: started so that none of them outlives this one, measured through `/proc`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Folders to be removed when a signal ends this process. Its children end with it.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes the folder should a signal end this process.
pub(crate) fn remove_on_signal(folder: PathBuf) {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
}

/// Has Ctrl-C and its like leave nothing behind.
pub(crate) fn clean_up_on_signals() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = fs::remove_dir_all(folder);
            }
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// A process that is killed, with its process group, when this goes or when this very process ends.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Process> {
        let parent = std::process::id();
        command.process_group(0);
        // SAFETY: prctl and getppid are async-signal-safe and take no pointers.
        let command = unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The parent may have ended before.
                if libc::getppid() as u32 == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
            })
        };
        let child =
            command.spawn().with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        Ok(Process { child })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do nothing any more.
    pub(crate) fn freeze(&self) {
        // SAFETY: kill takes no pointers; the process is a child that is reaped by nobody but this value.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGSTOP) };
    }

    /// kill -9 of this process alone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: the group is that of a child that is not reaped yet or whose number nobody else can have as a group while one of
        // its members lives; kill takes no pointers.
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident bytes of a process (VmRSS).
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Bytes of memory that would be free without this process: what it shares counts in proportion (Pss).
pub(crate) fn proportional(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn field(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path} has no {name}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// How busy others keep this machine meanwhile.
pub(crate) struct Neighbours {
    begun: Instant,
    busy: f64,
}

impl Neighbours {
    pub(crate) fn watch() -> Neighbours {
        Neighbours { begun: Instant::now(), busy: busy().unwrap_or_default() - own() }
    }

    /// Cores that processes other than this one and its children have kept busy since.
    pub(crate) fn cores(&self) -> f64 {
        let busy = busy().unwrap_or_default() - own() - self.busy;
        (busy / self.begun.elapsed().as_secs_f64()).max(0.0)
    }
}

/// CPU seconds of all processes since the machine started.
fn busy() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
    // user, nice, system, and interrupts; not idle and waiting.
    let ticks: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&i| times.get(i)).sum();
    // SAFETY: sysconf takes no pointers.
    Some(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
}

/// CPU seconds of this process and of children that have ended.
fn own() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(used).sum()
}

fn used(who: libc::c_int) -> f64 {
    // SAFETY: `rusage` is plain data for which all zeros is valid, and the pointer is to a live local.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
