//! Cuts input files into splits and hands them out.

use std::cmp::Reverse;
use std::collections::VecDeque;

use weir_dataflow::source::{EnumeratorContext, NextSplit, SourceError, SplitEnumerator};

use super::find::{InputFile, find};
use super::{Compression, FileSplit};
use crate::connectors::snapshot;

const MIN_SPLIT: u64 = 1 << 20;
const MAX_SPLIT: u64 = 64 << 20;

/// Whether files may be cut into ranges of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connectors) enum Cutting {
    /// Each file is one split.
    Whole,
    /// Into ranges of about this many bytes, or of a size that suits the input and the number of readers.
    Ranges(Option<u64>),
}

/// Makes the enumerator of the files that `input` stands for.
pub(in crate::connectors) fn enumerate(
    input: &str,
    cutting: Cutting,
    context: &EnumeratorContext,
) -> Result<FileEnumerator, SourceError> {
    let ready = match &context.restored {
        // Not looked for again: files that were added since are no part of this input.
        Some(state) => snapshot::decode::<Vec<FileSplit>>(state, "a file source")?,
        None => cut(&find(input)?, cutting, context.parallelism),
    };
    Ok(FileEnumerator { ready: ready.into() })
}

fn cut(files: &[InputFile], cutting: Cutting, parallelism: u32) -> Vec<FileSplit> {
    let total: u64 = files.iter().map(|file| file.version.len).sum();
    let fair = total / (4 * u64::from(parallelism.max(1)));
    let mut splits = Vec::new();
    for file in files.iter().filter(|file| file.version.len > 0) {
        let len = file.version.len;
        let size = match cutting {
            Cutting::Ranges(size) if file.compression == Compression::None => {
                size.unwrap_or(fair.clamp(MIN_SPLIT, MAX_SPLIT)).max(1)
            }
            Cutting::Ranges(_) | Cutting::Whole => len,
        };
        // Equal parts, rather than full ones and a small rest.
        let count = len.div_ceil(size);
        let bound = |part: u64| (u128::from(len) * u128::from(part) / u128::from(count)) as u64;
        splits.extend((0..count).map(|part| FileSplit::new(file, bound(part), bound(part + 1))));
    }
    if parallelism > 1 {
        // Large ones first, so that readers finish at about the same time. Equal ones stay in order.
        splits.sort_by_key(|split| Reverse(split.weight()));
    }
    splits
}

/// Hands out the splits of input files.
#[derive(Debug)]
pub struct FileEnumerator {
    ready: VecDeque<FileSplit>,
}

impl SplitEnumerator for FileEnumerator {
    type Split = FileSplit;

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<FileSplit>, SourceError> {
        Ok(self.ready.pop_front().map_or(NextSplit::Finished, NextSplit::Split))
    }

    fn add_back(&mut self, splits: Vec<FileSplit>) {
        for split in splits.into_iter().rev() {
            self.ready.push_front(split);
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        let ready: Vec<FileSplit> = self.ready.iter().cloned().collect();
        Ok(snapshot::encode(&ready))
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Version;
    use super::*;

    fn file(name: &str, len: u64, compression: Compression) -> InputFile {
        InputFile { path: name.into(), version: Version { len, modified_nanos: 1 }, compression }
    }

    fn check(files: &[InputFile], cutting: Cutting, parallelism: u32, expect: &[(&str, u64, u64)]) {
        let splits = cut(files, cutting, parallelism);
        let found: Vec<_> = splits.iter().map(|s| (s.path.escape_ascii().to_string(), s.start, s.end)).collect();
        let expect: Vec<_> = expect.iter().map(|&(path, start, end)| (path.to_owned(), start, end)).collect();
        assert_eq!(found, expect);
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn only_large_plain_files_are_cut_and_only_if_allowed() {
        let files = [
            file("a", 3 * MIB, Compression::None),
            file("b", 0, Compression::None),
            file("c", 2 * MIB, Compression::Gzip),
            file("d", MIB / 2, Compression::None),
        ];
        let whole: &[_] = &[("a", 0, 3 * MIB), ("c", 0, 2 * MIB), ("d", 0, MIB / 2)];
        check(&files, Cutting::Whole, 1, whole);
        let thirds = [("a", 0, MIB), ("a", MIB, 2 * MIB), ("a", 2 * MIB, 3 * MIB)];
        check(&files, Cutting::Ranges(None), 1, &[thirds[0], thirds[1], thirds[2], whole[1], whole[2]]);
        let cut = [("a", 0, 3 * MIB / 2), ("a", 3 * MIB / 2, 3 * MIB), whole[1], whole[2]];
        // The compressed one takes longest.
        check(&files, Cutting::Ranges(Some(2 * MIB)), 2, &[cut[2], cut[0], cut[1], cut[3]]);
    }

    #[test]
    fn every_reader_gets_several_ranges_of_a_large_file() {
        let files = [file("a", 80 * MIB, Compression::None)];
        assert_eq!(cut(&files, Cutting::Ranges(None), 2).len(), 8);
        assert_eq!(cut(&files, Cutting::Ranges(None), 1).len(), 4);
        let files = [file("a", 800 * MIB, Compression::None)];
        assert_eq!(cut(&files, Cutting::Ranges(None), 1).len(), 13);
    }

    #[test]
    fn splits_survive_a_snapshot_and_come_back_first() {
        let files = [file("a", 4 * MIB, Compression::None), file("b", 5, Compression::Zstd)];
        let mut first = FileEnumerator { ready: cut(&files, Cutting::Ranges(None), 1).into() };
        let NextSplit::Split(mut taken) = first.next_split(0).unwrap() else { panic!("there is a split") };
        taken.position = 77;
        let restored = Some(first.snapshot().unwrap());
        let context = EnumeratorContext { parallelism: 1, restored };
        let mut second = enumerate("/not/looked/at", Cutting::Whole, &context).unwrap();
        second.add_back(vec![taken.clone()]);
        assert_eq!(second.next_split(0).unwrap(), NextSplit::Split(taken));
        assert_eq!(second.next_split(0).unwrap(), first.next_split(0).unwrap());
    }
}
