//! The command line. The texts here are its manual.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, ValueEnum, ValueHint};
use clap_complete::Shell;

/// Runs Weir jobs
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Run a job in a process on this machine
    ///
    /// The job's executable takes the place of this process: what it prints, how it answers Ctrl-C and its exit code (0 finished,
    /// 1 failed, 2 wrong usage, 130 interrupted) are the job's own.
    Run(RunArgs),
    /// Show a job's plan, or the jobs of an executable that has several
    Info(InfoArgs),
    /// List all options with their values, or explain one
    Config(ConfigArgs),
    /// Print a script that completes this command's arguments in a shell
    ///
    /// E.g. for bash: weir completions bash > ~/.local/share/bash-completion/completions/weir
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Run the tasks in this many worker processes instead of one
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<String>,
    /// Print neither progress nor summary, and no messages of a build that succeeds
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How the job prints its summary
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
    /// Number of subtasks of operators that set none (default: all cores)
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
    fn the_jobs_options_are_passed_as_its_executable_reads_them() {
        let words = ["weir", "run", "-p4", "-Da.b=c d", "-D", "e=f=g", "x", "--job", "j", "--", "-p", "5"];
        let Subcommand::Run(run) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
        assert_eq!(run.job.to_words(), ["--parallelism=4", "-Da.b=c d", "-De=f=g", "--job=j"]);
        assert_eq!(run.target.own, ["-p", "5"]);
    }
}
