use std::fs;
use std::path::Path;

use serde::Serialize;
use weir_dataflow::sink::SinkWriter;

use super::rows::PartFile;
use super::*;

mod checkpoints;

const RUN: &str = "run-1";

/// A run of a sink with two subtasks.
struct Run<F> {
    sink: FileSink<F>,
    committer: Box<dyn Committer>,
    committables: Vec<Vec<u8>>,
}

impl<F> Run<F> {
    fn start<T: 'static>(sink: &FileSink<F>, run_id: &str) -> Result<Self, String>
    where
        F: RowFormat<T>,
    {
        let context = CommitterContext { run_id: run_id.to_owned(), restored: false };
        let committer = sink.create_committer(&context).map_err(|e| e.to_string())?.unwrap();
        Ok(Run { sink: sink.clone(), committer, committables: Vec::new() })
    }

    fn write<T: 'static>(&mut self, subtask: u32, records: impl IntoIterator<Item = T>) -> Result<(), String>
    where
        F: RowFormat<T>,
    {
        let payloads = self.attempt(subtask, 0, records)?;
        self.committables.extend(payloads);
        Ok(())
    }

    /// What an attempt at a subtask wants committed.
    fn attempt<T: 'static>(
        &mut self,
        subtask: u32,
        attempt: u32,
        records: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Vec<u8>>, String>
    where
        F: RowFormat<T>,
    {
        let context = WriterContext {
            subtask,
            parallelism: 2,
            run_id: RUN.to_owned(),
            attempt,
            metrics: weir_dataflow::metrics::OperatorMetrics::detached(),
        };
        let mut writer = self.sink.create_writer(&context).map_err(|e| e.to_string())?;
        for record in records {
            writer.write(record).map_err(|e| e.to_string())?;
        }
        writer.prepare_commit().map_err(|e| e.to_string())
    }

    fn commit(&mut self) -> Result<(), String> {
        self.committer.commit(self.committables.clone()).map_err(|e| e.to_string())
    }
}

fn start(sink: &FileSink<TextRows>) -> Result<Run<TextRows>, String> {
    Run::start::<&str>(sink, RUN)
}

/// Names and contents of a directory.
fn files(directory: &Path, hidden: bool) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name.starts_with('.') == hidden)
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|&(name, content)| (name.to_owned(), content.to_owned())).collect()
}

#[test]
fn files_appear_only_at_the_commit_and_nothing_hidden_stays() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("made/for/it");
    let mut run = start(&FileSink::text(&out)).unwrap();
    run.write(0, ["to", "be"]).unwrap();
    run.write(1, ["or"]).unwrap();
    assert_eq!(files(&out, false), []);
    run.commit().unwrap();
    drop(run);
    assert_eq!(files(&out, false), pairs(&[("part-0-0.txt", "to\nbe\n"), ("part-1-0.txt", "or\n")]));
    assert_eq!(files(&out, true), []);
}

#[test]
fn csv_files_have_a_header_unless_told_otherwise() {
    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        delay: Option<f64>,
    }
    let rows = || [Row { name: "a,b", delay: Some(1.5) }, Row { name: "c", delay: None }];
    let check = |sink: fn(&Path) -> FileSink<CsvRows>, expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run::start::<Row>(&sink(dir.path()), RUN).unwrap();
        run.write(0, rows()).unwrap();
        run.write(1, Vec::<Row>::new()).unwrap();
        run.commit().unwrap();
        assert_eq!(files(dir.path(), false), pairs(&[("part-0-0.csv", expect)]));
    };
    check(|dir| FileSink::csv(dir), "name,delay\n\"a,b\",1.5\nc,\n");
    check(|dir| FileSink::csv(dir).headers(false).delimiter(b';'), "a,b;1.5\nc;\n");
}

#[test]
fn a_record_without_a_form_as_a_row_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start::<std::collections::BTreeMap<u32, u32>>(&FileSink::csv(dir.path()), RUN).unwrap();
    let error = run.write(0, [std::collections::BTreeMap::from([(1, 2)])]).unwrap_err();
    assert!(error.contains("part-0-0.csv") && error.contains("cannot be written"), "{error}");
}

#[test]
fn large_output_is_rolled_and_a_commit_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let line = "x".repeat(1000);
    let mut run = start(&FileSink::text(dir.path()).roll_at(100_000)).unwrap();
    run.write(0, (0..300).map(|_| line.clone())).unwrap();
    run.commit().unwrap();
    run.commit().unwrap();
    let files = files(dir.path(), false);
    assert!(files.len() > 1, "{}", files.len());
    assert_eq!(files.iter().map(|(_, content)| content.lines().count()).sum::<usize>(), 300);
    assert_eq!(files[1].0, "part-0-1.txt");
}

#[test]
fn an_aborted_run_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(&FileSink::text(dir.path().join("made/for/it"))).unwrap();
    run.write(0, ["to", "be"]).unwrap();
    run.committer.abort();
    assert_eq!(files(dir.path(), false), []);
    let error = run.write(1, ["late"]).unwrap_err();
    assert!(error.contains("not there"), "{error}");
    drop(run);
    assert_eq!(files(dir.path(), false), []);
}

#[test]
fn existing_output_is_refused_unless_it_may_be_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let old = [("notes.md", "keep"), ("part-0-0.txt", "old"), ("part-7-0.txt", "old")];
    for (name, content) in old {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let sink = FileSink::text(dir.path());
    let error = start(&sink).map(drop).unwrap_err();
    assert!(error.contains("3 files") && error.contains("overwrite(true)"), "{error}");

    let sink = sink.overwrite(true);
    let mut run = start(&sink).unwrap();
    run.write(0, ["new"]).unwrap();
    run.committer.abort();
    drop(run);
    assert_eq!(files(dir.path(), false), pairs(&old));

    let mut run = start(&sink).unwrap();
    run.write(0, ["new"]).unwrap();
    run.commit().unwrap();
    drop(run);
    assert_eq!(files(dir.path(), false), pairs(&[old[0], ("part-0-0.txt", "new\n")]));
    assert_eq!(files(dir.path(), true), []);
}

#[test]
fn a_commit_that_cannot_complete_puts_the_old_output_back() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("part-0-0.txt"), "old").unwrap();
    let mut run = start(&FileSink::text(dir.path()).overwrite(true)).unwrap();
    run.write(0, ["new"]).unwrap();
    run.write(1, ["new"]).unwrap();
    fs::write(dir.path().join("part-1-0.txt"), "somebody else's").unwrap();
    let error = run.commit().unwrap_err();
    assert!(error.contains("part-1-0.txt appeared"), "{error}");
    run.committer.abort();
    drop(run);
    assert_eq!(files(dir.path(), false), pairs(&[("part-0-0.txt", "old"), ("part-1-0.txt", "somebody else's")]));
}

#[test]
fn two_writers_at_once_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::text(dir.path());
    let first = start(&sink).unwrap();
    let error = Run::start::<&str>(&sink, "run-2").map(drop).unwrap_err();
    assert!(error.contains("is being written to by another job"), "{error}");
    drop(first);
    start(&sink).unwrap();
}

#[test]
fn leftovers_of_a_killed_run_are_removed_and_what_it_was_replacing_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let killed = dir.path().join(".weir-killed");
    fs::create_dir_all(killed.join("replaced")).unwrap();
    fs::write(killed.join("part-0-0.txt"), "never finished").unwrap();
    fs::write(killed.join("replaced/part-3-0.txt"), "old").unwrap();
    fs::write(dir.path().join(".weir-lock"), "").unwrap();
    let sink = FileSink::text(dir.path());
    let error = start(&sink).map(drop).unwrap_err();
    assert!(error.contains("part-3-0.txt"), "{error}");
    assert_eq!(files(dir.path(), true), []);
    assert_eq!(files(dir.path(), false), pairs(&[("part-3-0.txt", "old")]));
}

#[test]
fn a_commit_that_was_interrupted_is_taken_back_and_one_that_was_complete_is_not() {
    let check = |list: &str, expect: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let killed = dir.path().join(".weir-killed");
        fs::create_dir_all(killed.join("replaced")).unwrap();
        fs::write(killed.join("part-1-0.txt.0"), "not yet published").unwrap();
        fs::write(killed.join("replaced/part-0-0.txt"), "old").unwrap();
        fs::write(killed.join("replaced/part-3-0.txt"), "old").unwrap();
        fs::write(killed.join(list), "part-0-0.txt.0\npart-1-0.txt.0\n").unwrap();
        fs::write(dir.path().join("part-0-0.txt"), "new").unwrap();
        start(&FileSink::text(dir.path())).map(drop).unwrap_err();
        assert_eq!(files(dir.path(), true), []);
        assert_eq!(files(dir.path(), false), pairs(expect), "{list}");
    };
    check("publishing", &[("part-0-0.txt", "old"), ("part-3-0.txt", "old")]);
    check("published", &[("part-0-0.txt", "new")]);
}

#[test]
fn a_commit_of_nothing_replaces_the_old_output() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("part-0-0.txt"), "old").unwrap();
    let mut run = start(&FileSink::text(dir.path()).overwrite(true)).unwrap();
    run.commit().unwrap();
    drop(run);
    assert_eq!((files(dir.path(), false), files(dir.path(), true)), (vec![], vec![]));
}

#[test]
fn lost_and_foreign_files_fail_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(&FileSink::text(dir.path())).unwrap();
    run.write(0, ["a"]).unwrap();
    fs::remove_file(dir.path().join(".weir-run-1/part-0-0.txt.0")).unwrap();
    assert!(run.commit().unwrap_err().contains("was removed"));
    for (name, of) in [("../part-0-0.txt", RUN), ("part-0-0.txt/../../x", RUN), ("x", RUN), ("part-0-0.txt", "../x")] {
        let output = dir.path().to_owned();
        let part = part::Part { output, run: of.to_owned(), name: name.to_owned(), attempt: 0, len: 1 };
        run.committables = vec![part.to_bytes()];
        assert!(run.commit().unwrap_err().contains("not a part file"), "{name}");
    }
    run.committables = vec![vec![2, 2]];
    assert!(run.commit().unwrap_err().contains("not a part file"));
}

#[test]
fn output_that_cannot_be_written_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let check = |path: &Path, expect: &str| {
        let error = start(&FileSink::text(path)).map(drop).unwrap_err();
        assert!(error.contains(expect) && error.contains(path.to_str().unwrap()), "{error}");
    };
    check(&file, "is not a directory");
    check(&file.join("below"), "a part of the path is a file");
    // The kernel's own file systems are read-only for everybody, the superuser included.
    check(Path::new("/proc/weir-output"), "cannot be created");
    check(Path::new("/proc"), "cannot be");
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(&FileSink::text(dir.path())).unwrap();
    let context = WriterContext {
        subtask: 0,
        parallelism: 1,
        run_id: RUN.to_owned(),
        attempt: 0,
        metrics: weir_dataflow::metrics::OperatorMetrics::detached(),
    };
    let mut writer: FileWriter<String, TextRows> = run.sink.create_writer(&context).unwrap();
    writer.write("first".to_owned()).unwrap();
    writer.swap_file(PartFile::new(fs::OpenOptions::new().write(true).open("/dev/full").unwrap()));
    let error = writer.write("x".repeat(100_000)).unwrap_err().to_string();
    assert!(error.contains("part-0-0.txt") && error.contains("free some space"), "{error}");
    let error = {
        writer.swap_file(PartFile::new(fs::OpenOptions::new().write(true).open("/dev/full").unwrap()));
        writer.write("short".to_owned()).unwrap();
        writer.prepare_commit().unwrap_err().to_string()
    };
    assert!(error.contains("part-0-0.txt") && error.contains("free some space"), "{error}");
    run.committer.abort();
}

#[test]
fn an_attempt_that_was_given_up_neither_disturbs_a_newer_one_nor_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(&FileSink::text(dir.path())).unwrap();
    let context = WriterContext {
        subtask: 0,
        parallelism: 1,
        run_id: RUN.to_owned(),
        attempt: 0,
        metrics: weir_dataflow::metrics::OperatorMetrics::detached(),
    };
    let mut zombie: FileWriter<&str, TextRows> = run.sink.create_writer(&context).unwrap();
    zombie.write("zombie").unwrap();
    let newer = run.attempt(0, 1, ["good"]).unwrap();
    zombie.write("zombie").unwrap();
    zombie.prepare_commit().unwrap();
    run.committer.commit(newer).unwrap();
    drop(run);
    let [(name, content)] = files(dir.path(), false).try_into().unwrap();
    assert!(name.starts_with("part-0-0-") && content == "good\n", "{name}: {content}");
    assert_eq!(files(dir.path(), true), []);
}
