//! The environment a job is built in.

use std::cell::{Cell, RefCell};
use std::path::Path;

use weir_config::{CheckpointingMode, ConfigValue, Configuration, Origin, RuntimeMode, StateBackendType, options};
use weir_dataflow::fabric::ChannelOptions;
use weir_dataflow::head::SourceHead;
use weir_dataflow::plan::{DriverSide, JobPlan, RuntimeOptions};
use weir_dataflow::source::{Boundedness, DriverSource, Source};
use weir_model::OperatorKind;

use crate::build::{Draft, JobDefaults};
use crate::connectors::{CollectionSource, CsvSource, GeneratorSource, TextSource};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::stream::DataStream;

/// Where a job's streams start and its options are set.
///
/// Options set here are the author's choice; the command line (`-D`, `--parallelism`) wins over them.
pub struct Environment {
    draft: Draft,
    job: String,
    configuration: RefCell<Configuration>,
    has_unbounded_source: Cell<bool>,
    problem: RefCell<Option<Error>>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment of job {:?}", self.job)
    }
}

impl Environment {
    pub(crate) fn new(job: &str, configuration: Configuration) -> Environment {
        Environment {
            draft: Draft::default(),
            job: job.to_owned(),
            configuration: RefCell::new(configuration),
            has_unbounded_source: Cell::new(false),
            problem: RefCell::new(None),
        }
    }

    /// Starts a stream at a source.
    pub fn source<S: Source>(&self, source: S) -> DataStream<SourceHead<S>> {
        let bounded = source.boundedness() == Boundedness::Bounded;
        self.has_unbounded_source.set(self.has_unbounded_source.get() || !bounded);
        let mut draft = self.draft.borrow_mut();
        let node = draft.add_node(source.name(), OperatorKind::Source { bounded }, None);
        draft.add_source(node, Box::new(DriverSource(source.clone())));
        drop(draft);
        DataStream { draft: self.draft.clone(), chain: SourceHead { source, node }, node: Some(node), origin: () }
    }

    /// The lines of a file, of all files of a directory, or of those a glob matches; gzip and zstd are recognised.
    pub fn read_text(&self, path: impl AsRef<Path>) -> DataStream<SourceHead<TextSource>> {
        self.source(TextSource::new(path.as_ref().to_string_lossy()))
    }

    /// The rows of CSV files with a header line, as `T`; paths as for [`read_text`](Self::read_text). For other forms of CSV,
    /// `env.source(CsvSource::new(…))`.
    pub fn read_csv<T>(&self, path: impl AsRef<Path>) -> DataStream<SourceHead<CsvSource<T>>>
    where
        CsvSource<T>: Source<Item = T>,
    {
        self.source(CsvSource::new(path.as_ref().to_string_lossy()))
    }

    /// The items of a collection.
    pub fn from_collection<T: Record + Clone + Sync>(
        &self,
        items: impl IntoIterator<Item = T>,
    ) -> DataStream<SourceHead<CollectionSource<T>>> {
        self.source(CollectionSource::new(items))
    }

    /// Records 0 to `count` of a function of the record's number.
    pub fn generate<T, F>(&self, count: u64, f: F) -> DataStream<SourceHead<GeneratorSource<F>>>
    where
        T: Send + 'static,
        F: Fn(u64) -> T + Clone + Send + 'static,
        GeneratorSource<F>: Source<Item = T>,
    {
        self.source(GeneratorSource::new(f).records(count))
    }

    /// Sets an option of the job by key, as `-D key=value` does. Wrong keys and values are reported when the job is built.
    pub fn set(&self, key: &str, value: &str) -> &Self {
        if let Err(error) = self.configuration.borrow_mut().set(key, value, Origin::Job) {
            self.problem.borrow_mut().get_or_insert(error.into());
        }
        self
    }

    /// Sets the number of subtasks of operators that set none themselves.
    pub fn set_parallelism(&self, parallelism: u32) -> &Self {
        self.set(options::PARALLELISM_DEFAULT.key(), &parallelism.to_string())
    }

    /// Sets how long a record may wait for its batch to fill; see `execution.buffer-timeout`.
    pub fn set_buffer_timeout(&self, timeout: std::time::Duration) -> &Self {
        self.set(options::BUFFER_TIMEOUT.key(), &timeout.render())
    }

    /// The number of subtasks of operators that set none themselves.
    pub fn parallelism(&self) -> u32 {
        let set = self.configuration.borrow().get(&options::PARALLELISM_DEFAULT);
        set.unwrap_or_else(available_cores)
    }

    /// The finished job, with the options it runs with.
    pub(crate) fn into_job(self) -> Result<(JobPlan, DriverSide, Configuration)> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let parallelism = self.parallelism();
        let mut configuration = self.configuration.into_inner();
        // Fixed here, so that every process that builds the job builds the same graph.
        configuration.set_value(&options::PARALLELISM_DEFAULT, Some(parallelism), Origin::Default)?;
        let unbounded = self.has_unbounded_source.get();
        let final_results_only = match configuration.get(&options::RUNTIME_MODE) {
            RuntimeMode::Streaming => false,
            RuntimeMode::Automatic => !unbounded,
            RuntimeMode::Batch if unbounded => {
                return Err(Error::Build(
                    "execution.runtime-mode is `batch`, but a source of the job is unbounded and never ends; bound the source or use `streaming`"
                        .into(),
                ));
            }
            RuntimeMode::Batch => true,
        };
        let options = RuntimeOptions {
            buffer_timeout: configuration.get(&options::BUFFER_TIMEOUT).interval(),
            channels: ChannelOptions {
                capacity: configuration.get(&options::BUFFERS_PER_CHANNEL) as usize,
                batch_bytes: configuration.get(&options::SEGMENT_SIZE).as_usize(),
            },
            final_results_only,
            inline_threshold: configuration.get(&options::CHECKPOINT_INLINE_THRESHOLD).as_usize(),
            lsm_memory: (configuration.get(&options::STATE_BACKEND) == StateBackendType::Lsm)
                .then(|| configuration.get(&options::LSM_MEMORY).as_usize()),
            at_least_once: configuration.get(&options::CHECKPOINT_MODE) == CheckpointingMode::AtLeastOnce,
        };
        let defaults = JobDefaults {
            name: configuration.get(&options::PIPELINE_NAME).unwrap_or(self.job),
            parallelism,
            max_parallelism: configuration.get(&options::MAX_PARALLELISM),
            config: configuration.to_map(),
            options,
        };
        let (plan, side) = self.draft.borrow_mut().finish(&defaults)?;
        Ok((plan, side, configuration))
    }
}

/// The number of cores, as the driver of the run found it.
pub(crate) fn available_cores() -> u32 {
    let told = std::env::var(weir_proto::roles::CORES_VARIABLE).ok().and_then(|cores| cores.parse().ok());
    told.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
}
