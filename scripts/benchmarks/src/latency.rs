//! Latency of single records: the schedule the sources keep and the meter the sinks fill.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Records due per second, over all source subtasks.
pub const RATE: u64 = 100_000;

/// What is due in the first half second after a sink's first record is not measured: threads and buffers are still cold.
const WARM_UP: Duration = Duration::from_millis(500);

/// Nanoseconds of the monotonic clock, the same in every thread and process of this machine.
#[inline]
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec that outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    assert_eq!(result, 0, "the monotonic clock is readable");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// When record `n` of the schedule that began at `start_ns` is due.
#[inline]
pub fn due_ns(start_ns: u64, n: u64) -> u64 {
    start_ns + n * (1_000_000_000 / RATE)
}

/// How many records of the schedule that began at `start_ns` are due at `now_ns`.
#[inline]
pub fn due_records(start_ns: u64, now_ns: u64) -> u64 {
    if now_ns < start_ns { 0 } else { (now_ns - start_ns) / (1_000_000_000 / RATE) + 1 }
}

/// Percentiles of a run, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the records were faster.
    pub p50_ms: f64,
    /// 99 of 100 records were faster.
    pub p99_ms: f64,
    /// 9 999 of 10 000 records were faster.
    pub p9999_ms: f64,
}

/// Latencies seen by one sink subtask: a histogram with 64 linear steps in each power of two (error below 1.6 %).
#[derive(Clone, Serialize, Deserialize)]
pub struct Meter {
    measure_from_ns: Option<u64>,
    buckets: Vec<u64>,
}

const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;

impl Default for Meter {
    fn default() -> Self {
        Meter { measure_from_ns: None, buckets: vec![0; (64 - STEP_BITS as usize + 1) * STEPS] }
    }
}

impl Meter {
    /// Takes in a record that was due at `due_ns` and is received at `now_ns`.
    #[inline]
    pub fn observe(&mut self, due_ns: u64, now_ns: u64) {
        let from = *self.measure_from_ns.get_or_insert(due_ns + WARM_UP.as_nanos() as u64);
        if due_ns >= from {
            self.buckets[bucket(now_ns.saturating_sub(due_ns))] += 1;
        }
    }

    /// Adds what another sink subtask measured.
    pub fn merge(mut self, other: &Meter) -> Meter {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self
    }

    /// The percentiles, or nothing when nothing was measured.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let total: u64 = self.buckets.iter().sum();
        let at = |part: f64| {
            let rank = ((total as f64 * part).ceil() as u64).max(1);
            let mut seen = 0;
            let index = self.buckets.iter().position(|count| {
                seen += count;
                seen >= rank
            })?;
            Some(upper_bound(index) as f64 / 1e6)
        };
        Some(Percentiles { p50_ms: at(0.5)?, p99_ms: at(0.99)?, p9999_ms: at(0.9999)? })
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEPS as u64 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros();
    let shift = power - STEP_BITS;
    (shift as usize + 1) * STEPS + ((ns >> shift) as usize - STEPS)
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    (((bucket % STEPS + STEPS + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_bound_their_values_closely() {
        for ns in (0..64).map(|power| 1u64 << power >> 1).chain([0, 63, 64, 100, 999_999, 123_456_789]) {
            let bound = upper_bound(bucket(ns));
            assert!(bound >= ns && bound - ns <= ns / 60, "{ns} is in the bucket ending at {bound}");
        }
    }

    #[test]
    fn percentiles_leave_the_warm_up_out() {
        let mut meter = Meter::default();
        let warm = WARM_UP.as_nanos() as u64;
        meter.observe(0, 1_000_000_000);
        for n in 0..10_000 {
            meter.observe(warm + n, warm + n + if n < 9_000 { 1_000_000 } else { 5_000_000 });
        }
        let found = meter.percentiles().expect("something was measured");
        assert!((found.p50_ms - 1.0).abs() < 0.02 && (found.p99_ms - 5.0).abs() < 0.1, "{found:?}");
        assert_eq!(Meter::default().percentiles(), None);
    }

    #[test]
    fn the_schedule_inverts() {
        for n in [0, 1, 99, 100_000] {
            assert_eq!(due_records(7, due_ns(7, n)), n + 1);
        }
        assert_eq!(due_records(7, 6), 0);
    }
}
