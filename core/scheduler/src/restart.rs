//! Restart strategies: whether a job is started again after a failure, and when.
//!
//! Semantics and defaults are Flink's (`restart-strategy.*`).

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What is done about failures (`restart-strategy.type`).
#[derive(Debug, Clone, Default, PartialEq)]
pub enum RestartStrategy {
    /// The first failure fails the job.
    #[default]
    None,
    /// A number of restarts, each after the same time.
    FixedDelay {
        /// How often the job is restarted before it fails.
        attempts: u32,
        /// Time between a failure and the restart.
        delay: Duration,
    },
    /// Restarts as long as failures are rare enough.
    FailureRate {
        /// As many failures within an interval are tolerated.
        max_failures_per_interval: u32,
        /// Length of the interval.
        interval: Duration,
        /// Time between a failure and the restart.
        delay: Duration,
    },
    /// Restarts after times that grow until the job has run well for a while.
    ExponentialDelay {
        /// Time before the first restart.
        initial_backoff: Duration,
        /// The longest time.
        max_backoff: Duration,
        /// By how much each time is longer than the one before; at least 1.
        backoff_multiplier: f64,
        /// After running for so long without a failure the job starts over with the first time.
        reset_backoff_threshold: Duration,
        /// By which part of it, from 0 to 1, a time is made longer or shorter at random, so that jobs do not restart in step.
        jitter_factor: f64,
        /// How often the job is restarted before it fails, counted since the times last started over; `None`: without end.
        attempts_before_reset: Option<u32>,
    },
}

impl RestartStrategy {
    /// `fixed-delay` with Flink's defaults.
    pub const FIXED_DELAY: RestartStrategy = RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_secs(1) };

    /// `failure-rate` with Flink's defaults.
    pub const FAILURE_RATE: RestartStrategy = RestartStrategy::FailureRate {
        max_failures_per_interval: 1,
        interval: Duration::from_secs(60),
        delay: Duration::from_secs(1),
    };

    /// `exponential-delay` with Flink's defaults.
    pub const EXPONENTIAL_DELAY: RestartStrategy = RestartStrategy::ExponentialDelay {
        initial_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(60),
        backoff_multiplier: 1.5,
        reset_backoff_threshold: Duration::from_secs(3600),
        jitter_factor: 0.1,
        attempts_before_reset: None,
    };

    /// The strategy in words, e.g. `fixed delay (1 s, 3 attempts)`.
    pub fn describe(&self) -> String {
        match self {
            RestartStrategy::None => "none".to_owned(),
            RestartStrategy::FixedDelay { attempts, delay } => {
                format!("fixed delay ({}, {})", time(*delay), count(*attempts, "attempt"))
            }
            RestartStrategy::FailureRate { max_failures_per_interval, interval, delay } => format!(
                "failure rate ({}, at most {} in {})",
                time(*delay),
                count(*max_failures_per_interval, "failure"),
                time(*interval)
            ),
            RestartStrategy::ExponentialDelay {
                initial_backoff,
                max_backoff,
                backoff_multiplier,
                reset_backoff_threshold,
                jitter_factor,
                attempts_before_reset,
            } => {
                let attempts =
                    attempts_before_reset.map_or("unlimited attempts".to_owned(), |limit| count(limit, "attempt"));
                format!(
                    "exponential delay ({} to {}, times {backoff_multiplier}, jitter {jitter_factor}, reset after {}, {attempts})",
                    time(*initial_backoff),
                    time(*max_backoff),
                    time(*reset_backoff_threshold)
                )
            }
        }
    }
}

fn count(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A duration in the largest unit that leaves no remainder, down to milliseconds: `90 s`, `2 min`, `1 h`.
pub(crate) fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let unit = units.into_iter().find(|&(length, _)| millis >= length && millis.is_multiple_of(length));
    let (length, unit) = unit.unwrap_or((1, "ms"));
    let mut text = String::new();
    write!(text, "{} {unit}", millis / length).expect("a String takes all that is written");
    text
}

/// What follows from a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again after this time.
    RestartAfter(Duration),
    /// Do not start again.
    GiveUp {
        /// Why, as part of a sentence that names the strategy; `None` if there is no strategy.
        reason: Option<String>,
    },
}

/// A [`RestartStrategy`] at work: knows the failures so far.
#[derive(Debug, Clone)]
pub struct RestartBackoff {
    strategy: RestartStrategy,
    jitter: SplitMix64,
    /// Restarts granted; with `exponential-delay`, since the times started over.
    attempts: u32,
    /// `failure-rate`: when the last failures were, at most one more than are tolerated.
    failures: VecDeque<Duration>,
    /// When the job was last to start again.
    restarted_at: Option<Duration>,
    /// When it was the time before.
    restarted_before: Option<Duration>,
    /// What was last decided to be waited.
    pause: Duration,
}

impl RestartBackoff {
    /// No failure so far. Jobs of the same `seed` draw the same jitter.
    pub fn new(strategy: RestartStrategy, seed: u64) -> Self {
        Self {
            strategy,
            jitter: SplitMix64(seed),
            attempts: 0,
            failures: VecDeque::new(),
            restarted_at: None,
            restarted_before: None,
            pause: Duration::ZERO,
        }
    }

    /// The strategy.
    pub fn strategy(&self) -> &RestartStrategy {
        &self.strategy
    }

    /// Takes in a failure and says what follows. To be told once for failures that are handled together.
    pub fn on_failure(&mut self, now: Duration) -> RestartDecision {
        let decision = match self.strategy {
            RestartStrategy::None => RestartDecision::GiveUp { reason: None },
            RestartStrategy::FixedDelay { attempts, delay } => self.fixed_delay(attempts, delay),
            RestartStrategy::FailureRate { max_failures_per_interval, interval, delay } => {
                self.failure_rate(max_failures_per_interval, interval, delay, now)
            }
            RestartStrategy::ExponentialDelay { .. } => self.exponential_delay(now),
        };
        if let RestartDecision::RestartAfter(pause) = decision {
            self.restarted_before = self.restarted_at.replace(now.saturating_add(pause));
            self.pause = pause;
        }
        decision
    }

    /// The failure taken in last was not the job's doing. Whether the restart that was granted may therefore come at once, because
    /// the one before lies further back than the pause; if so, it counts as made now.
    pub fn skip_pause(&mut self, now: Duration) -> bool {
        let skips = self.restarted_before.is_none_or(|before| now >= before.saturating_add(self.pause));
        if skips {
            self.restarted_at = Some(now);
        }
        skips
    }

    fn fixed_delay(&mut self, limit: u32, delay: Duration) -> RestartDecision {
        if self.attempts >= limit {
            return self.give_up(&format!("{} been used", have(self.attempts)));
        }
        self.attempts += 1;
        RestartDecision::RestartAfter(delay)
    }

    fn failure_rate(&mut self, limit: u32, interval: Duration, delay: Duration, now: Duration) -> RestartDecision {
        self.failures.push_back(now);
        while self.failures.len() > limit as usize + 1 {
            self.failures.pop_front();
        }
        let oldest = self.failures.front().copied().unwrap_or(now);
        if self.failures.len() > limit as usize && now.saturating_sub(oldest) <= interval {
            let (found, span) = (self.failures.len() as u32, time(now.saturating_sub(oldest)));
            return self.give_up(&format!(
                "there were {} within {span}, and {} been used",
                count(found, "failure"),
                have(self.attempts)
            ));
        }
        self.attempts = self.attempts.saturating_add(1);
        RestartDecision::RestartAfter(delay)
    }

    fn exponential_delay(&mut self, now: Duration) -> RestartDecision {
        let RestartStrategy::ExponentialDelay {
            initial_backoff,
            max_backoff,
            backoff_multiplier,
            reset_backoff_threshold,
            jitter_factor,
            attempts_before_reset,
        } = self.strategy
        else {
            unreachable!("only called for this strategy")
        };
        if self.restarted_at.is_some_and(|at| now >= at.saturating_add(reset_backoff_threshold)) {
            self.attempts = 0;
        }
        if attempts_before_reset.is_some_and(|limit| self.attempts >= limit) {
            return self.give_up(&format!("{} been used", have(self.attempts)));
        }
        let longest = max_backoff.as_secs_f64();
        let exponent = i32::try_from(self.attempts).unwrap_or(i32::MAX);
        let plain = (initial_backoff.as_secs_f64() * backoff_multiplier.powi(exponent)).min(longest);
        let jittered = plain * (1.0 + jitter_factor * (2.0 * self.jitter.next_unit() - 1.0));
        let least = initial_backoff.as_secs_f64().min(longest);
        let backoff = Duration::try_from_secs_f64(jittered.clamp(least, longest)).unwrap_or(max_backoff);
        self.attempts = self.attempts.saturating_add(1);
        RestartDecision::RestartAfter(backoff)
    }

    fn give_up(&self, why: &str) -> RestartDecision {
        let strategy = self.strategy.describe();
        RestartDecision::GiveUp {
            reason: Some(format!("the restart strategy {strategy} allows no further restart: {why}")),
        }
    }
}

fn have(attempts: u32) -> String {
    match attempts {
        0 => "no attempt has".to_owned(),
        1 => "1 attempt has".to_owned(),
        n => format!("{n} attempts have"),
    }
}

/// Sebastiano Vigna's generator: a few lines, and good enough to spread restarts.
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, uniformly.
    fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
