//! The end of a process's output, kept for the report of its death.

use std::collections::VecDeque;

/// The last lines of a stream of bytes, bounded in number and in bytes.
///
/// Takes bytes as they come from a pipe: in pieces, not necessarily of UTF-8, with or without line ends.
#[derive(Debug, Clone)]
pub struct LastLines {
    max_lines: usize,
    max_bytes: usize,
    /// Complete lines, oldest first, without their ends.
    lines: VecDeque<Vec<u8>>,
    /// Bytes in `lines`.
    bytes: usize,
    /// The line that has no end yet.
    open: Vec<u8>,
    /// Bytes of the open line that found no room.
    cut: usize,
}

impl LastLines {
    /// An empty one that keeps at most `max_lines` lines and `max_bytes` bytes. Of a line longer than half of `max_bytes` the
    /// beginning is kept, because that is where an error says what it is.
    pub fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self { max_lines, max_bytes, lines: VecDeque::new(), bytes: 0, open: Vec::new(), cut: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.extend_open(end);
                    self.close_line();
                }
                None => self.extend_open(piece),
            }
        }
    }

    /// Whether there was no output.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.open.is_empty()
    }

    /// The lines, oldest first, fit for people: invalid UTF-8 is replaced, terminal control sequences are left out.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let open = (!self.open.is_empty()).then(|| self.open_line());
        self.lines.iter().cloned().chain(open).map(|line| readable(&line))
    }

    fn extend_open(&mut self, bytes: &[u8]) {
        let room = (self.max_bytes / 2).saturating_sub(self.open.len());
        let (kept, cut) = bytes.split_at(room.min(bytes.len()));
        self.open.extend_from_slice(kept);
        self.cut += cut.len();
        self.drop_oldest();
    }

    fn open_line(&self) -> Vec<u8> {
        let mut line = self.open.clone();
        if self.cut > 0 {
            line.extend_from_slice(format!("… ({} more bytes)", self.cut).as_bytes());
        }
        line
    }

    fn close_line(&mut self) {
        let line = self.open_line();
        self.open.clear();
        self.cut = 0;
        self.bytes += line.len();
        self.lines.push_back(line);
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        let open_lines = usize::from(!self.open.is_empty());
        while self.lines.len() + open_lines > self.max_lines || self.bytes + self.open.len() > self.max_bytes {
            match self.lines.pop_front() {
                Some(line) => self.bytes -= line.len(),
                None => break,
            }
        }
    }
}

/// The lines joined by line ends, without one at the end.
impl std::fmt::Display for LastLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

/// Leaves out colours and other escape sequences, so that a job cannot draw on the terminal of whoever reads the report.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.trim_end_matches('\r').chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // Parameters, up to the letter that ends the sequence.
                while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                rest.next();
            }
            '\t' => clean.push('\t'),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(max_lines: usize, max_bytes: usize, pieces: &[&[u8]], expect: &[&str]) {
        let mut last = LastLines::new(max_lines, max_bytes);
        for piece in pieces {
            last.push(piece);
            assert!(last.bytes + last.open.len() <= max_bytes, "{} + {} bytes", last.bytes, last.open.len());
        }
        assert_eq!(last.lines().collect::<Vec<_>>(), expect);
        assert_eq!(last.to_string(), expect.join("\n"));
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        check(10, 1000, &[b"a", b"b\nc", b"\n", b"\nd"], &["ab", "c", "", "d"]);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        check(2, 1000, &[b"1\n2\n3\n4\n"], &["3", "4"]);
        check(2, 1000, &[b"1\n2\n3\nopen"], &["3", "open"]);
        check(9, 20, &[b"123456\n123456\n123456\nabcdef\n"], &["123456", "123456", "abcdef"]);
    }

    #[test]
    fn a_line_without_end_stays_bounded_and_says_how_much_is_missing() {
        let mut last = LastLines::new(10, 100);
        for _ in 0..1000 {
            last.push(&[b'x'; 100]);
        }
        assert_eq!(last.to_string(), format!("{}… (99950 more bytes)", "x".repeat(50)));
        last.push(b"\nthe end\n");
        assert_eq!(last.lines().last().as_deref(), Some("the end"));
    }

    #[test]
    fn output_of_any_bytes_becomes_plain_text() {
        check(9, 1000, &[b"\x1b[1;31merror\x1b[0m: \xff\x07 done\r\n"], &["error: \u{fffd} done"]);
        check(9, 1000, &[b"cut off \x1b["], &["cut off "]);
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        check(0, 0, &[b"a\nb\n"], &[]);
        assert!(LastLines::new(5, 5).is_empty());
    }
}
