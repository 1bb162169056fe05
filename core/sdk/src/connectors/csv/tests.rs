use std::fs;
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use weir_dataflow::record::Text;
use weir_dataflow::source::{NextSplit, SplitEnumerator};

use super::*;
use crate::connectors::testing::{Got, check_restores, context, try_drain};

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Flight {
    carrier: Text,
    delay: Option<i32>,
}

fn flight(carrier: &str, delay: impl Into<Option<i32>>) -> Flight {
    Flight { carrier: carrier.into(), delay: delay.into() }
}

fn read<T: DeserializeOwned + Send + 'static>(source: &CsvSource<T>, parallelism: u32) -> Result<Vec<T>, String> {
    let mut enumerator = source.create_enumerator(&context(parallelism)).map_err(|e| e.to_string())?;
    let readers = (0..parallelism).map(|_| CsvReader::new(source)).collect();
    let parts = try_drain(&mut enumerator, readers).map_err(|e| e.to_string())?;
    Ok(parts.into_iter().flatten().collect())
}

/// Reads `content` from a file of its own.
fn rows_of<T: DeserializeOwned + Send + 'static>(
    content: impl AsRef<[u8]>,
    options: impl FnOnce(CsvSource<T>) -> CsvSource<T>,
) -> Result<Vec<T>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.csv");
    fs::write(&path, content).unwrap();
    read(&options(source(&path)), 1)
}

fn source<T>(path: &Path) -> CsvSource<T> {
    CsvSource::new(path.to_str().unwrap())
}

#[test]
fn columns_are_found_by_name_and_null_words_are_none() {
    let rows = rows_of::<Flight>("year,delay,carrier\n2013,5,UA\n2013,NA,\"A,A\"\r\n\n2013,,NAX\n", |s| {
        s.null_values(["NA", "-"])
    });
    assert_eq!(rows.unwrap(), [flight("UA", 5), flight("A,A", None), flight("NAX", None)]);
}

#[test]
fn every_option_of_the_dialect_is_used() {
    let check = |content: &str, options: fn(CsvSource<Flight>) -> CsvSource<Flight>| {
        assert_eq!(rows_of(content, options).unwrap(), [flight("UA", 5), flight("A\nA", -1)], "{content}");
    };
    check("\u{feff}carrier,delay\nUA,5\n\"A\nA\",-1", |s| s);
    check("UA,5\n\"A\nA\",-1\n", |s| s.headers(false));
    check("carrier;delay\nUA;5\n'A\nA';-1\n", |s| s.delimiter(b';').quote(Some(b'\'')));
    check("# note\ncarrier,delay\nUA,5\n# note\n\"A\nA\",-1\n", |s| s.comment(b'#'));
    check(" carrier , delay\n UA, 5 \n\"A\nA\", -1\n", |s| s.trim(true));
    let unquoted = rows_of("\"UA\",5\n", |s: CsvSource<Flight>| s.headers(false).quote(None)).unwrap();
    assert_eq!(unquoted, [flight("\"UA\"", 5)]);
    for empty in ["", "carrier,delay\n", "\n\n"] {
        assert_eq!(rows_of::<Flight>(empty, |s| s).unwrap(), [], "{empty:?}");
    }
}

#[test]
fn a_bad_row_names_file_line_column_value_and_expectation() {
    let check = |content: &[u8], expect: &str| {
        let error = rows_of::<Flight>(content, |s| s).unwrap_err();
        assert!(error.contains("in.csv") && error.contains(expect) && error.contains("BadRows::Skip"), "{error}");
    };
    check(
        b"carrier,delay\nUA,5\nAA,late\n",
        r#"line 3, column 2 "delay": found "late", expected a whole number (invalid digit"#,
    );
    check(b"carrier,delay\n\"U\nA\",5\nAA,1.5\n", r#"line 4, column 2 "delay": found "1.5""#);
    check(b"carrier,delay\nUA,5,6\n", "line 2: found 3 columns, expected 2");
    check(b"carrier,delay\nUA\n", "line 2: found 1 columns, expected 2");
    check(b"company,delay\nUA,5\n", r#"line 2: missing field `carrier`; its columns are "company", "delay""#);
    check(b"carrier,delay\n\xff\xfe,5\n", r#"line 2, column 1 "carrier": found "#);
    check(b"carrier,delay\r\nUA,5\r\n\r\nAA,late\r\n", "line 4, column 2");
    let error = rows_of::<Flight>("# a\ncarrier,delay\n# b\n\n# c\nA#,x\n", |s| s.comment(b'#')).unwrap_err();
    assert!(error.contains("line 6, column 2"), "{error}");
    let error = rows_of::<(Text, i32)>("UA,5\nAA,\n", |s| s.headers(false)).unwrap_err();
    assert!(error.contains(r#"line 2, column 2: found "", expected a whole number"#), "{error}");
    let error = rows_of::<(Text, bool)>("UA,yes\n", |s| s.headers(false)).unwrap_err();
    assert!(error.contains(r#"found "yes", expected true or false"#), "{error}");
}

#[test]
fn bad_rows_can_be_skipped_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.csv");
    fs::write(&path, "carrier,delay\nUA,5\nAA,late\nB6\nDL,1,2\nEV,7\n").unwrap();
    let source = source(&path).bad_rows(BadRows::Skip);
    assert_eq!(read::<Flight>(&source, 1).unwrap(), [flight("UA", 5), flight("EV", 7)]);
    assert_eq!(source.skipped().get(), 3);
}

#[test]
fn without_headers_a_bad_first_row_does_not_decide_the_number_of_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.csv");
    fs::write(&path, "UA\nAA,5\nDL,6\n").unwrap();
    let source = source(&path).headers(false).bad_rows(BadRows::Skip);
    assert_eq!(read::<(Text, i32)>(&source, 1).unwrap(), [("AA".into(), 5), ("DL".into(), 6)]);
    assert_eq!(source.skipped().get(), 1);
}

#[test]
fn the_line_of_a_bad_row_is_right_in_every_range_and_after_empty_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.csv");
    let mut content = "n\n".to_owned();
    (0..100).for_each(|n| content.push_str(&format!("{n}\n")));
    content.push_str("\n\nbad\n");
    fs::write(&path, content).unwrap();
    for size in [10, 64, 10_000] {
        let source = source::<(u32,)>(&path).quoted_newlines(false).split_size(size);
        let error = read(&source, 1).unwrap_err();
        assert!(error.contains("line 104, column 1 \"n\": found \"bad\""), "{error}");
    }
}

#[test]
fn compressed_rows_are_read_and_damage_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.csv.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"carrier,delay\nUA,5\n").unwrap();
    let whole = encoder.finish().unwrap();
    fs::write(&path, &whole).unwrap();
    assert_eq!(read::<Flight>(&source(&path), 1).unwrap(), [flight("UA", 5)]);
    fs::write(&path, &whole[..whole.len() - 6]).unwrap();
    let error = read::<Flight>(&source(&path), 1).unwrap_err();
    assert!(error.contains("in.csv.gz is truncated"), "{error}");
}

proptest! {
    #[test]
    fn any_range_size_and_any_restart_gives_every_row_once(
        rows in 0u32..60, size in 1u64..200, taken in 1usize..20, cut: bool, headers: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.csv");
        let mut content = if headers { "n,text\n".to_owned() } else { String::new() };
        for n in 0..rows {
            content.push_str(&format!("{n},\"t{}{n}\"\n", if cut { " " } else { "\n" }));
        }
        fs::write(&path, content).unwrap();
        let source = source::<(u32, String)>(&path).headers(headers).quoted_newlines(!cut).split_size(size);
        let mut enumerator = source.create_enumerator(&context(1)).unwrap();
        let mut got = Got::default();
        // A reader that is replaced after every `taken` rows.
        let mut reader = CsvReader::new(&source);
        loop {
            if reader.poll_up_to(taken, &mut got).unwrap() == ReaderStatus::NeedSplit {
                let NextSplit::Split(split) = enumerator.next_split(0).unwrap() else { break };
                reader.add_split(split).unwrap();
            }
            let mut next = CsvReader::new(&source);
            for split in reader.snapshot() {
                next.add_split(split).unwrap();
            }
            reader = next;
        }
        let numbers: Vec<u32> = got.0.iter().map(|(n, _)| *n).collect();
        prop_assert_eq!(numbers, (0..rows).collect::<Vec<_>>());
    }
}

#[test]
fn a_reader_goes_on_behind_every_row_of_files_of_all_kinds() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), "carrier,delay\r\nUA,1\r\n\r\n\"A\r\n\"\"A\",2\r\n# note\r\nNA,\r\n").unwrap();
    fs::write(dir.path().join("b.csv"), "delay,carrier\n\n4,\"x,y\"\n5,z").unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"carrier,delay\nUA,6\nAA,7\n").unwrap();
    fs::write(dir.path().join("c.gz"), encoder.finish().unwrap()).unwrap();
    fs::write(dir.path().join("d.zst"), zstd::encode_all("carrier,delay\nUA,8\n".as_bytes(), 1).unwrap()).unwrap();
    let rows = [("UA", 1), ("A\r\n\"A", 2), ("NA", 0), ("x,y", 4), ("z", 5), ("UA", 6), ("AA", 7), ("UA", 8)];
    let expect = rows.map(|(carrier, delay)| flight(carrier, Some(delay).filter(|delay| *delay > 0)));
    for limit in [1, 2] {
        let source = source::<Flight>(dir.path()).comment(b'#');
        check_restores(
            |restored| source.create_enumerator(&EnumeratorContext { parallelism: 1, restored }).unwrap(),
            || CsvReader::new(&source),
            |reader, got| reader.poll_up_to(limit, got).unwrap(),
            &expect,
        );
    }
}

#[test]
fn a_reader_of_ranges_goes_on_behind_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.csv");
    let rows: String = (1..10).map(|n| format!("carrier {n},{n}{}", if n % 3 == 0 { "\r\n" } else { "\n" })).collect();
    fs::write(&path, format!("carrier,delay\r\n{rows}")).unwrap();
    let expect: Vec<_> = (1..10).map(|n| flight(&format!("carrier {n}"), n)).collect();
    for split_size in [1, 11, 12, 13, 40] {
        let source = source::<Flight>(&path).quoted_newlines(false).split_size(split_size);
        check_restores(
            |restored| source.create_enumerator(&EnumeratorContext { parallelism: 1, restored }).unwrap(),
            || CsvReader::new(&source),
            |reader, got| reader.poll_up_to(1, got).unwrap(),
            &expect,
        );
    }
}
