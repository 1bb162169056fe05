//! How many processes may build or describe jobs at a time, so that a crowd of requests does not become a crowd of processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_rest::GatewayError;

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many on a small machine.
const LEAST: usize = 8;
/// So many per core: builders that wait for something outside need no core.
const PER_CORE: usize = 4;

/// Whose turn it is to have a process that builds a job.
#[derive(Debug)]
pub(crate) struct Builders {
    turns: Arc<Semaphore>,
    most: usize,
    patience: Duration,
}

impl Builders {
    /// As many as this machine can take.
    pub(crate) fn new() -> Builders {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Builders::of((cores * PER_CORE).max(LEAST), PATIENCE)
    }

    fn of(most: usize, patience: Duration) -> Builders {
        Builders { turns: Arc::new(Semaphore::new(most)), most, patience }
    }

    /// Waits for a turn, which lasts as long as what is returned.
    ///
    /// # Errors
    /// [`GatewayError::Unavailable`] if none comes in time.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, GatewayError> {
        match tokio::time::timeout(self.patience, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(GatewayError::Unavailable(format!(
                "{} jobs are being built already, and none of them was done within {:?}: try again later, or look for builders that hang",
                self.most, self.patience
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_too_long_is_told_why() {
        let builders = Builders::of(2, Duration::from_millis(50));
        let first = builders.turn().await.unwrap();
        let _second = builders.turn().await.unwrap();
        let error = builders.turn().await.unwrap_err();
        assert!(
            matches!(&error, GatewayError::Unavailable(text) if text.starts_with("2 jobs are being built")),
            "{error}"
        );
        drop(first);
        drop(builders.turn().await.unwrap());
    }
}
