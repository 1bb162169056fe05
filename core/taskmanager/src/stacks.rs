//! What threads are doing, as far as the kernel tells. A native program has no cheap way to walk its threads' stacks; where a thread
//! waits, and how much it has computed, tells most of what one asks a thread dump for.

use std::fs;
use std::path::Path;

use weir_proto::control::Stack;

/// One entry a thread: of this process, and of the workers with these names and process ids.
pub(crate) fn of(workers: &[(String, u32)]) -> Vec<Stack> {
    let own = ("taskmanager".to_owned(), std::process::id());
    std::iter::once(&own).chain(workers).flat_map(|(who, pid)| threads(who, *pid)).collect()
}

fn threads(who: &str, pid: u32) -> Vec<Stack> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut threads: Vec<(u32, Stack)> = entries
        .flatten()
        .filter_map(|entry| {
            let tid = entry.file_name().to_str()?.parse().ok()?;
            Some((tid, thread(who, pid, tid, &entry.path())?))
        })
        .collect();
    threads.sort_by_key(|(tid, _)| *tid);
    threads.into_iter().map(|(_, stack)| stack).collect()
}

fn thread(who: &str, pid: u32, tid: u32, folder: &Path) -> Option<Stack> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let name = read("comm")?.trim().to_owned();
    let stat = read("stat")?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: sysconf reads a constant of the system.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    let millis = |ticks: u64| ticks * 1000 / per_second;
    let state = state_name(fields.first()?);
    let mut text = format!("\"{name}\" tid={tid} pid={pid} ({who})\n");
    if let Some((subtask, parallelism, vertex)) = task_of(&name) {
        text.push_str(&format!(
            "   task: subtask {subtask} of {parallelism} of the vertex whose name begins with {vertex:?}\n"
        ));
    }
    text.push_str(&format!("   state: {state}\n"));
    let place = read("wchan").map(|place| place.trim().to_owned()).filter(|place| !matches!(place.as_str(), "" | "0"));
    if let Some(place) = place {
        text.push_str(&format!("   waits {} (kernel function {place})\n", waits_for(&place)));
    }
    text.push_str(&format!("   CPU time: {} ms user, {} ms system\n", millis(ticks(11)), millis(ticks(12))));
    Some(Stack { name: format!("{who}: {name}"), text })
}

/// Subtask (from 1), parallelism and the beginning of the vertex's name, if a thread's name is that of a task: `2/8 Source: num`.
fn task_of(name: &str) -> Option<(u32, u32, &str)> {
    let (numbers, vertex) = name.split_once(' ')?;
    let (subtask, parallelism) = numbers.split_once('/')?;
    Some((subtask.parse().ok()?, parallelism.parse().ok()?, vertex))
}

/// What a thread most likely waits for, by the function of the kernel it is in.
fn waits_for(place: &str) -> &'static str {
    match place {
        _ if place.contains("futex") => "to be woken: for input, for room downstream, or for a lock",
        _ if place.contains("nanosleep") => "for time to pass: it sleeps",
        _ if place.contains("poll") || place.contains("select") => "for something to happen on its connections",
        _ if place.contains("pipe") => "for a pipe",
        _ if place.contains("skb") || place.contains("sock") || place.contains("inet") || place.contains("unix") => {
            "for a connection"
        }
        _ if place.contains("wait4") || place == "do_wait" => "for a child process",
        _ if place.contains("folio") || place.contains("page") || place.contains("io_schedule") => "for a disk",
        _ => "for the system",
    }
}

fn state_name(letter: &str) -> &'static str {
    match letter {
        "R" => "running",
        "S" => "waiting",
        "D" => "waiting, cannot be interrupted (disk or network file system)",
        "T" => "stopped by a signal",
        "t" => "stopped by a debugger",
        "Z" => "ended",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_say_what_they_do() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (runs, running) = std::sync::mpsc::channel();
        let waits = move || {
            // From now on it has its name.
            runs.send(()).unwrap();
            stopped.recv()
        };
        let waiting = std::thread::Builder::new().name("waits (oddly) ".into()).spawn(waits).unwrap();
        running.recv().unwrap();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let is_it = |stack: &Stack| stack.name.starts_with("taskmanager: waits (oddly");
        // The kernel's list may leave one out while threads of other tests end.
        let lists = std::iter::repeat_with(|| of(&[("worker 3 of job x".to_owned(), child.id())])).take(100);
        let stacks = { lists }.find(|stacks| stacks.iter().any(is_it)).expect("listed");
        let _ = child.kill().and_then(|()| child.wait());
        drop(stop);
        let _ = waiting.join();
        let named = stacks.iter().find(|stack| is_it(stack)).expect("listed");
        assert!(named.text.contains("state: ") && named.text.contains("CPU time: "), "{}", named.text);
        assert!(stacks.iter().any(|stack| stack.name.starts_with("worker 3 of job x: ")), "{stacks:?}");
        assert_eq!(task_of("2/8 Source: num"), Some((2, 8, "Source: num")));
        assert_eq!((task_of("weir-net"), task_of("a/b c")), (None, None));
        assert!(waits_for("futex_wait_queue").starts_with("to be woken"));
        // One of a process that is gone.
        assert_eq!(threads("x", u32::MAX), []);
    }
}
