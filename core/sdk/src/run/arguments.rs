//! The command line of a job's executable: the runtime's options and the chosen job's own.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use weir_config::{ConfigError, Configuration, Origin, options};
use weir_model::JobGraph;

use super::{Job, exit, terminal, written};
use crate::error::{Error, Result};

/// The heading of the runtime's options in `--help`.
const HEADING: &str = "Runtime options";

/// Options every job has.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RuntimeArgs {
    /// Number of subtasks of operators that set none (default: all cores)
    #[arg(id = "weir_parallelism", short = 'p', long = "parallelism", value_name = "N", help_heading = HEADING)]
    pub(super) parallelism: Option<String>,
    /// Which of the executable's jobs to run
    #[arg(id = "weir_job", long = "job", value_name = "NAME", help_heading = HEADING)]
    pub(super) job: Option<String>,
    /// Set an option, e.g. -D execution.buffer-timeout=10ms; docs/configuration.md lists them
    #[arg(id = "weir_define", short = 'D', value_name = "KEY=VALUE", help_heading = HEADING)]
    pub(super) define: Vec<String>,
    /// Run the tasks in this many worker processes instead of this one
    #[arg(id = "weir_workers", long = "workers", value_name = "N", help_heading = HEADING)]
    pub(super) workers: Option<String>,
    /// Print the plan instead of running the job
    #[arg(id = "weir_explain", long = "explain", value_name = "FORMAT", num_args = 0..=1, default_missing_value = "tree",
          require_equals = true, help_heading = HEADING)]
    pub(super) explain: Option<PlanFormat>,
    /// Print neither progress nor summary; errors are still printed
    #[arg(id = "weir_quiet", short = 'q', long = "quiet", help_heading = HEADING)]
    pub(super) quiet: bool,
    /// How to print the summary: text on standard error, or one JSON object on standard output
    #[arg(id = "weir_output", long = "output", value_name = "FORMAT", default_value = "text", help_heading = HEADING)]
    pub(super) output: OutputFormat,
}

/// How `--explain` prints a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// An indented tree
    Tree,
    /// Graphviz, for `dot -Tsvg`
    Dot,
}

impl PlanFormat {
    pub(super) fn render(self, graph: &JobGraph) -> String {
        match self {
            PlanFormat::Tree => weir_scheduler::explain::tree(graph),
            PlanFormat::Dot => weir_scheduler::explain::dot(graph),
        }
    }
}

/// How the summary is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people, on standard error
    Text,
    /// One object, on standard output
    Json,
}

impl RuntimeArgs {
    /// The options of a run nobody watches.
    pub(super) fn quiet() -> RuntimeArgs {
        RuntimeArgs {
            parallelism: None,
            job: None,
            define: Vec::new(),
            workers: None,
            explain: None,
            quiet: true,
            output: OutputFormat::Text,
        }
    }

    /// The configuration the command line and the environment ask for.
    pub(super) fn configuration(&self) -> Result<Configuration> {
        let mut configuration = Configuration::new();
        configuration.set_environment(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )?;
        for define in &self.define {
            configuration.set_argument(define)?;
        }
        for (flag, value, key) in [
            ("--parallelism", &self.parallelism, options::PARALLELISM_DEFAULT.key()),
            ("--workers", &self.workers, options::EMBEDDED_WORKERS.key()),
        ] {
            if let Some(value) = value {
                configuration.set(key, value, Origin::CommandLine).map_err(|error| of_flag(flag, error))?;
            }
        }
        Ok(configuration)
    }
}

/// The error in words of the flag that was given, rather than of the option it is short for.
fn of_flag(flag: &str, error: ConfigError) -> Error {
    match error {
        ConfigError::InvalidValue { value, problem, expected, example, .. } => {
            Error::Job(format!("{flag} is {value:?}, but {problem}: expected {expected}, e.g. {flag} {example}"))
        }
        error => error.into(),
    }
}

/// A command line that names a job and fits it.
pub(super) struct Parsed {
    /// Position of the chosen job.
    pub(super) job: usize,
    /// The runtime's options.
    pub(super) runtime: RuntimeArgs,
    /// What was matched, for the job's own arguments.
    pub(super) matches: ArgMatches,
}

/// A command line that runs nothing: help, or an error.
pub(super) struct Stop {
    text: String,
    is_error: bool,
}

impl Stop {
    fn usage(text: impl Into<String>) -> Stop {
        Stop { text: text.into(), is_error: true }
    }

    /// It as a message for somebody who cannot see this process's output.
    pub(super) fn into_message(self) -> String {
        let text = self.text.trim_end();
        match text.strip_prefix("error: ") {
            Some(error) => error.to_owned(),
            None if self.is_error => text.to_owned(),
            None => format!("the arguments ask for help instead of running a job:\n{text}"),
        }
    }

    /// Prints it and returns the exit code.
    pub(super) fn print(self) -> u8 {
        if self.is_error {
            terminal::err(self.text.trim_end());
            exit::USAGE
        } else {
            written(terminal::out(self.text.trim_end()), exit::FINISHED)
        }
    }
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Stop {
        Stop { is_error: error.use_stderr(), text: error.render().ansi_if_terminal() }
    }
}

/// Colour where a person sees it.
trait AnsiIfTerminal {
    fn ansi_if_terminal(&self) -> String;
}

impl AnsiIfTerminal for clap::builder::StyledStr {
    fn ansi_if_terminal(&self) -> String {
        use std::io::IsTerminal;
        if std::io::stderr().is_terminal() { self.ansi().to_string() } else { self.to_string() }
    }
}

/// Finds the job and parses the whole line with its arguments.
pub(super) fn parse(jobs: &[Job], line: Vec<OsString>) -> Result<Parsed, Stop> {
    let chosen = match choose(jobs, &line)? {
        Some(job) => job,
        None => return Err(no_job(jobs, &line)),
    };
    let command = command_of(&jobs[chosen])?;
    let matches = command.try_get_matches_from(line)?;
    let runtime = RuntimeArgs::from_arg_matches(&matches)?;
    // Wrong options are wrong usage, not a failed job.
    runtime.configuration().map_err(|error| Stop::usage(format!("error: {error}")))?;
    Ok(Parsed { job: chosen, runtime, matches })
}

fn command_of(job: &Job) -> Result<Command, Stop> {
    let own = job.builder.augment(Command::new(job.name));
    let runtime = RuntimeArgs::augment_args(Command::new("runtime"));
    if let Some(name) = own.get_arguments().find_map(|arg| clash(arg, &runtime)) {
        return Err(Stop::usage(format!(
            "error: job `{}` has an argument `{name}`, which every job has already as a runtime option; rename it, e.g. with #[arg(long = \"…\")]",
            job.name
        )));
    }
    let about = format!("Runs the job `{}`.", job.name);
    Ok(RuntimeArgs::augment_args(own.next_help_heading(HEADING)).about(about))
}

/// The flag of `arg` that one of `runtime`'s has as well.
fn clash(arg: &Arg, runtime: &Command) -> Option<String> {
    let taken = |f: &dyn Fn(&Arg) -> bool| runtime.get_arguments().any(f);
    match (arg.get_long(), arg.get_short()) {
        (Some(long), _) if long == "help" || taken(&|a| a.get_long() == Some(long)) => Some(format!("--{long}")),
        (_, Some(short)) if short == 'h' || taken(&|a| a.get_short() == Some(short)) => Some(format!("-{short}")),
        _ => None,
    }
}

/// The job named by `--job`, or the only one.
fn choose(jobs: &[Job], line: &[OsString]) -> Result<Option<usize>, Stop> {
    let mut words = line.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let name = match word.strip_prefix("--job") {
            Some("") => words.next().map(|name| name.into_owned()),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None if word == "--" => break,
            None => None,
        };
        if let Some(name) = name {
            let found = jobs.iter().position(|job| job.name == name);
            let missing =
                || Stop::usage(format!("error: there is no job `{name}` in this executable; it has: {}", names(jobs)));
            return found.map(Some).ok_or_else(missing);
        }
    }
    Ok(if jobs.len() == 1 { Some(0) } else { None })
}

fn names(jobs: &[Job]) -> String {
    jobs.iter().map(|job| job.name).collect::<Vec<_>>().join(", ")
}

/// Several jobs and none chosen: help lists them, anything else is an error that does.
fn no_job(jobs: &[Job], line: &[OsString]) -> Stop {
    let wants_help = line.iter().skip(1).any(|word| word == "--help" || word == "-h");
    let list = format!("choose one with --job NAME: {}", names(jobs));
    if wants_help {
        let program = line.first().map_or_else(|| "job".into(), |p| p.to_string_lossy().into_owned());
        let text = format!(
            "This executable has {} jobs; {list}\n\nUsage: {program} --job NAME [OPTIONS]\n       {program} --job NAME --help   shows a job's own arguments",
            jobs.len()
        );
        return Stop { text, is_error: false };
    }
    Stop::usage(format!("error: this executable has {} jobs and none was chosen; {list}", jobs.len()))
}
