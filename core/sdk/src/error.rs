//! Errors of building and running a job.

use weir_model::InvalidJobGraph;

/// Why a job could not be built or did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job's author reports a problem while building; make one with [`Error::job`].
    #[error("{0}")]
    Job(String),
    /// The graph that the builder described cannot run.
    #[error("the job cannot run: {0}")]
    Graph(Box<InvalidJobGraph>),
    /// The builder described something impossible.
    #[error("the job cannot be built: {0}")]
    Build(String),
    /// A source refused before the job started.
    #[error(transparent)]
    Source(#[from] weir_dataflow::source::SourceError),
    /// A sink refused before the job started.
    #[error(transparent)]
    Sink(#[from] weir_dataflow::sink::SinkError),
    /// An option has a wrong name or value.
    #[error(transparent)]
    Config(Box<weir_config::ConfigError>),
    /// The job ran and failed; the text is the report a person would see.
    #[error("{0}")]
    Failed(String),
    /// A signal came before the job had started.
    #[error("interrupted before the job had started")]
    Interrupted,
    /// Something of the operating system failed while the job was being built.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<InvalidJobGraph> for Error {
    fn from(error: InvalidJobGraph) -> Error {
        Error::Graph(Box::new(error))
    }
}

impl From<weir_config::ConfigError> for Error {
    fn from(error: weir_config::ConfigError) -> Error {
        Error::Config(Box::new(error))
    }
}

impl Error {
    /// A problem the job's author found, e.g. with its arguments.
    pub fn job(message: impl Into<String>) -> Error {
        Error::Job(message.into())
    }
}

/// Result of a job's builder.
pub type Result<T, E = Error> = std::result::Result<T, E>;
