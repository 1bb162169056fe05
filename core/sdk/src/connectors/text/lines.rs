//! Lines out of blocks of bytes, without an allocation or a copy per line.

use std::collections::VecDeque;

use weir_dataflow::operator::Collector;
use weir_dataflow::record::{SharedBuf, Text};
use weir_dataflow::source::SourceError;

use super::InvalidUtf8;
use super::block::Block;
use crate::connectors::files::{FileSplit, SkipLog, SplitInput, line_of};

/// Bytes at the end of every buffer that hold nothing, so that a short line at the end of the content can still be
/// loaded with wide reads.
const SLACK: usize = 32;

/// Emitted buffers to keep an eye on; lines that somebody still holds delay their reuse.
const KEPT: usize = 4;

/// How far into a file a NUL is taken for the sign of a binary file.
const BINARY_SIGN_WITHIN: usize = 8 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line cannot be longer: the length of a [`Text`] is a `u32`.
const LONGEST_LINE: usize = u32::MAX as usize - SLACK;

/// Reads the lines of one split after the other.
pub(super) struct LineReader {
    block: usize,
    invalid: InvalidUtf8,
    skips: SkipLog,
    input: Option<SplitInput>,
    current: Block,
    /// The start of a line whose rest has not been read.
    carry: Vec<u8>,
    emitted: VecDeque<SharedBuf>,
}

impl LineReader {
    pub(super) fn new(block: usize, invalid: InvalidUtf8, skips: SkipLog) -> LineReader {
        LineReader {
            block,
            invalid,
            skips,
            input: None,
            current: Block::empty(),
            carry: Vec::new(),
            emitted: VecDeque::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.input.is_some()
    }

    pub(super) fn open(&mut self, split: &FileSplit) -> Result<(), SourceError> {
        let input = SplitInput::open(split)?;
        self.current.clear();
        self.carry.clear();
        self.input = Some(input);
        Ok(())
    }

    /// Number of emitted buffers that could not be used again yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.emitted.len()
    }

    /// Where the first line that was not emitted begins.
    pub(super) fn position(&self) -> u64 {
        self.current.position()
    }

    /// Emits up to `limit` lines; false once the split has no more.
    #[inline(always)]
    pub(super) fn emit<C: Collector<Text>>(
        &mut self,
        split: &FileSplit,
        limit: usize,
        out: &mut C,
    ) -> Result<bool, SourceError> {
        if self.current.is_empty() && !self.fill(split)? {
            self.input = None;
            return Ok(false);
        }
        let skips = &mut self.skips;
        self.current.emit(limit, self.invalid, out, |at, found| skips.skip(|| not_utf8(split, at, found)));
        Ok(true)
    }

    /// Reads the next block of whole lines; false if there are none.
    fn fill(&mut self, split: &FileSplit) -> Result<bool, SourceError> {
        let Some(input) = &mut self.input else { return Ok(false) };
        let mut bytes = recycle(&mut self.emitted, self.current.take_buffer());
        let room = self.block.max(self.carry.len() + self.block / 2) + SLACK;
        if bytes.len() < room {
            bytes.resize(room, 0);
        }
        let offset = input.offset() - self.carry.len() as u64;
        bytes[..self.carry.len()].copy_from_slice(&self.carry);
        let mut filled = self.carry.len();
        self.carry.clear();
        let end = loop {
            let room = bytes.len() - SLACK;
            if filled == room {
                if let Some(at) = memchr::memrchr(b'\n', &bytes[..filled]) {
                    break at + 1;
                }
                if filled >= LONGEST_LINE {
                    return Err(too_long(split, offset));
                }
                bytes.resize((room * 2).min(LONGEST_LINE) + SLACK, 0);
                continue;
            }
            match input.read_some(&mut bytes[filled..room])? {
                0 => break filled,
                read => filled += read,
            }
        };
        self.carry.extend_from_slice(&bytes[end..filled]);
        let mut next = 0;
        if offset == 0 && end > 0 {
            next = byte_order_mark(split, &bytes[..end])?;
            if self.invalid == InvalidUtf8::Fail {
                refuse_binary(split, &bytes[..end])?;
            }
        }
        let block = Block::new(bytes, next, end, offset);
        if self.invalid == InvalidUtf8::Fail
            && let Some((at, found)) = block.invalid()
        {
            return Err(SourceError::new(format!(
                "{}; convert the file to UTF-8, or choose to replace or skip such lines with `.invalid_utf8(…)`",
                not_utf8(split, at, found)
            )));
        }
        self.current = block;
        // A file of nothing but a byte order mark has no lines.
        Ok(!self.current.is_empty())
    }
}

/// A buffer to fill: an emitted one that nobody holds any longer, or a new one.
fn recycle(emitted: &mut VecDeque<SharedBuf>, current: SharedBuf) -> Vec<u8> {
    emitted.push_back(current);
    for _ in 0..emitted.len() {
        let Some(buffer) = emitted.pop_front() else { break };
        match buffer.try_into_vec() {
            Ok(bytes) => return bytes,
            Err(buffer) => emitted.push_back(buffer),
        }
    }
    if emitted.len() > KEPT {
        emitted.pop_front();
    }
    Vec::new()
}

/// Length of the byte order mark a file begins with; an error if it is that of another encoding.
fn byte_order_mark(split: &FileSplit, start: &[u8]) -> Result<usize, SourceError> {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(SourceError::new(format!(
            "{} is UTF-16 (it begins with the byte order mark of that encoding); convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`",
            split.path().display()
        ))),
        start if start.starts_with(BYTE_ORDER_MARK) => Ok(BYTE_ORDER_MARK.len()),
        _ => Ok(0),
    }
}

fn refuse_binary(split: &FileSplit, start: &[u8]) -> Result<(), SourceError> {
    match memchr::memchr(0, &start[..start.len().min(BINARY_SIGN_WITHIN)]) {
        None => Ok(()),
        Some(at) => Err(SourceError::new(format!(
            "{} seems to be a binary file: byte {at} is NUL, expected text in UTF-8; if it is meant, choose \
             `.invalid_utf8(InvalidUtf8::Replace)`",
            split.path().display()
        ))),
    }
}

fn not_utf8(split: &FileSplit, at: u64, found: &[u8]) -> String {
    let line = line_of(split, at).map(|(line, _)| format!("line {line}, ")).unwrap_or_default();
    let found = &found[..found.len().min(4)];
    format!("{}: {line}byte {at} is not UTF-8 text (found {found:02x?})", split.path().display())
}

fn too_long(split: &FileSplit, offset: u64) -> SourceError {
    SourceError::new(format!(
        "{}: the line that begins at byte {offset} is longer than {LONGEST_LINE} bytes, the longest a record's text can be",
        split.path().display()
    ))
}
