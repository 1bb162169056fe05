//! Trying again, less and less often, for a bounded time.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::KafkaError;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// How often something has failed in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    pause: Duration,
    since: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { pause: FIRST, since: None }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        *self = Backoff::new();
    }

    /// It failed: the pause before the next try, or the failure if it has gone on for `limit` or trying again cannot help.
    pub(crate) fn failed(&mut self, what: &str, limit: Duration, error: KafkaError) -> Result<Duration, KafkaError> {
        if !error.is_retriable() {
            return Err(error);
        }
        let after = self.since.get_or_insert_with(Instant::now).elapsed();
        if after >= limit {
            return Err(KafkaError::GaveUp { what: what.to_owned(), after, last: Box::new(error) });
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        Ok(pause)
    }

    /// The same, and waits for the pause.
    pub(crate) fn wait(&mut self, what: &str, limit: Duration, error: KafkaError) -> Result<(), KafkaError> {
        self.failed(what, limit, error).map(thread::sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> KafkaError {
        KafkaError::Connection { broker: "b:1".to_owned(), reason: "gone".to_owned() }
    }

    #[test]
    fn pauses_grow_up_to_a_bound_until_it_works() {
        let mut backoff = Backoff::new();
        let hour = Duration::from_secs(3600);
        let pauses: Vec<_> = (0..9).map(|_| backoff.failed("it", hour, gone()).unwrap().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.failed("it", hour, gone()).unwrap().as_millis(), 20);
    }

    #[test]
    fn it_gives_up_after_the_limit_and_at_once_when_trying_again_cannot_help() {
        let error = Backoff::new().failed("reading", Duration::ZERO, gone()).unwrap_err();
        assert!(
            error.to_string().contains("reading did not work for 0 s; the last failure: Kafka broker b:1: gone"),
            "{error}"
        );
        let hopeless = KafkaError::Setting("no".to_owned());
        assert_eq!(Backoff::new().failed("it", Duration::MAX, hopeless).unwrap_err().to_string(), "no");
    }
}
