//! What is wrong with a row, in words.

use std::io::{BufReader, Read};

use csv::{ByteRecord, DeserializeError, DeserializeErrorKind};

use crate::connectors::files::{FileSplit, line_of};

/// Characters of a value shown in a message.
const SHOWN: usize = 60;

/// A row of the wrong shape.
pub(super) struct BadRow {
    /// Where the row begins in the file's content.
    pub(super) offset: u64,
    pub(super) problem: Problem,
}

pub(super) enum Problem {
    /// The row has more or fewer columns than it should.
    Columns { found: usize, expected: usize },
    /// A field is not what the type takes.
    Field { column: String, found: String, expected: String },
    /// The row as a whole is not what the type takes.
    Other(String),
}

impl Problem {
    pub(super) fn field(error: &DeserializeError, row: &ByteRecord, names: Option<&ByteRecord>) -> Problem {
        let Some(index) = error.field().map(|index| index as usize) else {
            let columns = names.map(|names| format!("; its columns are {}", list(names))).unwrap_or_default();
            return Problem::Other(format!("{}{columns}", error.kind()));
        };
        let found = row.get(index).map_or("nothing".to_owned(), show);
        let column = match names.and_then(|names| names.get(index)) {
            Some(name) => format!("column {} {}", index + 1, show(name)),
            None => format!("column {}", index + 1),
        };
        let expected = match error.kind() {
            DeserializeErrorKind::ParseBool(_) => "true or false".to_owned(),
            DeserializeErrorKind::ParseInt(reason) => format!("a whole number ({reason})"),
            DeserializeErrorKind::ParseFloat(reason) => format!("a number ({reason})"),
            DeserializeErrorKind::InvalidUtf8(reason) => format!("text in UTF-8 ({reason})"),
            DeserializeErrorKind::UnexpectedEndOfRow => "a value".to_owned(),
            DeserializeErrorKind::Message(reason) => format!("a value of the row's type ({reason})"),
            DeserializeErrorKind::Unsupported(reason) => format!("a value of a type that a field can have ({reason})"),
        };
        Problem::Field { column, found, expected }
    }
}

impl BadRow {
    /// The problem with its place. The number of the line is counted again from the start of the file.
    pub(super) fn describe(&self, split: &FileSplit, comment: Option<u8>) -> String {
        let place = match line_of_row(split, self.offset, comment) {
            Some(line) => format!("{}: line {line}", split.path().display()),
            None => format!("{}: the row at byte {}", split.path().display(), self.offset),
        };
        match &self.problem {
            Problem::Columns { found, expected } => format!("{place}: found {found} columns, expected {expected}"),
            Problem::Field { column, found, expected } => {
                format!("{place}, {column}: found {found}, expected {expected}")
            }
            Problem::Other(reason) => format!("{place}: {reason}"),
        }
    }
}

/// The line of the row whose position is `offset`: the position of a row is before the empty lines and comments that
/// precede it, and before the second half of a `\r\n`.
fn line_of_row(split: &FileSplit, offset: u64, comment: Option<u8>) -> Option<u64> {
    let (mut line, rest) = line_of(split, offset)?;
    let mut in_comment = false;
    for byte in BufReader::new(rest).bytes() {
        match byte.ok()? {
            b'\n' => {
                line += 1;
                in_comment = false;
            }
            b'\r' => {}
            byte if Some(byte) == comment => in_comment = true,
            _ if in_comment => {}
            _ => break,
        }
    }
    Some(line)
}

fn show(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn list(names: &ByteRecord) -> String {
    names.iter().map(show).collect::<Vec<_>>().join(", ")
}
