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

/// A size as people say it: `950 B`, `12.3 KiB`, `4.56 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    let scaled = value as f64;
    match value {
        ..0x400 => format!("{value} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", scaled / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.2} MiB", scaled / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", scaled / f64::from(1 << 30)),
    }
}

/// A moment, in milliseconds since 1970-01-01 UTC: `2026-11-23 20:17:55 UTC`.
pub(crate) fn utc(millis: i64) -> String {
    let seconds = millis.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have the leap day at their end; 400 of them have 146 097 days.
    let day = days + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
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
    fn sizes_and_moments_read_like_people_say_them() {
        for (value, expect) in [(0, "0 B"), (1536, "1.5 KiB"), (3 << 20, "3.00 MiB"), (5 << 30, "5.00 GiB")] {
            assert_eq!(bytes(value), expect);
        }
        for (millis, expect) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (951_782_399_000, "2000-02-28 23:59:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_795_465_075_999, "2026-11-23 20:17:55 UTC"),
        ] {
            assert_eq!(utc(millis), expect);
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
