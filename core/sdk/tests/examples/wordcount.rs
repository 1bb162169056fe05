//! `wordcount` against a loop over the text.

use std::collections::BTreeMap;

use crate::run::{data, example, rows, unpacked};

const BOOK: &str = "opticks.txt.gz";

fn counted(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// `word count` lines, behind the number of the subtask if there are several.
fn printed(lines: &[&str]) -> BTreeMap<String, u64> {
    let pairs = lines.iter().map(|line| {
        let mut words = line.rsplit(' ');
        let count = words.next().unwrap().parse().unwrap();
        (words.next().unwrap().to_owned(), count)
    });
    let counts: BTreeMap<String, u64> = pairs.collect();
    assert_eq!(counts.len(), lines.len(), "a word was printed twice");
    counts
}

#[test]
fn the_words_of_a_book_are_counted() {
    let expected = counted(&unpacked(BOOK));
    assert_eq!(expected.values().sum::<u64>(), 100_801);
    for runtime in [&["-p", "1"] as &[&str], &["-p", "3"], &["-p", "2", "--workers", "2"]] {
        let ran = example("wordcount", &[&["--input", &data(BOOK)], runtime].concat());
        assert_eq!(printed(&ran.lines()), expected, "{runtime:?}");
    }
}

#[test]
fn a_folder_of_plain_and_packed_files_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let text = unpacked(BOOK);
    std::fs::copy(data(BOOK), folder.path().join("a.txt.gz")).unwrap();
    std::fs::write(folder.path().join("b.txt"), &text).unwrap();
    let mut expected = counted(&text);
    expected.values_mut().for_each(|count| *count *= 2);
    let ran = example("wordcount", &["--input", folder.path().to_str().unwrap(), "-p", "2"]);
    assert_eq!(printed(&ran.lines()), expected);
}

#[test]
fn counts_are_written_once_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("counts");
    let (book, directory) = (data(BOOK), to.to_str().unwrap());
    let arguments = ["--input", &book, "--to", directory, "-p", "2", "--workers", "2"];

    let ran = example("wordcount", &arguments);
    assert_eq!(ran.lines(), [""; 0]);
    let written = rows(&to, false);
    let counts: BTreeMap<String, u64> =
        written.iter().map(|row| (row[0].to_owned(), row[1].parse().unwrap())).collect();
    assert_eq!(counts, counted(&unpacked(BOOK)));
    assert_eq!(written.len(), counts.len());

    let again = example("wordcount", &arguments);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
    assert_eq!(rows(&to, false), written);
}

#[test]
fn wrong_usage_is_told_from_a_failed_job() {
    let ran = example("wordcount", &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--input"), "{}", ran.stderr);
    let ran = example("wordcount", &["--input", "/no/such/file"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("/no/such/file"), "{}", ran.stderr);
    let ran = example("wordcount", &["--help"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("--to") && ran.stdout.contains("--parallelism"), "{}", ran.stdout);
}
