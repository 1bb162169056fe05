//! Jobs that harm the process they run in, or what is around it.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Crashes {
    /// `segfault`, `abort`, `exit` or `overflow`
    #[arg(long, default_value = "segfault")]
    how: String,
    /// Records before that, at a thousand a second
    #[arg(long, default_value_t = 100)]
    after: u64,
}

/// Ends its process in the middle of its work.
pub fn crashes(env: &Environment, options: Crashes) -> weir::Result<()> {
    let Crashes { how, after } = options;
    let crash: fn() = match how.as_str() {
        "segfault" => segfault,
        "abort" => || std::process::abort(),
        "exit" => || std::process::exit(3),
        "overflow" => || assert!(deep(1) > 0),
        other => return Err(weir::Error::job(format!("there is no way {other} to crash"))),
    };
    let touch = move |n| {
        if n == after {
            eprintln!("about to crash: {how}");
            crash();
        }
        n
    };
    env.source(GeneratorSource::new(|n| n).rate(1000.0)).parallelism(1).map(touch).name("crashing").discard();
    Ok(())
}

/// Touches memory that belongs to the process and may not be touched.
fn segfault() {
    // SAFETY: a fresh mapping of one page of anybody's memory. Writing to it is not allowed, which is the point: the system
    // ends the process.
    unsafe {
        let page =
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        assert!(page != libc::MAP_FAILED, "no memory to be ended by");
        page.cast::<u8>().write_volatile(1);
    }
}

#[allow(unconditional_recursion, reason = "it is to use up the stack")]
fn deep(n: u64) -> u64 {
    let here = std::hint::black_box([n; 64]);
    deep(here[63] + 1) + here[0]
}

#[derive(weir::Args)]
pub struct Forks {
    /// Gets a file for each child, named by its process id
    #[arg(long)]
    pids: PathBuf,
    /// Ends by itself once they run
    #[arg(long)]
    finishes: bool,
}

/// Starts processes that would outlive it: one in the background, one in a session of its own, both with its output open.
pub fn forks(env: &Environment, options: Forks) -> weir::Result<()> {
    let Forks { pids, finishes } = options;
    let fork = move |n: u64| {
        if n == 0 {
            start_children(&pids);
            eprintln!("children run");
        }
        n
    };
    let mut source = GeneratorSource::new(|n| n).rate(100.0);
    if finishes {
        source = source.records(10);
    }
    env.source(source).parallelism(1).map(fork).name("forking").discard();
    Ok(())
}

#[allow(clippy::zombie_processes, reason = "they are to outlive it")]
fn start_children(pids: &std::path::Path) {
    let mut background = Command::new("sleep");
    let mut session = Command::new("sleep");
    // SAFETY: setsid is async-signal-safe and touches no memory.
    unsafe {
        session.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    for command in [&mut background, &mut session] {
        let child = command.arg("3600").stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("sleep: {e}"));
        fs::write(pids.join(child.id().to_string()), "").unwrap_or_else(|e| panic!("{}: {e}", pids.display()));
    }
}

#[derive(weir::Args)]
pub struct Floods {
    /// Lines of 100 bytes; no end if it is not given
    #[arg(long)]
    lines: Option<u64>,
    /// On standard error instead
    #[arg(long)]
    stderr: bool,
}

/// Writes lines as fast as somebody takes them.
pub fn floods_stdout(env: &Environment, options: Floods) -> weir::Result<()> {
    let Floods { lines, stderr } = options;
    let flood = move |n: u64| {
        let line = format!("line {n:>12} {}\n", "x".repeat(81));
        // Nobody listening is no reason to stop.
        let _ = if stderr {
            std::io::stderr().write_all(line.as_bytes())
        } else {
            std::io::stdout().write_all(line.as_bytes())
        };
        n
    };
    let source = GeneratorSource::new(|n| n);
    let source = match lines {
        Some(lines) => source.records(lines),
        None => source,
    };
    env.source(source).parallelism(1).map(flood).name("flood").discard();
    Ok(())
}

#[derive(weir::Args)]
pub struct IgnoresCancel {
    /// Sleeps instead of keeping a core busy
    #[arg(long)]
    sleeps: bool,
}

/// One task that never looks up again, and others that would stop.
pub fn ignores_cancel(env: &Environment, options: IgnoresCancel) -> weir::Result<()> {
    let sleeps = options.sleeps;
    let turn = move |n: u64| {
        eprintln!("never to return");
        loop {
            match sleeps {
                true => std::thread::sleep(Duration::from_secs(3600)),
                false => std::hint::spin_loop(),
            }
            if std::hint::black_box(n) == u64::MAX {
                return n;
            }
        }
    };
    env.generate(1, |n| n).parallelism(1).map(turn).name("deaf").discard();
    env.source(GeneratorSource::new(|n| n).rate(100.0)).parallelism(1).name("obedient").discard();
    Ok(())
}
