//! [`DiscardSink`]: takes records and forgets them.

use weir_dataflow::sink::{Sink, SinkError, SinkWriter, WriterContext};

/// A sink that drops every record; the job's summary still says how many arrived. For measuring and trying out.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// # let stream = env.from_collection([1u64]);
/// stream.sink(DiscardSink);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardSink;

impl<T: 'static> Sink<T> for DiscardSink {
    type Writer = DiscardWriter;

    fn name(&self) -> String {
        "Sink: discard".to_owned()
    }

    fn create_writer(&self, _context: &WriterContext) -> Result<DiscardWriter, SinkError> {
        Ok(DiscardWriter)
    }
}

/// Drops the records of a subtask.
#[derive(Debug, Clone, Copy)]
pub struct DiscardWriter;

impl<T> SinkWriter<T> for DiscardWriter {
    #[inline(always)]
    fn write(&mut self, record: T) -> Result<(), SinkError> {
        drop(record);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError> {
        Ok(Vec::new())
    }
}
