//! The command `weir`: runs job executables and shows plans and options.
//!
//! Owns the command line and what is said about wrong ones. A job is run by its own executable, which takes this process
//! over, so that signals, output and exit codes are those of the job. Will wire the cluster's components together.

mod arguments;
mod config;
mod executable;
mod failure;
mod habits;
mod info;
mod package;
mod run;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use arguments::{Cli, Subcommand};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::try_parse_from(&words) {
        Ok(cli) => execute(cli.command),
        Err(error) => explain(&error, &words),
    };
    ExitCode::from(code)
}

fn execute(command: Subcommand) -> u8 {
    let result = match command {
        Subcommand::Run(arguments) => run::run(&arguments),
        Subcommand::Info(arguments) => info::info(&arguments),
        Subcommand::Config(arguments) => config::config(&arguments),
        Subcommand::Completions { shell } => completions(shell),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        failure::exit_code(&error)
    })
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
