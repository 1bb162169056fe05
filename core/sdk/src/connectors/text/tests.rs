use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use weir_dataflow::source::{NextSplit, SplitEnumerator};

use super::*;
use crate::connectors::testing::{Got, check_restores, context, drain, try_drain};

fn source(path: &Path) -> TextSource {
    TextSource::new(path.to_str().unwrap())
}

/// Lines as read by `parallelism` readers with blocks of `block` bytes.
fn read_with(source: &TextSource, parallelism: u32, block: usize) -> Result<Vec<String>, String> {
    let mut enumerator = source.create_enumerator(&context(parallelism)).map_err(|e| e.to_string())?;
    let readers = (0..parallelism).map(|_| TextReader::new(source, block)).collect();
    let lines = try_drain(&mut enumerator, readers).map_err(|e| e.to_string())?;
    Ok(lines.concat().iter().map(|line| line.to_string()).collect())
}

fn lines_of(content: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.txt");
    fs::write(&path, content).unwrap();
    read_with(&source(&path), 1, BLOCK).unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Text that does not compress well, so that cutting its compressed form cuts its content.
fn noise(lines: u64) -> Vec<u8> {
    let line = |n: u64| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..lines).map(line).collect::<String>().into_bytes()
}

#[test]
fn lines_end_with_line_feeds_and_lose_carriage_returns() {
    let check = |content: &str, expect: &[&str]| assert_eq!(lines_of(content.as_bytes()), expect, "{content:?}");
    check("", &[]);
    check("a", &["a"]);
    check("a\n", &["a"]);
    check("a\nb", &["a", "b"]);
    check("\n", &[""]);
    check("\n\na\n\n", &["", "", "a", ""]);
    check("a\r\nb\r\n", &["a", "b"]);
    check("a\rb\r\r\nc\r", &["a\rb\r", "c"]);
    check("\u{feff}a\nb\n", &["a", "b"]);
    check("\u{feff}", &[]);
    check("a\n\u{feff}b", &["a", "\u{feff}b"]);
    check("größe\n漢字\n", &["größe", "漢字"]);
}

proptest! {
    #[test]
    fn any_split_and_block_size_gives_the_lines_of_the_whole_file(
        content in "([a-zé]{0,12}(\r?\n|\r)?){0,40}",
        split in 1u64..60,
        block in 1usize..100,
        parallelism in 1u32..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.txt");
        fs::write(&path, &content).unwrap();
        let strip = |line: &str| line.strip_suffix('\r').unwrap_or(line).to_owned();
        let mut expect: Vec<String> = content.split_terminator('\n').map(strip).collect();
        let mut lines = read_with(&source(&path).split_size(split), parallelism, block).unwrap();
        if parallelism > 1 {
            lines.sort();
            expect.sort();
        }
        prop_assert_eq!(lines, expect);
    }

    #[test]
    fn reading_continues_exactly_where_a_snapshot_was_taken(
        lines in 0usize..60, taken in 1usize..70, split in 1u64..300, compressed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        let content = noise(lines as u64);
        fs::write(&path, if compressed { gzip(&content) } else { content.clone() }).unwrap();
        let source = source(&path).split_size(split);
        let mut enumerator = source.create_enumerator(&context(1)).unwrap();
        let mut got = Got::default();
        // A reader that is replaced after every `taken` lines.
        let mut reader = TextReader::new(&source, 100);
        loop {
            if reader.poll_up_to(taken, &mut got).unwrap() == ReaderStatus::NeedSplit {
                let NextSplit::Split(split) = enumerator.next_split(0).unwrap() else { break };
                reader.add_split(split).unwrap();
            }
            let mut next = TextReader::new(&source, 100);
            reader.snapshot().into_iter().for_each(|split| next.add_split(split).unwrap());
            reader = next;
        }
        let got: Vec<String> = got.0.iter().map(|line: &Text| line.to_string()).collect();
        let content = String::from_utf8(content).unwrap();
        prop_assert_eq!(got.join("\n"), content.trim_end());
    }
}

#[test]
fn a_line_longer_than_a_block_is_read_whole() {
    let long = "x".repeat(3 * BLOCK + 17);
    assert_eq!(lines_of(format!("a\n{long}\nb\n{long}").as_bytes()), ["a", &long, "b", &long]);
}

#[test]
fn compressed_files_are_recognised_by_content_and_read_in_all_their_parts() {
    let (one, two) = (noise(5000), b"the end\n".to_vec());
    let zstd = |content: &[u8]| zstd::encode_all(content, 1).unwrap();
    let mut expect: Vec<_> = String::from_utf8(one.clone()).unwrap().lines().map(str::to_owned).collect();
    expect.push("the end".to_owned());
    for parts in [[gzip(&one), gzip(&two)], [zstd(&one), zstd(&two)]] {
        assert_eq!(lines_of(&parts.concat()), expect);
    }
}

#[test]
fn truncated_and_damaged_compression_is_an_error_that_names_the_file() {
    let content = noise(50_000);
    let check = |whole: &[u8], expect_truncated: &str, expect_damaged: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.dat");
        for (content, expect) in [
            (whole[..whole.len() / 2].to_vec(), expect_truncated),
            ([&whole[..whole.len() / 2], &[0; 64], &whole[whole.len() / 2..]].concat(), expect_damaged),
            ([whole, b"garbage at the end"].concat(), expect_damaged),
        ] {
            fs::write(&path, content).unwrap();
            let error = read_with(&source(&path), 1, BLOCK).unwrap_err();
            assert!(error.contains(expect) && error.contains("in.dat"), "{error}");
        }
    };
    check(&gzip(&content), "truncated: its gzip", "damaged: its gzip");
    check(&zstd::encode_all(&*content, 1).unwrap(), "truncated: its zstd", "damaged: its zstd");
}

#[test]
fn text_that_is_not_utf8_fails_is_replaced_or_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latin.txt");
    fs::write(&path, b"one\ntwo\ngr\xf6\xdfe\nfour\n").unwrap();
    for split in [4, 1000] {
        let source = source(&path).split_size(split);
        let error = read_with(&source, 1, BLOCK).unwrap_err();
        assert!(error.contains("latin.txt: line 3, byte 10 is not UTF-8 text (found [f6, df"), "{error}");
        let replaced = read_with(&source.clone().invalid_utf8(InvalidUtf8::Replace), 1, BLOCK).unwrap();
        assert_eq!(replaced, ["one", "two", "gr\u{fffd}\u{fffd}e", "four"]);
        assert_eq!(source.skipped().get(), 0);
        let skipping = source.clone().invalid_utf8(InvalidUtf8::Skip);
        assert_eq!(read_with(&skipping, 1, BLOCK).unwrap(), ["one", "two", "four"]);
        assert_eq!(source.skipped().get(), 1);
    }
}

#[test]
fn binary_files_and_other_encodings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.bin");
    let check = |content: &[u8], expect: &str| {
        fs::write(&path, content).unwrap();
        let error = read_with(&source(&path), 1, BLOCK).unwrap_err();
        assert!(error.contains(expect) && error.contains("in.bin"), "{error}");
    };
    check(b"\x7fELF\x02\x01\0\0\0", "binary file: byte 6 is NUL");
    check(b"\x89PNG\r\n\x1a\n", "byte 0 is not UTF-8");
    check(b"\xff\xfeh\0i\0", "UTF-16");
    fs::write(&path, b"a\0b\n").unwrap();
    let source = source(&path).invalid_utf8(InvalidUtf8::Replace);
    assert_eq!(read_with(&source, 1, BLOCK).unwrap(), ["a\0b"]);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let check = |expect: &str, change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.txt");
        fs::write(&path, noise(20_000)).unwrap();
        let source = source(&path);
        let poll_then_change = |polls: usize| {
            fs::write(&path, noise(20_000)).unwrap();
            let mut enumerator = source.create_enumerator(&context(1)).unwrap();
            let mut reader = TextReader::new(&source, 1 << 10);
            let NextSplit::Split(split) = enumerator.next_split(0).unwrap() else { panic!("there is a split") };
            reader.add_split(split).unwrap();
            let mut got = Got::default();
            for _ in 0..polls {
                reader.poll(&mut got).unwrap();
            }
            change(&path);
            while reader.poll(&mut got)? == ReaderStatus::More {}
            Ok::<_, SourceError>(())
        };
        let before = poll_then_change(0).unwrap_err().to_string();
        assert!(before.contains(expect) && before.contains("in.txt"), "{before}");
        if expect == "changed" {
            let during = poll_then_change(2).unwrap_err().to_string();
            assert!(during.contains(expect) && during.contains("in.txt"), "{during}");
        }
    };
    let shrink = |path: &Path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5000).unwrap();
    let grow = |path: &Path| {
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"more\n").unwrap();
    };
    check("changed", &shrink);
    check("changed", &grow);
    check("vanished", &|path| fs::remove_file(path).unwrap());
}

#[test]
fn files_added_while_a_directory_is_read_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt"), "a\n").unwrap();
    let source = source(dir.path());
    let mut enumerator = source.create_enumerator(&context(1)).unwrap();
    fs::write(dir.path().join("b.txt"), "b\n").unwrap();
    assert_eq!(drain(&mut enumerator, vec![TextReader::new(&source, BLOCK)]), [[Text::from("a")]]);
    fs::remove_file(dir.path().join("a.txt")).unwrap();
    fs::remove_file(dir.path().join("b.txt")).unwrap();
    assert_eq!(read_with(&source, 2, BLOCK).unwrap(), Vec::<String>::new());
}

#[test]
fn blocks_are_used_again_once_their_lines_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.txt");
    fs::write(&path, noise(10_000)).unwrap();
    struct Forget;
    impl Collector<Text> for Forget {
        fn push(&mut self, _: Text) {}
    }
    let source = source(&path);
    let mut enumerator = source.create_enumerator(&context(1)).unwrap();
    let NextSplit::Split(split) = enumerator.next_split(0).unwrap() else { panic!("there is a split") };
    let mut reader = TextReader::new(&source, 1 << 10);
    reader.add_split(split).unwrap();
    while reader.poll(&mut Forget).unwrap() == ReaderStatus::More {
        assert!(reader.lines.waiting() <= 1);
    }
}

#[test]
fn a_reader_goes_on_behind_every_line_of_files_of_all_kinds() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt"), "\u{feff}first\r\n\r\nsecond\n\nthird").unwrap();
    fs::write(dir.path().join("b.gz"), gzip("one\r\ntwo\n\n\nthree\n".as_bytes())).unwrap();
    let zstd = zstd::encode_all("\u{feff}uno\n\ndos\r\ntres".as_bytes(), 1).unwrap();
    fs::write(dir.path().join("c.zst"), zstd).unwrap();
    fs::write(dir.path().join("d.txt"), noise(5)).unwrap();
    let plain = String::from_utf8(noise(5)).unwrap();
    let mut expect: Vec<Text> =
        ["first", "", "second", "", "third", "one", "two", "", "", "three", "uno", "", "dos", "tres"]
            .map(Text::from)
            .into();
    expect.extend(plain.lines().map(Text::from));
    for (split, block, lines) in [(None, BLOCK, 1), (Some(7), 4, 1), (Some(7), 50, 1), (None, BLOCK, 3)] {
        let mut source = source(dir.path());
        source.split_size = split;
        check_restores(
            |restored| source.create_enumerator(&EnumeratorContext { parallelism: 1, restored }).unwrap(),
            || TextReader::new(&source, block),
            |reader, got| reader.poll_up_to(lines, got).unwrap(),
            &expect,
        );
    }
}

/// Notes records, and which split they are of.
#[derive(Default)]
struct Noted(Vec<String>);

impl<T: ToString> Collector<T> for Noted {
    fn push(&mut self, record: T) {
        self.0.push(record.to_string());
    }
    fn enter_split(&mut self, split: u64) {
        self.0.push(format!("into {split}"));
    }
    fn leave_split(&mut self, split: u64) {
        self.0.push(format!("out of {split}"));
    }
}

#[test]
fn it_is_said_where_a_split_begins_and_ends() {
    fn check<S>(source: S, expect: &[&str])
    where
        S: Source,
        S::Item: ToString,
    {
        let mut enumerator = source.create_enumerator(&context(1)).unwrap();
        let mut reader = source.create_reader(&crate::connectors::testing::reader_context()).unwrap();
        let mut noted = Noted::default();
        while let NextSplit::Split(split) = enumerator.next_split(0).unwrap() {
            reader.add_split(split).unwrap();
            while reader.poll(&mut noted).unwrap() == ReaderStatus::More {}
        }
        assert_eq!(noted.0, expect);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "1\n2\n").unwrap();
    fs::write(dir.path().join("b"), "3\n").unwrap();
    let expect = ["into 1", "1", "2", "out of 1", "into 2", "3", "out of 2"];
    check(source(dir.path()), &expect);
    let rows = crate::connectors::CsvSource::<u32>::new(dir.path().to_str().unwrap()).headers(false);
    check(rows, &expect);
}
