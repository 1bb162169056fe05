//! Text on standard output.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Prints `text`, which ends with a line break. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints what may not be UTF-8.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output cannot be written"),
        _ => Ok(()),
    }
}

/// A number of records as people say it: `950`, `12.3 K`, `4.56 M`.
pub(crate) fn count(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.1} K", v / 1e3),
        v if v < 1e9 => format!("{:.2} M", v / 1e6),
        v => format!("{:.2} G", v / 1e9),
    }
}

/// A time in milliseconds as people say it: `350 ms`, `12.3 s`, `5 min 10 s`, `3 h 20 min`.
pub(crate) fn since(millis: i64) -> String {
    let seconds = millis / 1000;
    match millis {
        ..0 => "–".to_owned(),
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000..172_800_000 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Rows with each column as wide as its widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// `text` in lines of at most `width` characters where its words allow.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_like_people_say_them() {
        for (value, expect) in [(0.0, "0"), (12_340.0, "12.3 K"), (4_560_000.0, "4.56 M"), (2.5e9, "2.50 G")] {
            assert_eq!(count(value), expect);
        }
        for (millis, expect) in [
            (-1, "–"),
            (350, "350 ms"),
            (12_345, "12.3 s"),
            (310_000, "5 min 10 s"),
            (12_000_000, "3 h 20 min"),
            (180_000_000, "2 d 2 h"),
        ] {
            assert_eq!(since(millis), expect);
        }
    }

    #[test]
    fn columns_are_aligned_and_lines_wrapped() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["a", "b"]), row(["long", ""])]), "a     b\nlong\n");
        assert_eq!(wrap("one  two three\nfour", 8), "one two\nthree\nfour");
        assert_eq!(wrap("", 8), "");
    }
}
