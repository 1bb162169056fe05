//! What can be said of a process.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Values, extend};

/// Metrics that measure parts of a Java virtual machine, or pools Weir's processes do not have. Dashboards show them, the
/// autoscaler asks for them.
const ABSENT_PARTS: [&str; 17] = [
    "Status.JVM.Memory.NonHeap.Used",
    "Status.JVM.Memory.NonHeap.Committed",
    "Status.JVM.Memory.NonHeap.Max",
    "Status.JVM.Memory.Metaspace.Used",
    "Status.JVM.Memory.Metaspace.Committed",
    "Status.JVM.Memory.Metaspace.Max",
    "Status.JVM.Memory.Direct.Count",
    "Status.JVM.Memory.Direct.MemoryUsed",
    "Status.JVM.Memory.Direct.TotalCapacity",
    "Status.JVM.Memory.Mapped.Count",
    "Status.JVM.Memory.Mapped.MemoryUsed",
    "Status.JVM.Memory.Mapped.TotalCapacity",
    "Status.JVM.GarbageCollector.All.Count",
    "Status.JVM.GarbageCollector.All.Time",
    "Status.JVM.GarbageCollector.All.TimeMsPerSecond",
    "Status.JVM.ClassLoader.ClassesLoaded",
    "Status.JVM.ClassLoader.ClassesUnloaded",
];

/// A TaskManager's network buffers are its workers', and counted as their memory.
const ABSENT_BUFFERS: [&str; 9] = [
    "Status.Shuffle.Netty.AvailableMemorySegments",
    "Status.Shuffle.Netty.UsedMemorySegments",
    "Status.Shuffle.Netty.TotalMemorySegments",
    "Status.Shuffle.Netty.AvailableMemory",
    "Status.Shuffle.Netty.UsedMemory",
    "Status.Shuffle.Netty.TotalMemory",
    "Status.Shuffle.Netty.RequestedMemoryUsage",
    "Status.Network.AvailableMemorySegments",
    "Status.Network.TotalMemorySegments",
];

/// What a TaskManager's workers take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    /// Bytes of resident memory of all of them.
    pub memory: u64,
    /// Bytes they may take altogether.
    pub memory_limit: u64,
}

/// What can be said of this very process, for JobManager and TaskManager alike.
///
/// `Heap` is the resident memory of the process, and the most it can be: the memory of the machine or of its control group.
/// `CPU.Load` is the share of all cores (0 to 1) it used since the last time somebody asked, a second ago at least.
/// What the system does not tell is absent.
pub fn process_metrics() -> Values {
    let mut values = Values::new();
    extend(&mut values, ABSENT_PARTS.map(|name| (name, 0.0)));
    if let Some((load, time)) = cpu() {
        extend(&mut values, [("Status.JVM.CPU.Load", load), ("Status.JVM.CPU.Time", time)]);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(resident) = kilobytes(&status, "VmRSS") {
            extend(
                &mut values,
                [("Status.JVM.Memory.Heap.Used", resident), ("Status.JVM.Memory.Heap.Committed", resident)],
            );
        }
        if let Some(threads) = field(&status, "Threads").and_then(|text| text.parse().ok()) {
            values.insert("Status.JVM.Threads.Count".to_owned(), threads);
        }
    }
    if let Some(limit) = memory_limit() {
        values.insert("Status.JVM.Memory.Heap.Max".to_owned(), limit);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // Less the one this loop reads from.
        values.insert("Status.JVM.FileDescriptor.Open".to_owned(), entries.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().and_then(|limits| open_files_limit(&limits)) {
        values.insert("Status.JVM.FileDescriptor.Max".to_owned(), limit);
    }
    values
}

/// [`process_metrics`] of a TaskManager, with its workers' memory as what Flink calls managed memory: what the TaskManager has
/// to give to tasks, and what of it is taken.
pub fn task_manager_metrics(workers: WorkerUsage) -> Values {
    let mut values = process_metrics();
    extend(&mut values, ABSENT_BUFFERS.map(|name| (name, 0.0)));
    extend(
        &mut values,
        [
            ("Status.Flink.Memory.Managed.Used", workers.memory as f64),
            ("Status.Flink.Memory.Managed.Total", workers.memory_limit as f64),
        ],
    );
    values
}

/// The process's share of all cores lately, and its processor time in nanoseconds.
fn cpu() -> Option<(f64, f64)> {
    static LAST: Mutex<Option<CpuLoad>> = Mutex::new(None);
    let used = cpu_time()?;
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let load = last.get_or_insert_with(|| CpuLoad::new(Instant::now(), used)).at(Instant::now(), used);
    Some((load / cores, used.as_nanos() as f64))
}

/// Turns processor time into load.
#[derive(Debug)]
struct CpuLoad {
    at: Instant,
    used: Duration,
    load: f64,
}

impl CpuLoad {
    /// Shorter intervals than this say nothing, and several may ask at once.
    const LEAST: Duration = Duration::from_secs(1);

    fn new(at: Instant, used: Duration) -> Self {
        Self { at, used, load: 0.0 }
    }

    /// Cores in use between the last time and now.
    fn at(&mut self, now: Instant, used: Duration) -> f64 {
        let passed = now.saturating_duration_since(self.at);
        if passed >= Self::LEAST {
            self.load = used.saturating_sub(self.used).as_secs_f64() / passed.as_secs_f64();
            self.at = now;
            self.used = used;
        }
        self.load
    }
}

fn cpu_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into `time`, which it may, and keeps no reference to it.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    (done == 0).then(|| Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32))
}

/// The value of a line `name: value` of /proc/…/status.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A value of /proc/…/status or /proc/meminfo, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let value: f64 = field(status, name)?.strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(value * 1024.0)
}

fn open_files_limit(limits: &str) -> Option<f64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    // `unlimited` is no number, and so absent.
    soft.parse().ok()
}

/// The most memory this process can have, in bytes: that of its control groups, or else of the machine.
fn memory_limit() -> Option<f64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")?;
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| group_limit(&groups));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The least `memory.max` of the control group in /proc/self/cgroup and those around it.
fn group_limit(groups: &str) -> Option<f64> {
    const ROOT: &str = "/sys/fs/cgroup";
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new(ROOT).join(own);
    let around = own.ancestors().take_while(|path| path.starts_with(ROOT));
    let limits = around.filter_map(|path| fs::read_to_string(path.join("memory.max")).ok()?.trim().parse().ok());
    limits.reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let _file = fs::File::open("/proc/self/status").unwrap();
        let values = process_metrics();
        let within = |name: &str, least: f64, most: f64| {
            let value = *values.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert!((least..=most).contains(&value), "{name}: {value}");
        };
        within("Status.JVM.Memory.Heap.Used", 100_000.0, 1e12);
        within("Status.JVM.Memory.Heap.Max", values["Status.JVM.Memory.Heap.Used"], 1e15);
        within("Status.JVM.Threads.Count", 2.0, 10_000.0);
        within("Status.JVM.FileDescriptor.Open", 4.0, values["Status.JVM.FileDescriptor.Max"]);
        within("Status.JVM.CPU.Load", 0.0, 1.0);
        within("Status.JVM.CPU.Time", 1.0, 1e15);
        within("Status.JVM.GarbageCollector.All.Count", 0.0, 0.0);
    }

    #[test]
    fn the_workers_memory_is_the_managed_one() {
        let values = task_manager_metrics(WorkerUsage { memory: 10, memory_limit: 30 });
        assert_eq!(values["Status.Flink.Memory.Managed.Used"], 10.0);
        assert_eq!(values["Status.Flink.Memory.Managed.Total"], 30.0);
        assert_eq!(values["Status.Shuffle.Netty.TotalMemory"], 0.0);
        assert!(values.contains_key("Status.JVM.Memory.Heap.Used"));
    }

    #[test]
    fn load_is_processor_time_by_time() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let mut load = CpuLoad::new(start, seconds(5));
        assert_eq!(load.at(start, seconds(5)), 0.0);
        assert_eq!(load.at(start + seconds(10), seconds(10)), 0.5);
        // Asked again at once: still the same.
        assert_eq!(load.at(start + seconds(10), seconds(10)), 0.5);
        assert_eq!(load.at(start + Duration::from_millis(10_500), seconds(11)), 0.5);
        assert_eq!(load.at(start + seconds(12), seconds(14)), 2.0);
    }

    #[test]
    fn texts_of_the_system_are_read() {
        let status = "Name:\tVmRSS: 7 kB\nVmRSS:\t   1668 kB\nThreads:\t3\n";
        assert_eq!(kilobytes(status, "VmRSS"), Some(1668.0 * 1024.0));
        assert_eq!(kilobytes(status, "VmHWM"), None);
        assert_eq!(field(status, "Threads"), Some("3"));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_limit(limits), Some(1024.0));
        assert_eq!(open_files_limit("Max open files            unlimited            unlimited files"), None);
        assert_eq!(group_limit("0::/weir-group-that-does-not-exist"), group_limit("0::/"));
    }
}
