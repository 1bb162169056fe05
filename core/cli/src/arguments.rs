//! The command line. The texts here are its manual.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, ValueEnum, ValueHint};
use clap_complete::Shell;

/// Runs streaming jobs, on this machine or on a cluster
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Folder of config.yaml (default: WEIR_CONF_DIR, or `conf` beside the folder of this program)
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) config_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Run a job on this machine, or on a cluster
    ///
    /// Without a target the job runs on a cluster of its own inside this process, with a dashboard. With `-t remote` (or `-m`) it is
    /// uploaded to a running cluster. Either way the command stays until the job ends, unless `-d` is given. Exit codes: 0 finished,
    /// 1 failed, 2 wrong usage, 130 interrupted or canceled.
    Run(RunArgs),
    /// Show a job's plan, or the jobs of an executable that has several
    Info(InfoArgs),
    /// List the jobs of a cluster
    List(ListArgs),
    /// Show a job of a cluster: its tasks, its failures, or what it waits for
    Status(JobRefArgs),
    /// Stop jobs of a cluster without a result
    Cancel(CancelArgs),
    /// Stop a job with a savepoint, from which it can go on
    Stop(StopArgs),
    /// Take a savepoint of a job that goes on, remove a savepoint, or look into one
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Savepoint(SavepointArgs),
    /// Take a checkpoint of a job now
    Checkpoint(CheckpointArgs),
    /// Change with how many subtasks a job runs, while it does
    ///
    /// For clusters with `jobmanager.scheduler: adaptive`. The job is stopped with a checkpoint, if it takes any, and goes on from there.
    /// Without -p and --vertex it shows what is asked for now.
    Rescale(RescaleArgs),
    /// Print log files of a cluster's processes
    Logs(LogsArgs),
    /// Run a JobManager in the foreground
    #[command(name = "jobmanager")]
    JobManager(ProcessArgs),
    /// Run a TaskManager in the foreground
    #[command(name = "taskmanager")]
    TaskManager(ProcessArgs),
    /// Run a whole cluster in this process, until it is interrupted
    Local(LocalArgs),
    /// List all options with their values, or explain one
    Config(ConfigArgs),
    /// List the resource-provider plugins in `plugins.dir`
    Plugins(PluginsArgs),
    /// Print a script that completes this command's arguments in a shell
    ///
    /// E.g. for bash: weir completions bash > ~/.local/share/bash-completion/completions/weir
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// On a cluster of its own inside this process
    Local,
    /// On the cluster that `-m` or rest.address and rest.port name
    Remote,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) restore: RestoreArgs,
    /// Where to run it (default: local; remote if -m is given)
    #[arg(short = 't', long = "target", value_name = "TARGET", value_enum)]
    pub(crate) place: Option<Target>,
    /// The JobManager's HTTP address
    #[arg(short = 'm', long, value_name = "HOST:PORT")]
    pub(crate) jobmanager: Option<String>,
    /// Leave once the cluster has taken the job, and print its id
    #[arg(short, long)]
    pub(crate) detached: bool,
    /// How many TaskManagers a local cluster has; tasks of one share a process
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) workers: Option<u32>,
    /// Print neither progress nor summary, and no messages of a build that succeeds
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to print the summary
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

const RESTORE_HEADING: &str = "Start from state";

/// From where a job starts.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("state").args(["from", "replace"]))]
pub(crate) struct RestoreArgs {
    /// Start from this savepoint or retained checkpoint
    #[arg(short = 's', long = "fromSavepoint", value_name = "PATH", alias = "from-savepoint", help_heading = RESTORE_HEADING)]
    pub(crate) from: Option<String>,
    /// Take the place of this running job: if it can go on from its state, stop it with a savepoint and start from that
    #[arg(long, value_name = "JOB", help_heading = RESTORE_HEADING)]
    pub(crate) replace: Option<String>,
    /// The folder for the savepoint of --replace (default: execution.checkpointing.savepoint-dir of JOB)
    #[arg(long = "savepointPath", value_name = "DIR", alias = "savepoint-path", requires = "replace", conflicts_with = "from", help_heading = RESTORE_HEADING)]
    pub(crate) directory: Option<String>,
    /// Only say what would become of the state; run and stop nothing
    #[arg(long, requires = "state", conflicts_with = "detached", help_heading = RESTORE_HEADING)]
    pub(crate) dry_run: bool,
    /// Leave state behind for which the job has no operator any more
    #[arg(short = 'n', long = "allowNonRestoredState", alias = "allow-non-restored-state", requires = "state", help_heading = RESTORE_HEADING)]
    pub(crate) allow_non_restored: bool,
    /// Whose savepoint it is from now on (also: -rm)
    #[arg(long = "restoreMode", visible_alias = "claimMode", aliases = ["restore-mode", "claim-mode"], value_name = "MODE", value_enum, ignore_case = true, requires = "state", help_heading = RESTORE_HEADING)]
    pub(crate) mode: Option<RestoreMode>,
}

/// To whom a savepoint belongs that a job is started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestoreMode {
    /// The job's: it is removed when newer checkpoints replace it
    #[value(name = "claim")]
    Claim,
    /// Yours: the job leaves it alone (the default)
    #[value(name = "no_claim")]
    NoClaim,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The job's id, the beginning of it, or its name
    pub(crate) job: String,
    /// The folder for the savepoint (default: execution.checkpointing.savepoint-dir)
    #[arg(short = 'p', long = "savepointPath", value_name = "DIR", alias = "savepoint-path")]
    pub(crate) directory: Option<String>,
    /// Let windows and timers fire first, as at the end of the input
    #[arg(short, long)]
    pub(crate) drain: bool,
    /// Leave without waiting for the savepoint
    #[arg(long)]
    pub(crate) detached: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SavepointArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SavepointCommand>,
    /// The job's id, the beginning of it, or its name
    #[arg(required_unless_present = "dispose")]
    pub(crate) job: Option<String>,
    /// The folder for the savepoint (default: execution.checkpointing.savepoint-dir)
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<String>,
    /// Remove this savepoint, or checkpoint that a job has left behind, instead
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["job", "directory"])]
    pub(crate) dispose: Option<String>,
    /// Leave without waiting for the savepoint
    #[arg(long)]
    pub(crate) detached: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SavepointCommand {
    /// Show what is in a savepoint or checkpoint; asks no cluster
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Its folder, or the file _metadata in it
    pub(crate) path: String,
    /// Print the keys that have this state, or those of this table
    #[arg(long, value_name = "STATE")]
    pub(crate) keys: Option<String>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The job's id, the beginning of it, or its name
    pub(crate) job: String,
    /// Write all state anew, instead of sharing files with earlier checkpoints
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RescaleArgs {
    /// The job's id, the beginning of it, or its name
    pub(crate) job: String,
    /// The most subtasks a vertex is to have; of vertices that were built narrower than others, none is changed
    #[arg(short = 'p', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub(crate) parallelism: Option<u32>,
    /// The fewest with which it is to run (default: as before, or as many as -p says if those are fewer)
    #[arg(long, value_name = "N", requires = "parallelism", value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub(crate) at_least: Option<u32>,
    /// The same for one vertex, by its id, the beginning of it, or its name: the most, or the fewest and the most
    #[arg(long, value_name = "VERTEX=N|L..N", action = ArgAction::Append)]
    pub(crate) vertex: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The JobManager's HTTP address (default: rest.address and rest.port)
    #[arg(short = 'm', long, value_name = "HOST:PORT")]
    pub(crate) jobmanager: Option<String>,
    /// Set an option, e.g. security.rest.token
    #[arg(short = 'D', value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) define: Vec<String>,
    /// How to print the answer
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Only running jobs
    #[arg(short, long)]
    pub(crate) running: bool,
    /// Only jobs that have not started yet
    #[arg(short, long)]
    pub(crate) scheduled: bool,
    /// Ended jobs as well
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JobRefArgs {
    /// The job's id, the beginning of it, or its name
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Ids of jobs, the beginnings of them, or their names
    #[arg(required = true)]
    pub(crate) jobs: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Leave without waiting until the jobs have stopped
    #[arg(short, long)]
    pub(crate) detached: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A TaskManager's id, a job (its workers' output), or `jobmanager`
    #[arg(default_value = "jobmanager")]
    pub(crate) of: String,
    /// Which file; without it a process's own log, or everything a job printed
    #[arg(long, value_name = "NAME")]
    pub(crate) file: Option<String>,
    /// List the files instead
    #[arg(short, long)]
    pub(crate) list: bool,
    /// Only so many lines from the end
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProcessArgs {
    /// Set an option; `weir config` lists them
    #[arg(short = 'D', value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) define: Vec<String>,
    /// How to print where it can be reached
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// Set an option; `weir config` lists them
    #[arg(short = 'D', value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) define: Vec<String>,
    /// How many TaskManagers it has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) taskmanagers: u32,
    /// How many slots each has (default: taskmanager.numberOfTaskSlots if it is set, otherwise the number of cores)
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<String>,
    /// How to print where it can be reached
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PluginsArgs {
    /// Set an option, e.g. plugins.dir
    #[arg(short = 'D', value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) define: Vec<String>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Print the plan for Graphviz, e.g. for `dot -Tsvg`
    #[arg(long)]
    pub(crate) dot: bool,
    /// How to print it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Explain this option only
    pub(crate) key: Option<String>,
    /// Set an option, to see what becomes of it
    #[arg(short = 'D', value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) define: Vec<String>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// What is run, and what it is told by its author's own arguments.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// A job's executable, or the folder of a crate, which is built first
    #[arg(value_name = "ARTIFACT|CRATE_DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) build: BuildArgs,
    /// The job's own arguments
    #[arg(last = true, value_name = "JOB_ARGS")]
    pub(crate) own: Vec<OsString>,
}

const BUILD_HEADING: &str = "Options for a crate";

/// How a crate is built.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build it with optimizations (the default)
    #[arg(long, conflicts_with = "debug", help_heading = BUILD_HEADING)]
    pub(crate) release: bool,
    /// Build it without optimizations: faster to build, slower to run
    #[arg(long, help_heading = BUILD_HEADING)]
    pub(crate) debug: bool,
    /// Which of its binaries to run
    #[arg(long, value_name = "NAME", conflicts_with = "example", help_heading = BUILD_HEADING)]
    pub(crate) bin: Option<String>,
    /// Which of its examples to run
    #[arg(long, value_name = "NAME", help_heading = BUILD_HEADING)]
    pub(crate) example: Option<String>,
}

impl BuildArgs {
    /// The first of its flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let flags = [
            (self.release, "--release"),
            (self.debug, "--debug"),
            (self.bin.is_some(), "--bin"),
            (self.example.is_some(), "--example"),
        ];
        flags.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
    }
}

/// What every job understands; the job's executable checks it.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Number of subtasks of operators that set none (default: all cores; on a cluster parallelism.default)
    #[arg(short, long, value_name = "N")]
    pub(crate) parallelism: Option<String>,
    /// Set an option; `weir config` lists them
    #[arg(short = 'D', value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) define: Vec<String>,
    /// Which job to run, if the executable has several
    #[arg(long = "job", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

impl JobArgs {
    /// The same as arguments of a job's executable.
    pub(crate) fn to_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.parallelism.iter().map(|n| format!("--parallelism={n}")));
        words.extend(self.define.iter().map(|setting| format!("-D{setting}")));
        words.extend(self.name.iter().map(|name| format!("--job={name}")));
        words
    }
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON value on standard output
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn savepoints_of_jobs_and_a_look_into_one_are_told_apart() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let Ok(Subcommand::Savepoint(taken)) = parse("weir savepoint counts /s -m h:1") else {
            panic!("another command")
        };
        assert_eq!((taken.job.as_deref(), taken.directory.as_deref()), (Some("counts"), Some("/s")));
        assert!(taken.command.is_none() && taken.dispose.is_none());
        let Ok(Subcommand::Savepoint(removed)) = parse("weir savepoint -d /s/savepoint-1") else {
            panic!("another command")
        };
        assert_eq!((removed.job, removed.dispose.as_deref()), (None, Some("/s/savepoint-1")));
        let Ok(Subcommand::Savepoint(looked)) = parse("weir savepoint inspect /s --keys count") else {
            panic!("another command")
        };
        let Some(SavepointCommand::Inspect(inspect)) = looked.command else { panic!("another command") };
        assert_eq!((inspect.path.as_str(), inspect.keys.as_deref()), ("/s", Some("count")));
        assert!(parse("weir savepoint").is_err());
        assert!(parse("weir savepoint counts --dispose /s").is_err());
    }

    #[test]
    fn a_restore_mode_needs_something_to_restore_from() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let Ok(Subcommand::Run(run)) = parse("weir run -s /s -n --restoreMode CLAIM x") else {
            panic!("another command")
        };
        assert_eq!(run.restore.from.as_deref(), Some("/s"));
        assert!(run.restore.allow_non_restored);
        assert_eq!(run.restore.mode, Some(RestoreMode::Claim));
        assert_eq!(run.restore.replace, None);
        let Ok(Subcommand::Run(run)) = parse("weir run --replace counts -n --savepointPath /s --dry-run x") else {
            panic!("another command")
        };
        assert_eq!((run.restore.replace.as_deref(), run.restore.directory.as_deref()), (Some("counts"), Some("/s")));
        assert!(run.restore.dry_run && run.restore.allow_non_restored);
        assert!(parse("weir run --replace counts -s /s x").is_err());
        assert!(parse("weir run --dry-run x").is_err());
        assert!(parse("weir run -s /s --savepointPath /t x").is_err());
        assert!(parse("weir run -n x").is_err());
        assert!(parse("weir run --claimMode no_claim x").is_err());
        assert!(parse("weir run -s /s --claimMode legacy x").is_err());
    }

    #[test]
    fn the_jobs_options_are_passed_as_its_executable_reads_them() {
        let words = ["weir", "run", "-p4", "-Da.b=c d", "-D", "e=f=g", "x", "--job", "j", "--", "-p", "5"];
        let Subcommand::Run(run) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
        assert_eq!(run.job.to_words(), ["--parallelism=4", "-Da.b=c d", "-De=f=g", "--job=j"]);
        assert_eq!(run.target.own, ["-p", "5"]);
    }
}
