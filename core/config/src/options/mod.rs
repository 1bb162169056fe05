//! All options. The texts are the manual: `docs/configuration.md` is made of them.

mod adaptive;
mod checkpointing;
mod cluster;
mod job;
mod rest;
mod state;
mod taskmanager;

pub use adaptive::*;
pub use checkpointing::*;
pub use cluster::*;
pub use job::*;
pub use rest::*;
pub use state::*;
pub use taskmanager::*;

use crate::{AnyOption, Secret};

/// All options, in the order of the manual.
pub fn all_options() -> &'static [&'static dyn AnyOption] {
    static ALL: &[&dyn AnyOption] = &[
        &PARALLELISM_DEFAULT,
        &MAX_PARALLELISM,
        &PIPELINE_NAME,
        &RUNTIME_MODE,
        &BUFFER_TIMEOUT,
        &CANCELLATION_TIMEOUT,
        &PROCESS_MEMORY,
        &SEGMENT_SIZE,
        &BUFFERS_PER_CHANNEL,
        &EMBEDDED_WORKERS,
        &WORKER_START_TIMEOUT,
        &PROGRESS_INTERVAL,
        &RESTART_STRATEGY,
        &FIXED_DELAY_ATTEMPTS,
        &FIXED_DELAY_DELAY,
        &FAILURE_RATE_MAX,
        &FAILURE_RATE_INTERVAL,
        &FAILURE_RATE_DELAY,
        &EXPONENTIAL_INITIAL,
        &EXPONENTIAL_MAX,
        &EXPONENTIAL_MULTIPLIER,
        &EXPONENTIAL_JITTER,
        &EXPONENTIAL_RESET,
        &EXPONENTIAL_ATTEMPTS,
        &CHECKPOINT_INTERVAL,
        &CHECKPOINT_TIMEOUT,
        &CHECKPOINT_MIN_PAUSE,
        &CHECKPOINT_MAX_CONCURRENT,
        &CHECKPOINT_TOLERABLE_FAILURES,
        &CHECKPOINT_MODE,
        &CHECKPOINT_UNALIGNED,
        &CHECKPOINT_ALIGNED_TIMEOUT,
        &CHECKPOINT_INCREMENTAL,
        &CHECKPOINT_RETENTION,
        &CHECKPOINTS_RETAINED,
        &CHECKPOINT_DIR,
        &SAVEPOINT_DIR,
        &CHECKPOINTS_AFTER_TASKS_FINISH,
        &CHECKPOINT_INLINE_THRESHOLD,
        &CHECKPOINT_LOCAL_BACKUP,
        &STATE_BACKEND,
        &LSM_MEMORY,
        &RECOVERY_PATH,
        &RECOVERY_CLAIM_MODE,
        &RECOVERY_IGNORE_UNCLAIMED,
        &CLUSTER_ID,
        &JOBMANAGER_ADDRESS,
        &JOBMANAGER_PORT,
        &JOBMANAGER_BIND_HOST,
        &INTERNAL_TOKEN,
        &INTERNAL_ALLOW_UNAUTHENTICATED,
        &COORDINATORS_MEMORY,
        &FAILOVER_STRATEGY,
        &FAILURE_HISTORY,
        &CHECKPOINT_HISTORY,
        &SCHEDULER,
        &ADAPTIVE_WAIT,
        &ADAPTIVE_STABILIZATION,
        &ADAPTIVE_COOLDOWN,
        &ADAPTIVE_RUNNING_STABILIZATION,
        &ADAPTIVE_MIN_INCREASE,
        &ADAPTIVE_CHECKPOINT_FAILURES,
        &ADAPTIVE_MAX_DELAY,
        &HEARTBEAT_INTERVAL,
        &HEARTBEAT_TIMEOUT,
        &SLOT_REQUEST_TIMEOUT,
        &MAX_SLOTS,
        &REDUNDANT_TASK_MANAGERS,
        &TASK_MANAGER_TIMEOUT,
        &REGISTRATION_TIMEOUT,
        &START_FAILURE_RATE,
        &START_RETRY_INTERVAL,
        &PROVIDERS,
        &PLUGINS_DIR,
        &WORKING_DIR,
        &TMP_DIR,
        &LOG_DIR,
        &LOG_FILES,
        &LOG_SIZE,
        &LOG_LEVEL,
        &ARTIFACTS_DIR,
        &ARTIFACTS_MAX_TOTAL,
        &JOB_STORE_EXPIRATION,
        &JOB_STORE_CAPACITY,
        &METRICS_INTERVAL,
        &TASK_SLOTS,
        &RESOURCE_ID,
        &TASK_MANAGER_HOST,
        &TASK_MANAGER_BIND_HOST,
        &TASK_MANAGER_REGISTRATION_TIMEOUT,
        &REGISTRATION_INITIAL,
        &REGISTRATION_MAX,
        &LOAD_BALANCE,
        &ARTIFACT_CACHE,
        &METRICS_PORT,
        &LOCAL_STATE_DIRS,
        &STANDALONE_MIN,
        &STANDALONE_MAX,
        &REST_ADDRESS,
        &REST_PORT,
        &REST_BIND_ADDRESS,
        &REST_TOKEN,
        &ALLOW_UNAUTHENTICATED,
        &WEB_SUBMIT,
        &WEB_CANCEL,
        &WEB_REFRESH,
        &WEB_ALLOW_ORIGIN,
        &WEB_TIMEOUT,
        &REST_MAX_CONTENT,
        &ARTIFACT_MAX_SIZE,
        &CLIENT_TIMEOUT,
    ];
    ALL
}

/// Whether a token is hard to guess and can be sent in a header.
fn check_token(token: &Option<Secret>) -> Result<(), String> {
    match token {
        Some(token) if token.reveal().len() < 16 => {
            Err("it is shorter than 16 characters, which is guessed too easily".to_owned())
        }
        Some(token) if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("it has characters that a header cannot carry".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn within(value: Option<u32>, least: u32, most: u32) -> Result<(), String> {
    match value {
        Some(value) if !(least..=most).contains(&value) => Err(format!("it is not between {least} and {most}")),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Origin;

    #[test]
    fn every_default_is_a_value_of_its_option() {
        for option in all_options() {
            if let Some(text) = option.default_text() {
                option.check(text, Origin::Default).unwrap();
            }
        }
    }

    #[test]
    fn keys_are_unique_and_documented() {
        let mut keys = HashSet::new();
        for option in all_options() {
            for key in option.fallback_keys().iter().chain([&option.key()]) {
                assert!(keys.insert(*key), "{key} twice");
                // Flink has one key in mixed case.
                let plain = |char: char| {
                    char.is_ascii_lowercase() || ".-".contains(char) || *key == "taskmanager.numberOfTaskSlots"
                };
                assert!(key.chars().all(plain), "{key}");
            }
            assert!(option.doc().ends_with('.'), "{}", option.key());
        }
    }
}
