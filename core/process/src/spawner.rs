//! The thread that starts processes.
//!
//! A child is told to die with its parent, and to the kernel that is the thread that started it, not the process. So there is one thread
//! that lives as long as the process, and starts all of them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long an executable may be busy.
const BUSY_PATIENCE: Duration = Duration::from_millis(500);

struct Order {
    command: Command,
    /// Watches the child from then on.
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

static ORDERS: Mutex<Option<Sender<Order>>> = Mutex::new(None);

/// Starts `command` in a session of its own, to be killed when this process ends. Its SIGINT and SIGTERM are ignored unless it
/// decides otherwise: whoever started it says when it ends.
pub(crate) async fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = std::process::id();
    // SAFETY: the closure only makes calls that are async-signal-safe, and touches no memory of the parent's.
    unsafe { command.pre_exec(move || detach(parent)) };
    let (answer, answered) = oneshot::channel();
    let order = Order { command, runtime: Handle::current(), answer };
    {
        let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match &*orders {
            Some(sender) => sender,
            None => orders.insert(start_thread()?),
        };
        sender.send(order).map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    }
    answered.await.map_err(|_| io::Error::other("the thread that starts processes is gone"))?
}

fn start_thread() -> io::Result<Sender<Order>> {
    let (sender, orders) = channel::<Order>();
    thread::Builder::new().name("weir-spawner".to_owned()).spawn(move || {
        for Order { command, runtime, answer } in orders {
            let _runtime = runtime.enter();
            let child = spawn_when_written(&mut tokio::process::Command::from(command));
            // If nobody waits any more, the child is killed by being dropped.
            if let Err(Ok(mut abandoned)) = answer.send(child) {
                let _ = abandoned.start_kill();
            }
        }
    })?;
    Ok(sender)
}

/// When the machine's memory runs out, the kernel is to end user code and not whoever watches it. Runs in the child; if it does
/// not work, nothing is lost.
fn prefer_when_memory_runs_out() {
    // SAFETY: `open`, `write` and `close` are async-signal-safe; the path is a C string, the length that of the bytes.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, c"1000".as_ptr().cast(), 4);
            libc::close(file);
        }
    }
}

/// An executable that was written a moment ago may still be open for writing in a child that another thread has forked and that has
/// not come to its `exec`.
fn spawn_when_written(command: &mut tokio::process::Command) -> io::Result<Child> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// Runs in the child, between `fork` and `exec`.
fn detach(parent: u32) -> io::Result<()> {
    let check = |result: libc::c_int| if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: `setsid`, `prctl`, `getppid`, `signal` and `sigprocmask` are async-signal-safe and are given values of their types.
    unsafe {
        check(libc::setsid())?;
        #[cfg(target_os = "linux")]
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // The parent may have died before it was asked for.
        if libc::getppid() != parent as libc::pid_t {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        for signal in [libc::SIGINT, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_IGN);
        }
        prefer_when_memory_runs_out();
        // What the thread that forked had blocked is not the child's business.
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))
    }
}
