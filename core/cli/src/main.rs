//! The command `weir`: runs jobs, talks to clusters, and is the processes of one.
//!
//! Owns the command line and what is said about wrong ones, and wires JobManager and TaskManager together. Everything about a running
//! cluster goes through its HTTP API, also when the cluster is in this very process.

mod arguments;
mod client;
mod cluster;
mod command_line;
mod config;
mod configuration;
mod executable;
mod failure;
mod follow;
mod habits;
mod info;
mod inspect;
mod list;
mod logs;
mod package;
mod plugins;
mod replace;
mod rescale;
mod run;
mod savepoint;
mod text;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use arguments::{Cli, SavepointCommand, Subcommand};

fn main() -> ExitCode {
    // A file that grows beyond the process's limit is an error of whoever writes it, as a full disk is, and not the end of the cluster.
    // SAFETY: no handler is installed, and there is no other thread yet.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let words: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::try_parse_from(habits::in_two_dashes(&words)) {
        Ok(cli) => execute(&cli),
        Err(error) => explain(&error, &words),
    };
    ExitCode::from(code)
}

fn execute(cli: &Cli) -> u8 {
    let load = |define: &[String]| configuration::load(cli.config_dir.as_deref(), define);
    let result = match &cli.command {
        Subcommand::Run(arguments) => load(&arguments.job.define).and_then(|c| on_threads(2, run::run(arguments, c))),
        Subcommand::Info(arguments) => info::info(arguments),
        Subcommand::List(arguments) => load(&arguments.cluster.define).and_then(|c| on_one(list::list(arguments, &c))),
        Subcommand::Status(arguments) => {
            load(&arguments.cluster.define).and_then(|c| on_one(list::status(arguments, &c)))
        }
        Subcommand::Cancel(arguments) => {
            load(&arguments.cluster.define).and_then(|c| on_one(list::cancel(arguments, &c)))
        }
        Subcommand::Stop(arguments) => {
            load(&arguments.cluster.define).and_then(|c| on_one(savepoint::stop(arguments, &c)))
        }
        Subcommand::Savepoint(arguments) => match &arguments.command {
            Some(SavepointCommand::Inspect(arguments)) => inspect::inspect(arguments),
            None => load(&arguments.cluster.define).and_then(|c| on_one(savepoint::savepoint(arguments, &c))),
        },
        Subcommand::Checkpoint(arguments) => {
            load(&arguments.cluster.define).and_then(|c| on_one(savepoint::checkpoint(arguments, &c)))
        }
        Subcommand::Rescale(arguments) => {
            load(&arguments.cluster.define).and_then(|c| on_one(rescale::rescale(arguments, &c)))
        }
        Subcommand::Logs(arguments) => load(&arguments.cluster.define).and_then(|c| on_one(logs::logs(arguments, &c))),
        Subcommand::JobManager(arguments) => {
            load(&arguments.define).and_then(|c| on_threads(2, cluster::job_manager(arguments, &c)))
        }
        Subcommand::TaskManager(arguments) => {
            load(&arguments.define).and_then(|c| on_one(cluster::task_manager(arguments, &c)))
        }
        Subcommand::Local(arguments) => {
            load(&arguments.define).and_then(|c| on_threads(2, cluster::local(arguments, c)))
        }
        Subcommand::Config(arguments) => load(&arguments.define).and_then(|c| config::config(arguments, &c)),
        Subcommand::Plugins(arguments) => load(&arguments.define).and_then(|c| plugins::plugins(arguments, &c)),
        Subcommand::Completions { shell } => completions(*shell),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        failure::exit_code(&error)
    })
}

/// Runs a command that mostly waits.
fn on_one<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Runs a command that works on this many threads.
fn on_threads<T>(threads: usize, command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let result = runtime.block_on(command);
    // Nothing that is left matters once the command is done.
    runtime.shutdown_background();
    result
}

/// Help, the version, or what is wrong with the command line.
fn explain(error: &clap::Error, words: &[OsString]) -> u8 {
    let is_wrong = error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    match habits::advice(words).filter(|_| is_wrong) {
        Some(advice) => eprintln!("error: {advice}"),
        // There is nobody to tell that standard error cannot be written.
        None => drop(error.print()),
    }
    if error.use_stderr() { failure::USAGE } else { failure::OK }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    text::print(&String::from_utf8_lossy(&script))?;
    Ok(failure::OK)
}
