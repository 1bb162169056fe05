//! A block of lines in one shared buffer.

use weir_dataflow::operator::Collector;
use weir_dataflow::record::{Bytes, SharedBuf, Text};

use super::InvalidUtf8;

/// Whole lines: `bytes[next..end]`, of which `bytes[0]` lies at `offset` of the content.
pub(in crate::connectors) struct Block {
    bytes: SharedBuf,
    next: usize,
    end: usize,
    offset: u64,
    /// The first byte that is not UTF-8.
    invalid_at: Option<usize>,
}

impl Block {
    pub(in crate::connectors) fn empty() -> Block {
        Block { bytes: SharedBuf::from(Vec::new()), next: 0, end: 0, offset: 0, invalid_at: None }
    }

    /// The lines in `bytes[next..end]`.
    pub(in crate::connectors) fn new(bytes: Vec<u8>, next: usize, end: usize, offset: u64) -> Block {
        let invalid_at = std::str::from_utf8(&bytes[next..end]).err().map(|error| next + error.valid_up_to());
        Block { bytes: SharedBuf::from(bytes), next, end, offset, invalid_at }
    }

    pub(in crate::connectors) fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// Where the next line begins in the content.
    pub(in crate::connectors) fn position(&self) -> u64 {
        self.offset + self.next as u64
    }

    /// Where in the content the first byte lies that is not UTF-8, and the bytes from there on.
    pub(in crate::connectors) fn invalid(&self) -> Option<(u64, &[u8])> {
        self.invalid_at.map(|at| (self.offset + at as u64, &self.bytes[at..self.end]))
    }

    /// Forgets the lines, but keeps the buffer for [`take_buffer`](Self::take_buffer).
    pub(super) fn clear(&mut self) {
        self.next = self.end;
    }

    /// Empties the block and gives its buffer back.
    pub(super) fn take_buffer(&mut self) -> SharedBuf {
        std::mem::replace(self, Block::empty()).bytes
    }

    /// Emits up to `limit` lines. `on_skip` hears where those begin to be invalid that [`InvalidUtf8::Skip`] leaves out.
    #[inline(always)]
    pub(in crate::connectors) fn emit<C: Collector<Text>>(
        &mut self,
        limit: usize,
        invalid: InvalidUtf8,
        out: &mut C,
        on_skip: impl FnMut(u64, &[u8]),
    ) {
        if self.invalid_at.is_some() {
            return self.emit_checking(limit, invalid, out, on_skip);
        }
        let mut left = limit;
        while left > 0 && self.next < self.end {
            let line = self.take_line();
            // SAFETY: the block is UTF-8, and line feeds and carriage returns are characters of their own, so that a
            // part between them is UTF-8 too.
            out.push(unsafe { Text::from_utf8_unchecked(line) });
            left -= 1;
        }
    }

    #[cold]
    #[inline(never)]
    fn emit_checking<C: Collector<Text>>(
        &mut self,
        limit: usize,
        invalid: InvalidUtf8,
        out: &mut C,
        mut on_skip: impl FnMut(u64, &[u8]),
    ) {
        for _ in 0..limit {
            if self.is_empty() {
                return;
            }
            let position = self.position();
            let line = self.take_line();
            match std::str::from_utf8(&line) {
                Err(error) if invalid == InvalidUtf8::Skip => {
                    let at = error.valid_up_to();
                    on_skip(position + at as u64, &line[at..]);
                }
                _ => out.push(Text::from_utf8_lossy(line)),
            }
        }
    }

    /// The next line without its line end.
    #[inline(always)]
    fn take_line(&mut self) -> Bytes {
        let rest = &self.bytes[self.next..self.end];
        let start = self.next;
        let len = match memchr::memchr(b'\n', rest) {
            Some(len) => {
                self.next += len + 1;
                len
            }
            None => {
                self.next = self.end;
                rest.len()
            }
        };
        let len = if len > 0 && rest[len - 1] == b'\r' { len - 1 } else { len };
        Bytes::from_shared(&self.bytes, start..start + len)
    }
}
