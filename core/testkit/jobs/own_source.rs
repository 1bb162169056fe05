//! A source as somebody outside the project writes one: with nothing but the public names of `weir`.

use std::path::PathBuf;

use weir::operator::Collector;
use weir::prelude::*;
use weir::record::Decoder;
use weir::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
    SplitEnumerator,
};

#[derive(weir::Args)]
pub struct Options {
    /// How many numbers
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Numbers in a split
    #[arg(long, default_value_t = 300)]
    split: u64,
    /// The enumerator fails when it comes to this number
    #[arg(long)]
    broken_at: Option<u64>,
    /// Where they go
    #[arg(long)]
    out: PathBuf,
}

/// Numbers with the start of the split they were read from. A line is `start number`.
pub fn own_source(env: &Environment, options: Options) -> weir::Result<()> {
    env.source(Numbers { count: options.count, split: options.split, broken_at: options.broken_at })
        .map(|(start, number)| format!("{start} {number}"))
        .write_text(&options.out);
    Ok(())
}

/// The numbers below `count`, in splits of `split`.
#[derive(Clone)]
struct Numbers {
    count: u64,
    split: u64,
    broken_at: Option<u64>,
}

/// Numbers from `start` to below `end`, of which those below `next` are read.
#[derive(Debug, Clone, PartialEq, Record)]
struct Stretch {
    start: u64,
    end: u64,
    next: u64,
}

impl Source for Numbers {
    type Item = (u64, u64);
    type Split = Stretch;
    type Enumerator = Stretches;
    type Reader = StretchReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn name(&self) -> String {
        format!("Source: own numbers below {}", self.count)
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<Stretches, SourceError> {
        if self.split == 0 {
            return Err(SourceError::new("a split of 0 numbers never ends; give at least 1"));
        }
        let (next, back) = match &context.restored {
            Some(state) => decode(state)?,
            None => (0, Vec::new()),
        };
        Ok(Stretches { numbers: self.clone(), next, back })
    }

    fn create_reader(&self, _context: &ReaderContext) -> Result<StretchReader, SourceError> {
        Ok(StretchReader { held: Vec::new() })
    }
}

/// Cuts splits off as they are asked for.
struct Stretches {
    numbers: Numbers,
    /// Where the next split starts.
    next: u64,
    /// Splits that were given back.
    back: Vec<Stretch>,
}

impl SplitEnumerator for Stretches {
    type Split = Stretch;

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Stretch>, SourceError> {
        if let Some(split) = self.back.pop() {
            return Ok(NextSplit::Split(split));
        }
        let start = self.next;
        if start >= self.numbers.count {
            return Ok(NextSplit::Finished);
        }
        let end = start.saturating_add(self.numbers.split).min(self.numbers.count);
        if let Some(at) = self.numbers.broken_at.filter(|at| (start..end).contains(at)) {
            return Err(SourceError::new(format!("own numbers: there is no number {at}")));
        }
        self.next = end;
        Ok(NextSplit::Split(Stretch { start, end, next: start }))
    }

    fn add_back(&mut self, splits: Vec<Stretch>) {
        self.back.extend(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        let mut state = Vec::new();
        (self.next, self.back.clone()).encode(&mut state);
        Ok(state)
    }
}

fn decode(state: &[u8]) -> Result<(u64, Vec<Stretch>), SourceError> {
    let mut input = Decoder::new(state);
    let decoded = Record::decode(&mut input).map_err(SourceError::new)?;
    input.finish().map_err(SourceError::new)?;
    Ok(decoded)
}

/// Reads splits a few numbers a poll, so that the position inside a split matters.
struct StretchReader {
    held: Vec<Stretch>,
}

impl SourceReader for StretchReader {
    type Item = (u64, u64);
    type Split = Stretch;

    fn add_split(&mut self, split: Stretch) -> Result<(), SourceError> {
        self.held.push(split);
        Ok(())
    }

    fn poll<C: Collector<(u64, u64)>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let Some(split) = self.held.last_mut() else { return Ok(ReaderStatus::NeedSplit) };
        for _ in 0..64 {
            if split.next >= split.end {
                self.held.pop();
                break;
            }
            out.push((split.start, split.next));
            split.next += 1;
        }
        Ok(ReaderStatus::More)
    }

    fn snapshot(&self) -> Vec<Stretch> {
        self.held.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Collected(Vec<u64>);

    impl Collector<(u64, u64)> for Collected {
        fn push(&mut self, (_, number): (u64, u64)) {
            self.0.push(number);
        }
    }

    /// Reads what the enumerator still has, and what the reader holds.
    fn read_out(enumerator: &mut Stretches, reader: &mut StretchReader, out: &mut Collected) {
        loop {
            while reader.poll(out).unwrap() == ReaderStatus::More {}
            match enumerator.next_split(0).unwrap() {
                NextSplit::Split(split) => reader.add_split(split).unwrap(),
                NextSplit::NotYet(wait) => panic!("nothing makes it wait: {wait:?}"),
                NextSplit::Finished => return,
            }
        }
    }

    #[test]
    fn what_was_stored_in_the_middle_of_a_split_continues_there() {
        let source = Numbers { count: 1000, split: 300, broken_at: None };
        let context = EnumeratorContext { parallelism: 1, restored: None };
        for handed_back in [false, true] {
            let mut enumerator = source.create_enumerator(&context).unwrap();
            let mut reader = StretchReader { held: Vec::new() };
            let NextSplit::Split(split) = enumerator.next_split(0).unwrap() else { panic!("there is a split") };
            reader.add_split(split).unwrap();
            let mut out = Collected(Vec::new());
            assert_eq!(reader.poll(&mut out).unwrap(), ReaderStatus::More);
            assert!(!out.0.is_empty() && out.0.len() < 300);

            let mut next_reader = StretchReader { held: Vec::new() };
            let held = reader.snapshot();
            if handed_back {
                enumerator.add_back(held);
            } else {
                held.into_iter().for_each(|split| next_reader.add_split(split).unwrap());
            }
            let restored = Some(enumerator.snapshot().unwrap());
            let mut enumerator = source.create_enumerator(&EnumeratorContext { restored, ..context.clone() }).unwrap();
            read_out(&mut enumerator, &mut next_reader, &mut out);
            assert!(out.0.iter().copied().eq(0..1000), "{:?}", out.0);
        }
    }

    #[test]
    fn damaged_state_is_refused() {
        let source = Numbers { count: 1000, split: 300, broken_at: None };
        let restored = Some(vec![1, 2, 3]);
        assert!(source.create_enumerator(&EnumeratorContext { parallelism: 1, restored }).is_err());
    }
}
