use proptest::prelude::*;

use super::RestartDecision::*;
use super::*;

const S: Duration = Duration::from_secs(1);

fn backoff(strategy: RestartStrategy) -> RestartBackoff {
    RestartBackoff::new(strategy, 7)
}

fn reason(decision: RestartDecision) -> String {
    match decision {
        GiveUp { reason: Some(reason) } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn none_gives_up_at_once_and_without_words() {
    assert_eq!(backoff(RestartStrategy::None).on_failure(S), GiveUp { reason: None });
}

#[test]
fn fixed_delay_restarts_as_often_as_it_says() {
    let mut backoff = backoff(RestartStrategy::FixedDelay { attempts: 2, delay: 3 * S });
    assert_eq!(backoff.on_failure(S), RestartAfter(3 * S));
    assert_eq!(backoff.on_failure(1000 * S), RestartAfter(3 * S));
    let expect =
        "the restart strategy fixed delay (3 s, 2 attempts) allows no further restart: 2 attempts have been used";
    assert_eq!(reason(backoff.on_failure(100_000 * S)), expect);
    assert_eq!(reason(backoff.on_failure(100_000 * S)), expect);
}

#[test]
fn a_pause_is_left_out_only_when_the_last_restart_lies_further_back() {
    let mut backoff = backoff(RestartStrategy::FixedDelay { attempts: 9, delay: 3 * S });
    assert_eq!(backoff.on_failure(10 * S), RestartAfter(3 * S));
    assert!(backoff.skip_pause(10 * S), "there was none before");
    assert_eq!(backoff.on_failure(12 * S), RestartAfter(3 * S));
    assert!(!backoff.skip_pause(12 * S), "2 s after it");
    // That one is at 15 s.
    assert_eq!(backoff.on_failure(18 * S), RestartAfter(3 * S));
    assert!(backoff.skip_pause(18 * S));
}

#[test]
fn failure_rate_tolerates_as_many_failures_in_an_interval() {
    let strategy = RestartStrategy::FailureRate { max_failures_per_interval: 2, interval: 10 * S, delay: S };
    let mut often = backoff(strategy.clone());
    assert_eq!(often.on_failure(100 * S), RestartAfter(S));
    assert_eq!(often.on_failure(101 * S), RestartAfter(S));
    let expect = "the restart strategy failure rate (1 s, at most 2 failures in 10 s) allows no further restart: \
                  there were 3 failures within 10 s, and 2 attempts have been used";
    assert_eq!(reason(often.clone().on_failure(110 * S)), expect);
    // The first failure no longer counts.
    assert_eq!(often.on_failure(111 * S), RestartAfter(S));
    let mut rare = backoff(strategy);
    assert!((0..1000).all(|i| rare.on_failure(6 * i * S) == RestartAfter(S)));
}

#[test]
fn exponential_delay_grows_to_its_limit_and_starts_over_after_a_calm_time() {
    let strategy = RestartStrategy::ExponentialDelay {
        initial_backoff: S,
        max_backoff: 5 * S,
        backoff_multiplier: 2.0,
        reset_backoff_threshold: 100 * S,
        jitter_factor: 0.0,
        attempts_before_reset: None,
    };
    let mut backoff = backoff(strategy);
    for expect in [1, 2, 4, 5, 5] {
        assert_eq!(backoff.on_failure(10 * S), RestartAfter(expect * S));
    }
    // The last restart was at 15 s.
    assert_eq!(backoff.clone().on_failure(114 * S), RestartAfter(5 * S));
    assert_eq!(backoff.on_failure(115 * S), RestartAfter(S));
}

#[test]
fn exponential_delay_counts_attempts_until_it_starts_over() {
    let strategy = RestartStrategy::ExponentialDelay {
        initial_backoff: S,
        max_backoff: S,
        backoff_multiplier: 1.0,
        reset_backoff_threshold: 100 * S,
        jitter_factor: 0.0,
        attempts_before_reset: Some(1),
    };
    let mut backoff = backoff(strategy);
    assert_eq!(backoff.on_failure(S), RestartAfter(S));
    assert!(reason(backoff.clone().on_failure(50 * S)).ends_with(": 1 attempt has been used"));
    assert_eq!(backoff.on_failure(200 * S), RestartAfter(S));
}

#[test]
fn strategies_are_described_for_people() {
    let check = |strategy: &RestartStrategy, expect: &str| assert_eq!(strategy.describe(), expect);
    check(&RestartStrategy::None, "none");
    check(&RestartStrategy::FIXED_DELAY, "fixed delay (1 s, 1 attempt)");
    check(&RestartStrategy::FAILURE_RATE, "failure rate (1 s, at most 1 failure in 1 min)");
    let expect = "exponential delay (1 s to 1 min, times 1.5, jitter 0.1, reset after 1 h, unlimited attempts)";
    check(&RestartStrategy::EXPONENTIAL_DELAY, expect);
    assert_eq!([time(90 * S), time(S / 4), time(Duration::ZERO)], ["90 s", "250 ms", "0 ms"]);
}

proptest! {
    #[test]
    fn jitter_stays_within_its_share_and_the_limits(seed: u64, failures in prop::collection::vec(0u32..100_000, 1..40)) {
        let mut backoff = RestartBackoff::new(RestartStrategy::EXPONENTIAL_DELAY, seed);
        let mut again = RestartBackoff::new(RestartStrategy::EXPONENTIAL_DELAY, seed);
        let mut now = Duration::ZERO;
        for pause in failures {
            now += Duration::from_millis(pause.into());
            let plain = 1.5f64.powi(backoff.attempts as i32).min(60.0);
            let RestartAfter(delay) = backoff.on_failure(now) else { panic!("unlimited attempts") };
            prop_assert!(delay >= S && delay <= 60 * S);
            if backoff.attempts > 1 {
                prop_assert!((delay.as_secs_f64() / plain - 1.0).abs() <= 0.1 + 1e-9, "{delay:?} for {plain}");
            }
            prop_assert_eq!(again.on_failure(now), RestartAfter(delay));
        }
    }
}
