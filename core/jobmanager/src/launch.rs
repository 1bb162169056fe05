//! From a request to run a job to the command line and variables of its processes, and to the options of its JobMaster.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_checkpoint::{
    Carried, CheckpointMetadata, CheckpointMode, CheckpointOptions, CompletedCheckpoint, Externalized, Refused,
    RestoreMode, StateDeclarations,
};
use weir_config::{
    CheckpointRetention, CheckpointingMode, ClaimMode, ConfigOption, Configuration, FailoverStrategy, Origin,
    RestartStrategyType, SchedulerType, Scope, all_options, options, variable,
};
use weir_jobmaster::{AdaptiveOptions, JobMasterOptions, RestoreFrom};
use weir_model::{JobGraph, JobId};
use weir_proto::roles::CORES_VARIABLE;
use weir_rest::RunRequest;
use weir_scheduler::RestartStrategy;

use crate::checkpoint_storage::{self, directory_uri};

/// Variables of this process that are for it and not for jobs: how it was configured, and what started it.
pub(crate) fn without_own_variables() -> Vec<String> {
    weir_process::variables_beginning_with("WEIR_")
}

/// The command line behind the program's name, the same for all processes of the job. An error is the requester's.
pub(crate) fn arguments(request: &RunRequest) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (key, value) in &request.configuration {
        Configuration::new().set(key, value, Origin::CommandLine).map_err(|error| error.to_string())?;
        let known = all_options().iter().find(|it| it.key() == key || it.fallback_keys().contains(&key.as_str()));
        if known.is_some_and(|option| option.scope() == Scope::Cluster) {
            return Err(format!(
                "{key} is an option of the cluster, which one job cannot change: set it in config.yaml, or with -D where the cluster is started"
            ));
        }
        words.push(format!("-D{key}={value}"));
    }
    words.extend(request.parallelism.map(|parallelism| format!("--parallelism={parallelism}")));
    words.extend(request.job.iter().map(|job| format!("--job={job}")));
    words.extend(request.arguments.iter().cloned());
    Ok(words)
}

/// The variables of all processes of a job: the cluster's defaults for it, weaker than what its author sets.
pub(crate) fn environment(cluster: &Configuration) -> Vec<(String, String)> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    // In a cluster an operator has one subtask unless somebody says otherwise, whatever the machines.
    variables.insert(variable(options::PARALLELISM_DEFAULT.key()), "1".to_owned());
    variables.extend(cluster.of_jobs().map(|(key, value)| (variable(key), value.to_owned())));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    variables.insert(CORES_VARIABLE.to_owned(), cores.to_string());
    variables.into_iter().collect()
}

/// The options in effect for a job: the cluster's defaults, and what its graph says, which has both the author's choices and the
/// requester's in it.
pub(crate) fn effective(cluster: &Configuration, graph: &JobGraph) -> Configuration {
    let mut effective = Configuration::new();
    let defaults = cluster.of_jobs().map(|(key, value)| (key, value, Origin::File));
    let own = graph.config.iter().map(|(key, value)| (key.as_str(), value.as_str(), Origin::Job));
    for (key, value, origin) in defaults.chain(own) {
        if let Err(error) = effective.set(key, value, origin) {
            // The job's own SDK has taken it, so it is of a version that knows more than this one.
            tracing::warn!(job = graph.name, %error, "an option of a job is not understood");
        }
    }
    effective
}

/// How a job's checkpoints are taken. An error is the requester's.
pub(crate) fn checkpoint_options(
    id: JobId,
    cluster: &Configuration,
    job: &Configuration,
) -> Result<CheckpointOptions, String> {
    let directory = |option: &'static ConfigOption<Option<String>>| {
        let uri = |text: String| directory_uri(&text).map_err(|error| format!("`{}`: {error}", option.key()));
        job.get(option).map(uri).transpose()
    };
    let tolerable = job.get(&options::CHECKPOINT_TOLERABLE_FAILURES);
    let options = CheckpointOptions {
        interval: job.get(&options::CHECKPOINT_INTERVAL),
        timeout: job.get(&options::CHECKPOINT_TIMEOUT),
        min_pause: job.get(&options::CHECKPOINT_MIN_PAUSE),
        max_concurrent: job.get(&options::CHECKPOINT_MAX_CONCURRENT),
        tolerable_failures: Some(tolerable).filter(|count| *count < i32::MAX as u32),
        mode: match job.get(&options::CHECKPOINT_MODE) {
            CheckpointingMode::ExactlyOnce => CheckpointMode::ExactlyOnce,
            CheckpointingMode::AtLeastOnce => CheckpointMode::AtLeastOnce,
        },
        unaligned: job.get(&options::CHECKPOINT_UNALIGNED),
        aligned_timeout: job.get(&options::CHECKPOINT_ALIGNED_TIMEOUT),
        externalized: match job.get(&options::CHECKPOINT_RETENTION) {
            CheckpointRetention::No => Externalized::No,
            CheckpointRetention::DeleteOnCancellation => Externalized::DeleteOnCancellation,
            CheckpointRetention::RetainOnCancellation => Externalized::RetainOnCancellation,
        },
        incremental: job.get(&options::CHECKPOINT_INCREMENTAL),
        retained: job.get(&options::CHECKPOINTS_RETAINED),
        directory: directory(&options::CHECKPOINT_DIR)?,
        savepoint_directory: directory(&options::SAVEPOINT_DIR)?,
        after_tasks_finish: job.get(&options::CHECKPOINTS_AFTER_TASKS_FINISH),
        history_size: cluster.get(&options::CHECKPOINT_HISTORY) as usize,
        seed: seed(id),
    };
    options.validate()?;
    Ok(options)
}

/// From where a job starts whose options name a checkpoint or savepoint, once it is known that it can, and what becomes of the state in
/// it. An error is the requester's.
pub(crate) async fn restore_from(
    job: &Configuration,
    states: &StateDeclarations,
) -> Result<Option<(RestoreFrom, Carried)>, String> {
    let Some(place) = job.get(&options::RECOVERY_PATH) else { return Ok(None) };
    let checkpoint = checkpoint_storage::load(&place).await?;
    restore(job, states, checkpoint)
        .map(Some)
        .map_err(|refused| format!("the job cannot start from {place}: {refused}"))
}

/// The same for a savepoint that is still to be taken of a running job. `declared`: what its checkpoints say but for the state itself.
pub(crate) fn restore_instead_of(
    job: &Configuration,
    states: &StateDeclarations,
    declared: CheckpointMetadata,
) -> Result<(RestoreFrom, Carried), String> {
    let (id, name) = (declared.job, declared.job_name.clone());
    let checkpoint = CompletedCheckpoint { metadata: Arc::new(declared), directory: None };
    restore(job, states, checkpoint)
        .map_err(|refused| format!("the job cannot go on from the state of {name} ({id}), which runs on: {refused}"))
}

fn restore(
    job: &Configuration,
    states: &StateDeclarations,
    checkpoint: CompletedCheckpoint,
) -> Result<(RestoreFrom, Carried), Refused> {
    let allow_non_restored = job.get(&options::RECOVERY_IGNORE_UNCLAIMED);
    let carried = weir_checkpoint::check(states, &checkpoint.metadata, allow_non_restored)?;
    let mode = match job.get(&options::RECOVERY_CLAIM_MODE) {
        ClaimMode::NoClaim => RestoreMode::NoClaim,
        ClaimMode::Claim => RestoreMode::Claim,
    };
    Ok((RestoreFrom { checkpoint, mode, allow_non_restored }, carried))
}

/// Of the randomness of a job.
fn seed(id: JobId) -> u64 {
    let [.., low] = id.as_bytes().as_chunks::<8>().0 else { unreachable!("an id has 16 bytes") };
    u64::from_be_bytes(*low)
}

/// How a job's JobMaster goes about it.
pub(crate) fn job_master_options(id: JobId, cluster: &Configuration, job: &Configuration) -> JobMasterOptions {
    let timeout = job.get(&options::CANCELLATION_TIMEOUT);
    JobMasterOptions {
        restart_strategy: restart_strategy(job),
        failover: match cluster.get(&options::FAILOVER_STRATEGY) {
            FailoverStrategy::Region => weir_scheduler::FailoverStrategy::Region,
            FailoverStrategy::Full => weir_scheduler::FailoverStrategy::Full,
        },
        cancellation_timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        slot_request_timeout: cluster.get(&options::SLOT_REQUEST_TIMEOUT),
        worker_start_timeout: job.get(&options::WORKER_START_TIMEOUT),
        history_size: cluster.get(&options::FAILURE_HISTORY) as usize,
        seed: seed(id),
        adaptive: (cluster.get(&options::SCHEDULER) == SchedulerType::Adaptive).then(|| adaptive_options(cluster)),
    }
}

fn adaptive_options(cluster: &Configuration) -> AdaptiveOptions {
    AdaptiveOptions {
        wait_timeout: cluster.get(&options::ADAPTIVE_WAIT),
        stabilization: cluster.get(&options::ADAPTIVE_STABILIZATION),
        cooldown: cluster.get(&options::ADAPTIVE_COOLDOWN),
        running_stabilization: cluster.get(&options::ADAPTIVE_RUNNING_STABILIZATION),
        min_increase: cluster.get(&options::ADAPTIVE_MIN_INCREASE),
        max_checkpoint_failures: cluster.get(&options::ADAPTIVE_CHECKPOINT_FAILURES),
        max_delay: cluster.get(&options::ADAPTIVE_MAX_DELAY),
    }
}

fn restart_strategy(job: &Configuration) -> RestartStrategy {
    // Whoever has checkpoints wants the job to go on from them.
    let unset = job.origin(&options::RESTART_STRATEGY) == Origin::Default;
    let strategy = match job.get(&options::RESTART_STRATEGY) {
        RestartStrategyType::None if unset && job.get(&options::CHECKPOINT_INTERVAL).is_some() => {
            RestartStrategyType::ExponentialDelay
        }
        strategy => strategy,
    };
    match strategy {
        RestartStrategyType::None => RestartStrategy::None,
        RestartStrategyType::FixedDelay => RestartStrategy::FixedDelay {
            attempts: job.get(&options::FIXED_DELAY_ATTEMPTS),
            delay: job.get(&options::FIXED_DELAY_DELAY),
        },
        RestartStrategyType::FailureRate => RestartStrategy::FailureRate {
            max_failures_per_interval: job.get(&options::FAILURE_RATE_MAX),
            interval: job.get(&options::FAILURE_RATE_INTERVAL),
            delay: job.get(&options::FAILURE_RATE_DELAY),
        },
        RestartStrategyType::ExponentialDelay => RestartStrategy::ExponentialDelay {
            initial_backoff: job.get(&options::EXPONENTIAL_INITIAL),
            max_backoff: job.get(&options::EXPONENTIAL_MAX),
            backoff_multiplier: job.get(&options::EXPONENTIAL_MULTIPLIER),
            reset_backoff_threshold: job.get(&options::EXPONENTIAL_RESET),
            jitter_factor: job.get(&options::EXPONENTIAL_JITTER),
            attempts_before_reset: job.get(&options::EXPONENTIAL_ATTEMPTS),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn configuration(settings: &[&str]) -> Configuration {
        let mut configuration = Configuration::new();
        settings.iter().for_each(|setting| configuration.set_argument(setting).unwrap());
        configuration
    }

    fn graph(config: &[(&str, &str)]) -> JobGraph {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        JobGraph { name: "job".to_owned(), vertices: Vec::new(), edges: Vec::new(), config }
    }

    #[test]
    fn the_command_line_has_options_before_the_jobs_own_arguments() {
        let request = RunRequest {
            job: Some("count".to_owned()),
            arguments: vec!["--input".to_owned(), "a b".to_owned()],
            parallelism: Some(3),
            configuration: BTreeMap::from([("pipeline.name".to_owned(), "my job".to_owned())]),
            ..RunRequest::default()
        };
        let words = arguments(&request).unwrap();
        assert_eq!(words, ["-Dpipeline.name=my job", "--parallelism=3", "--job=count", "--input", "a b"]);
    }

    #[test]
    fn wrong_options_are_refused_with_advice() {
        let check = |key: &str, value: &str, expect: &str| {
            let configuration = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let error = arguments(&RunRequest { configuration, ..RunRequest::default() }).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check("pipeline.nam", "x", "pipeline.name");
        check("task.cancellation.timeout", "soon", "task.cancellation.timeout");
        check("rest.port", "8082", "an option of the cluster");
    }

    #[test]
    fn the_clusters_defaults_are_variables_and_one_subtask_is_the_last_of_them() {
        let of = |settings: &[&str]| BTreeMap::from_iter(environment(&configuration(settings)));
        assert_eq!(of(&[])["WEIR_CONF_PARALLELISM_DEFAULT"], "1");
        let variables = of(&["parallelism.default=4", "rest.port=1", "restart-strategy.type=fixed-delay"]);
        assert_eq!(variables["WEIR_CONF_PARALLELISM_DEFAULT"], "4");
        assert_eq!(variables["WEIR_CONF_RESTART_STRATEGY_TYPE"], "fixed-delay");
        assert!(!variables.contains_key("WEIR_CONF_REST_PORT"));
    }

    #[test]
    fn a_job_may_choose_another_restart_strategy_than_the_cluster() {
        let cluster = configuration(&[
            "restart-strategy.type=fixed-delay",
            "restart-strategy.fixed-delay.delay=7 s",
            "slot.request.timeout=9 s",
        ]);
        let options_of =
            |graph: &JobGraph| job_master_options(JobId::from_bytes([1; 16]), &cluster, &effective(&cluster, graph));
        let expect = RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_secs(7) };
        assert_eq!(options_of(&graph(&[])).restart_strategy, expect);
        let options = options_of(&graph(&[("restart-strategy.type", "none"), ("task.cancellation.timeout", "0 ms")]));
        assert_eq!(options.restart_strategy, RestartStrategy::None);
        assert_eq!(options.cancellation_timeout, None);
        assert_eq!(options.slot_request_timeout, Duration::from_secs(9));
    }

    #[test]
    fn a_job_with_checkpoints_is_started_again_unless_somebody_says_otherwise() {
        let of = |cluster: &[&str], job: &[(&str, &str)]| {
            let cluster = configuration(cluster);
            let job = effective(&cluster, &graph(job));
            job_master_options(JobId::from_bytes([1; 16]), &cluster, &job).restart_strategy
        };
        let interval = ("execution.checkpointing.interval", "1 s");
        assert_eq!(of(&[], &[interval]), RestartStrategy::EXPONENTIAL_DELAY);
        assert_eq!(of(&["restart-strategy.type=none"], &[interval]), RestartStrategy::None);
        assert_eq!(of(&[], &[interval, ("restart-strategy.type", "none")]), RestartStrategy::None);
        assert_eq!(of(&[], &[]), RestartStrategy::None);
    }

    #[test]
    fn options_of_checkpoints_are_those_of_the_job_and_checked() {
        let cluster = configuration(&["state.checkpoints.dir=/c/", "web.checkpoints.history=3"]);
        let of = |job: &[(&str, &str)]| {
            checkpoint_options(JobId::from_bytes([1; 16]), &cluster, &effective(&cluster, &graph(job)))
        };
        let options = of(&[
            ("execution.checkpointing.interval", "1 s"),
            ("execution.checkpointing.mode", "AT_LEAST_ONCE"),
            ("execution.checkpointing.tolerable-failed-checkpoints", "2147483647"),
            ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
        ])
        .unwrap();
        assert_eq!((options.interval, options.mode), (Some(Duration::from_secs(1)), CheckpointMode::AtLeastOnce));
        assert_eq!((options.tolerable_failures, options.externalized), (None, Externalized::RetainOnCancellation));
        assert_eq!((options.directory.as_deref(), options.history_size), (Some("file:///c"), 3));
        let options = of(&[("state.backend.type", "lsm"), ("state.backend.incremental", "false")]).unwrap();
        assert!(!options.incremental);
        let plain = of(&[]).unwrap();
        let seed = plain.seed;
        let expect = CheckpointOptions {
            directory: Some("file:///c".to_owned()),
            history_size: 3,
            seed,
            ..CheckpointOptions::default()
        };
        assert_eq!(plain, expect);
        let check = |job: &[(&str, &str)], expect: &str| {
            let error = of(job).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(&[("execution.checkpointing.savepoint-dir", "here")], "execution.checkpointing.savepoint-dir");
        check(&[("execution.checkpointing.dir", "s3://bucket/c")], "execution.checkpointing.dir");
        let unaligned = ("execution.checkpointing.unaligned.enabled", "true");
        check(&[unaligned, ("execution.checkpointing.mode", "at-least-once")], "needs `execution.checkpointing.mode");
    }
}
