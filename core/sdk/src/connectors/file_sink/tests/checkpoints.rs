//! Commits by checkpoint, and by those who go on from one.

use super::super::part::Part;
use super::super::staging::{Staging, Step};
use super::*;

type Writer = FileWriter<String, TextRows>;

fn committer(sink: &FileSink<TextRows>, run_id: &str, restored: bool) -> Result<Box<dyn Committer>, String> {
    let context = CommitterContext { run_id: run_id.to_owned(), restored };
    let committer = Sink::<String>::create_committer(sink, &context).map_err(|error| error.to_string())?;
    Ok(committer.unwrap())
}

fn writer(sink: &FileSink<TextRows>, run_id: &str, subtask: u32, attempt: u32) -> Writer {
    let context = WriterContext {
        subtask,
        parallelism: 2,
        run_id: run_id.to_owned(),
        attempt,
        metrics: weir_dataflow::metrics::OperatorMetrics::detached(),
    };
    sink.create_writer(&context).unwrap()
}

fn prepare(writer: &mut Writer, lines: &[&str]) -> Vec<Vec<u8>> {
    lines.iter().for_each(|line| writer.write((*line).to_owned()).unwrap());
    writer.prepare_commit().unwrap()
}

/// All visible lines, sorted.
fn lines(directory: &Path) -> Vec<String> {
    let files = files(directory, false);
    let mut lines: Vec<_> = files.iter().flat_map(|(_, content)| content.lines().map(str::to_owned)).collect();
    lines.sort();
    lines
}

/// As a process that is killed leaves it.
fn kill(committer: Box<dyn Committer>, directory: &Path) {
    std::mem::forget(committer);
    // The system releases the lock of a process that is gone; this one still holds it, on a file that is gone.
    fs::remove_file(directory.join(".weir-lock")).unwrap();
}

#[test]
fn each_checkpoint_makes_visible_what_was_written_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::text(dir.path());
    let mut commits = committer(&sink, RUN, false).unwrap();
    let mut writer = writer(&sink, RUN, 0, 0);
    let first = prepare(&mut writer, &["a", "b"]);
    assert_eq!(prepare(&mut writer, &[]), Vec::<Vec<u8>>::new(), "no empty files");
    let second = prepare(&mut writer, &["c"]);
    assert_eq!(lines(dir.path()), [""; 0]);
    commits.commit(first.clone()).unwrap();
    assert_eq!(lines(dir.path()), ["a", "b"]);
    let third = prepare(&mut writer, &["d"]);
    commits.commit(second).unwrap();
    commits.commit(first).unwrap();
    assert_eq!(lines(dir.path()), ["a", "b", "c"]);
    commits.commit(third).unwrap();
    writer.write("never prepared".to_owned()).unwrap();
    drop(commits);
    assert_eq!(files(dir.path(), true), []);
    let expect = [("part-0-0.txt", "a\nb\n"), ("part-0-1.txt", "c\n"), ("part-0-2.txt", "d\n")];
    assert_eq!(files(dir.path(), false), pairs(&expect));
}

#[test]
fn an_aborted_job_keeps_what_its_checkpoints_have_made_visible() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::text(dir.path());
    let mut commits = committer(&sink, RUN, false).unwrap();
    let mut writer = writer(&sink, RUN, 0, 0);
    commits.commit(prepare(&mut writer, &["a"])).unwrap();
    prepare(&mut writer, &["b"]);
    commits.abort();
    drop(commits);
    assert_eq!((lines(dir.path()), files(dir.path(), true)), (vec!["a".to_owned()], vec![]));
}

#[test]
fn another_attempt_and_another_run_take_no_name_again() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::text(dir.path());
    let mut commits = committer(&sink, RUN, false).unwrap();
    commits.commit(prepare(&mut writer(&sink, RUN, 0, 0), &["first"])).unwrap();
    commits.commit(prepare(&mut writer(&sink, RUN, 0, 1), &["second"])).unwrap();
    kill(commits, dir.path());
    // A job that is started from a savepoint counts its attempts from 0 again.
    let mut commits = committer(&sink, "run-2", true).unwrap();
    commits.commit(Vec::new()).unwrap();
    commits.commit(prepare(&mut writer(&sink, "run-2", 0, 0), &["third"])).unwrap();
    drop(commits);
    let mut commits = committer(&sink, "run-3", true).unwrap();
    commits.commit(Vec::new()).unwrap();
    commits.commit(prepare(&mut writer(&sink, "run-3", 0, 0), &["fourth"])).unwrap();
    drop(commits);
    assert_eq!(lines(dir.path()), ["first", "fourth", "second", "third"]);
    assert_eq!((files(dir.path(), false).len(), files(dir.path(), true)), (4, vec![]));
}

/// A commit that replaces an old file by two others, and whose process is killed after so many steps; how many there are, and what
/// it was to commit.
fn interrupted(directory: &Path, steps: usize) -> (usize, Vec<Vec<u8>>) {
    fs::write(directory.join("part-0-0.txt"), "old\n").unwrap();
    let sink = FileSink::text(directory).overwrite(true);
    let commits = committer(&sink, RUN, false).unwrap();
    let mut committables = prepare(&mut writer(&sink, RUN, 0, 0), &["a", "b"]);
    committables.extend(prepare(&mut writer(&sink, RUN, 1, 0), &["c"]));
    // In no checkpoint.
    prepare(&mut writer(&sink, RUN, 2, 0), &["lost"]);
    let staging = Staging::of(directory, RUN);
    let parts: Vec<Part> = committables.iter().map(|bytes| Part::from_bytes(bytes).unwrap()).collect();
    let plan = staging.plan(&parts).unwrap();
    plan.iter().take(steps).for_each(|step| staging.perform(step).unwrap());
    kill(commits, directory);
    (plan.len(), committables)
}

#[test]
fn a_commit_killed_at_any_step_is_completed_by_who_goes_on_from_its_checkpoint() {
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (count, committables) = interrupted(dir.path(), steps);
        // And its own process is killed once more.
        let sink = FileSink::text(dir.path()).overwrite(true);
        let mut commits = committer(&sink, "run-2", true).unwrap();
        commits.commit(committables.clone()).unwrap();
        assert_eq!(lines(dir.path()), ["a", "b", "c"], "{steps} steps");
        commits.commit(prepare(&mut writer(&sink, "run-2", 0, 0), &["d"])).unwrap();
        kill(commits, dir.path());
        let mut commits = committer(&sink, "run-3", true).unwrap();
        commits.commit(committables).unwrap();
        drop(commits);
        assert_eq!(lines(dir.path()), ["a", "b", "c", "d"], "{steps} steps");
        assert_eq!(files(dir.path(), true), [], "{steps} steps");
        if steps > count {
            assert!(count > 10, "{count} steps");
            return;
        }
    }
}

#[test]
fn a_commit_killed_at_any_step_is_completed_when_what_goes_on_is_killed_at_any_step_too() {
    let count = interrupted(tempfile::tempdir().unwrap().path(), 0).0;
    for (first, second) in (0..=count).flat_map(|first| [1, 5, 9].map(|second| (first, second))) {
        let dir = tempfile::tempdir().unwrap();
        let (_, committables) = interrupted(dir.path(), first);
        let parts: Vec<Part> = committables.iter().map(|bytes| Part::from_bytes(bytes).unwrap()).collect();
        let staging = Staging::of(dir.path(), RUN);
        let plan = staging.plan(&parts).unwrap();
        plan.iter().take(second).for_each(|step| staging.perform(step).unwrap());
        let mut commits = committer(&FileSink::text(dir.path()), "run-2", true).unwrap();
        commits.commit(committables).unwrap();
        drop(commits);
        assert_eq!(lines(dir.path()), ["a", "b", "c"], "{first} and {second} steps");
        assert_eq!(files(dir.path(), true), [], "{first} and {second} steps");
    }
}

#[test]
fn a_commit_killed_before_it_was_complete_is_taken_back_by_who_begins_anew_or_goes_on_from_an_older_checkpoint() {
    for restored in [false, true] {
        for steps in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let (count, _) = interrupted(dir.path(), steps);
            let mut commits = committer(&FileSink::text(dir.path()).overwrite(true), "run-2", restored).unwrap();
            if restored {
                commits.commit(Vec::new()).unwrap();
            } else {
                commits.abort();
            }
            drop(commits);
            // Its last steps only clean up.
            let expect = if steps < count - 3 { ["old"].as_slice() } else { &["a", "b", "c"] };
            assert_eq!(lines(dir.path()), expect, "{steps} of {count} steps, restored: {restored}");
            assert_eq!(files(dir.path(), true), [], "{steps} of {count} steps, restored: {restored}");
            if steps >= count {
                break;
            }
        }
    }
}

#[test]
fn what_a_killed_commit_has_shown_is_hidden_again_when_an_older_checkpoint_is_committed_instead() {
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::text(dir.path());
        let commits = committer(&sink, RUN, false).unwrap();
        let mut writer = writer(&sink, RUN, 0, 0);
        let (older, newer) = (prepare(&mut writer, &["a"]), prepare(&mut writer, &["b"]));
        let staging = Staging::of(dir.path(), RUN);
        let plan = staging.plan(&[Part::from_bytes(&newer[0]).unwrap()]).unwrap();
        plan.iter().take(steps).for_each(|step| staging.perform(step).unwrap());
        kill(commits, dir.path());
        let mut commits = committer(&sink, "run-2", true).unwrap();
        commits.commit(older).unwrap();
        drop(commits);
        let confirmed = plan.iter().take(steps).any(|step| *step == Step::Confirm);
        let expect = if confirmed { ["a", "b"].as_slice() } else { &["a"] };
        assert_eq!(lines(dir.path()), expect, "{steps} steps of {plan:?}");
        if steps >= plan.len() {
            return;
        }
    }
}

#[test]
fn the_run_that_was_lost_is_cleaned_up_after_its_output_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (_, committables) = interrupted(dir.path(), 4);
    let sink = FileSink::text(dir.path()).overwrite(true);
    let mut lost = committer(&sink, RUN, true).unwrap();
    lost.commit(committables.clone()).unwrap();
    lost.abort();
    drop(lost);
    let mut commits = committer(&sink, "run-2", true).unwrap();
    commits.commit(committables).unwrap();
    drop(commits);
    assert_eq!((lines(dir.path()), files(dir.path(), true).len()), (vec!["a".into(), "b".into(), "c".into()], 0));
}

#[test]
fn a_file_that_is_neither_visible_nor_written_aside_any_more_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::text(dir.path());
    let mut commits = committer(&sink, RUN, false).unwrap();
    let committables = prepare(&mut writer(&sink, RUN, 0, 0), &["a"]);
    commits.commit(committables.clone()).unwrap();
    drop(commits);
    let visible = dir.path().join("part-0-0.txt");
    fs::write(&visible, "cut").unwrap();
    let mut commits = committer(&sink, "run-2", true).unwrap();
    let error = commits.commit(committables.clone()).unwrap_err().to_string();
    assert!(error.contains("has 3 bytes, but 2 were written"), "{error}");
    fs::remove_file(&visible).unwrap();
    let error = commits.commit(committables).unwrap_err().to_string();
    assert!(error.contains("part-0-0.txt was removed: it is neither there nor"), "{error}");
}

#[test]
fn a_job_that_goes_on_with_another_directory_leaves_its_earlier_output_where_it_is() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sink = FileSink::text(first.path());
    let mut commits = committer(&sink, RUN, false).unwrap();
    let mut written = writer(&sink, RUN, 0, 0);
    let mut committables = prepare(&mut written, &["a"]);
    commits.commit(committables.clone()).unwrap();
    committables.extend(prepare(&mut written, &["b"]));
    let other = FileSink::text(second.path());
    let go_on = |committables: Vec<Vec<u8>>| {
        let mut commits = committer(&other, "run-2", true).unwrap();
        let mut writer = writer(&other, "run-2", 0, 0);
        let result = commits.commit(committables).map_err(|error| error.to_string());
        let next = prepare(&mut writer, &["c"]);
        result.and_then(|()| commits.commit(next).map_err(|error| error.to_string()))
    };
    // As long as the first job runs, its output is its own business.
    go_on(committables.clone()).unwrap();
    assert_eq!((lines(first.path()), lines(second.path())), (vec!["a".to_owned()], vec!["c".to_owned()]));
    kill(commits, first.path());
    fs::remove_dir_all(second.path()).unwrap();
    go_on(committables.clone()).unwrap();
    assert_eq!((lines(first.path()), lines(second.path())), (vec!["a".into(), "b".into()], vec!["c".to_owned()]));
    assert_eq!((files(first.path(), true), files(second.path(), true)), (vec![], vec![]));
    // What is missing there is missed; the whole directory is its owner's to remove.
    fs::remove_file(first.path().join("part-0-1.txt")).unwrap();
    fs::remove_dir_all(second.path()).unwrap();
    let error = go_on(committables.clone()).unwrap_err();
    assert!(error.contains("part-0-1.txt was removed"), "{error}");
    fs::remove_dir_all(first.path()).unwrap();
    go_on(committables).unwrap();
    assert_eq!(lines(second.path()), ["c"]);
}

#[test]
fn output_whose_directory_was_renamed_is_found_in_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let sink = FileSink::text(&old);
    let commits = committer(&sink, RUN, false).unwrap();
    let committables = prepare(&mut writer(&sink, RUN, 0, 0), &["a"]);
    kill(commits, &old);
    fs::rename(&old, &new).unwrap();
    committer(&FileSink::text(&new), "run-2", true).unwrap().commit(committables).unwrap();
    assert_eq!((lines(&new), files(&new, true)), (vec!["a".to_owned()], vec![]));
}

#[test]
fn committables_of_another_version_are_refused() {
    let (output, run, name) = ("/out".into(), RUN.to_owned(), "part-0-0.txt".to_owned());
    let part = Part { output, run, name, attempt: 0, len: 1 };
    let mut bytes = part.to_bytes();
    assert_eq!(Part::from_bytes(&bytes), Ok(part));
    bytes.push(0);
    Part::from_bytes(&bytes).unwrap_err();
    bytes[0] = 9;
    assert!(Part::from_bytes(&bytes).unwrap_err().contains("another version"));
    assert!(Part::from_bytes(&[]).is_err());
}
