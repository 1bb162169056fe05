//! Ends of streams.

use std::marker::PhantomData;
use std::path::Path;

use weir_dataflow::head::Input;
use weir_dataflow::operator::{Body, Terminated, Then};
use weir_dataflow::record::Record;
use weir_dataflow::sink::{DriverSink, Sink, SinkOperator};
use weir_model::OperatorKind;

use super::{DataStream, Upstream};
use crate::connectors::file_sink::{CsvRows, TextRows};
use crate::connectors::{DiscardSink, FileSink, PrintSink};

/// A finished stream: its sink can still be named and given a parallelism.
pub struct StreamSink<C: Upstream<Out = T>, T: 'static, S: Sink<T>> {
    // `None` once another `StreamSink` took over; what is left when the value goes out of scope becomes part of the job.
    stream: Option<DataStream<Then<C, SinkOperator<T, S>>>>,
    record: PhantomData<fn(T)>,
}

impl<C, T, S> std::fmt::Debug for StreamSink<C, T, S>
where
    C: Upstream<Out = T>,
    S: Sink<T>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamSink<{}>", std::any::type_name::<T>())
    }
}

impl<C: Upstream> DataStream<C> {
    /// Ends the stream in `sink`.
    pub fn sink<S: Sink<C::Out>>(self, sink: S) -> StreamSink<C, C::Out, S> {
        let name = sink.name();
        let stream = self.append(&name, OperatorKind::Sink, SinkOperator::new(sink.clone()));
        let driver = Box::new(DriverSink(sink, PhantomData));
        stream.draft.borrow_mut().add_sink(stream.chain.node, driver);
        StreamSink { stream: Some(stream), record: PhantomData }
    }

    /// Prints every record on standard output, with the subtask's number in front if there are several.
    pub fn print(self) -> StreamSink<C, C::Out, PrintSink>
    where
        C::Out: std::fmt::Display,
    {
        self.sink(PrintSink::new())
    }

    /// Writes every record as a line of text part files in a directory that must not hold output yet. For more choices,
    /// `.sink(FileSink::text(…))`.
    pub fn write_text(self, directory: impl AsRef<Path>) -> StreamSink<C, C::Out, FileSink<TextRows>>
    where
        C::Out: std::fmt::Display,
    {
        self.sink(FileSink::text(directory.as_ref()))
    }

    /// Writes every record as a row of CSV part files in a directory that must not hold output yet. For more choices,
    /// `.sink(FileSink::csv(…))`.
    pub fn write_csv(self, directory: impl AsRef<Path>) -> StreamSink<C, C::Out, FileSink<CsvRows>>
    where
        C::Out: serde::Serialize,
    {
        self.sink(FileSink::csv(directory.as_ref()))
    }

    /// Drops every record; they are counted like those of any sink.
    pub fn discard(self) -> StreamSink<C, C::Out, DiscardSink> {
        self.sink(DiscardSink)
    }
}

impl<C, T, S> StreamSink<C, T, S>
where
    C: Upstream<Out = T>,
    S: Sink<T>,
{
    fn change(
        mut self,
        f: impl FnOnce(DataStream<Then<C, SinkOperator<T, S>>>) -> DataStream<Then<C, SinkOperator<T, S>>>,
    ) -> Self {
        self.stream = self.stream.take().map(f);
        self
    }

    /// Names the sink in plans, progress and metrics.
    pub fn name(self, name: &str) -> Self {
        self.change(|stream| stream.name(name))
    }

    /// Gives the sink a name for its state that stays when the job changes. Unique in the job.
    pub fn uid(self, uid: &str) -> Self {
        self.change(|stream| stream.uid(uid))
    }

    /// Sets the number of the sink's subtasks. Unless it is the first of its chain, it starts a new chain.
    pub fn parallelism(mut self, parallelism: u32) -> StreamSink<Input<T>, T, S>
    where
        T: Record,
    {
        let stream = self.stream.take().map(|stream| stream.parallelism(parallelism));
        StreamSink { stream, record: PhantomData }
    }

    /// Puts the sink into another slot sharing group. Unless it is the first of its chain, it starts a new chain.
    pub fn slot_sharing_group(mut self, group: &str) -> StreamSink<Input<T>, T, S>
    where
        T: Record,
    {
        let stream = self.stream.take().map(|stream| stream.slot_sharing_group(group));
        StreamSink { stream, record: PhantomData }
    }

    /// Runs the sink in a task of its own.
    pub fn start_new_chain(mut self) -> StreamSink<Input<T>, T, S>
    where
        T: Record,
    {
        let stream = self.stream.take().map(DataStream::start_new_chain);
        StreamSink { stream, record: PhantomData }
    }
}

impl<C, T, S> Drop for StreamSink<C, T, S>
where
    C: Upstream<Out = T>,
    T: 'static,
    S: Sink<T>,
{
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let node = stream.chain.node;
            stream.draft.borrow_mut().finish_vertex(node, Body::erased(stream.chain, Terminated));
        }
    }
}
