//! What can happen to the Dispatcher, and what it wants to have done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Artifact, ArtifactId, JobGraph, JobId, JobView};

/// All that is needed to run a job, or to say later what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The plan its coordinator built.
    pub graph: Arc<JobGraph>,
    /// The executable.
    pub artifact: Artifact,
    /// The command line of its processes.
    pub arguments: Vec<String>,
    /// Options in effect for the job, by key; with secrets.
    pub configuration: BTreeMap<String, String>,
    /// When it was submitted, since 1970-01-01 UTC.
    pub submitted: Duration,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody wants a job to be run.
    Submitted {
        /// To be given back in [`Effect::Answer`].
        request: u64,
        /// The job.
        record: Arc<JobRecord>,
    },
    /// The record asked for by [`Effect::Persist`] is kept, or cannot be.
    Persisted {
        /// The job.
        job: JobId,
        /// Why it cannot be kept.
        result: Result<(), String>,
    },
    /// A JobMaster has ended, and with it the job.
    JobEnded {
        /// The job's last view.
        view: Arc<JobView>,
    },
    /// These records were left by an earlier JobManager. The first event, if there are any.
    Recovered(Vec<JobRecord>),
    /// A timer asked for by [`Effect::ScheduleTimer`] is due.
    Timer {
        /// The timer's id.
        id: u64,
    },
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Keep the record where a restarted JobManager finds it, then send [`Event::Persisted`].
    Persist(Arc<JobRecord>),
    /// Start a JobMaster for the job.
    StartJobMaster(Arc<JobRecord>),
    /// Answer a submission.
    Answer {
        /// Which one.
        request: u64,
        /// The job's id, or why it is not run.
        result: Result<JobId, SubmitError>,
    },
    /// The job has ended and its view is in the archive. Nothing to do but to log and count it.
    Archived(Arc<JobView>),
    /// Forget a job's record.
    Forget(JobId),
    /// No running job needs the artifact any more. The file may go if nobody lists it either.
    ReleaseArtifact(ArtifactId),
    /// Send [`Event::Timer`] with this id when the clock shows `at`. Earlier timers no longer matter.
    ScheduleTimer {
        /// To be given back.
        id: u64,
        /// On the clock whose time `on_event` is given.
        at: Duration,
    },
}

/// Why a job is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// A job has this id already. The submitter's mistake: ask again with another id, or without one.
    #[error("there is a job {id} already ({name:?}, {status}): submit with another id, or with none to have one drawn")]
    Duplicate {
        /// The id.
        id: JobId,
        /// The name of the job that has it.
        name: String,
        /// Its status: a word for people.
        status: &'static str,
    },
    /// The job's record cannot be kept, e.g. because the disk is full.
    #[error("the job {id} cannot be recorded: {reason}")]
    NotRecorded {
        /// The id.
        id: JobId,
        /// Why.
        reason: String,
    },
}
