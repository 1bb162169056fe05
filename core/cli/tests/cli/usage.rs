use crate::support::call;

#[test]
fn help_and_version_are_printed() {
    call(&["--help"]).expect(0).stdout_has("completions");
    call(&["run", "--help"]).expect(0).stdout_has("Options for a crate:");
    let version = call(&["--version"]).expect(0).stdout;
    assert_eq!(version, format!("weir {}\n", env!("CARGO_PKG_VERSION")));
    call(&[]).expect(2).stderr_has("Usage: weir");
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        call(&["completions", shell]).expect(0).stdout_has("parallelism");
    }
    call(&["completions", "cmd"]).expect(2).stderr_has("bash");
}

#[test]
fn habits_of_flink_are_answered_with_what_to_do_instead() {
    for (words, part) in [
        (&["ps"][..], "`weir list`"),
        (&["savepoint", "abc", "--type", "native"], "savepoints have one format"),
        (&["run", "-s", "/s", "-rm", "legacy", "x"], "[possible values: claim, no_claim]"),
        (&["yarn-session"], "scripts/start-cluster"),
        (&["run", "x.jar"], "is a Java archive: a job is an executable or a crate"),
        (&["run", "-c", "org.Job", "x.jar"], "--job NAME"),
        (&["run", "-yqu", "root", "wordcount"], "no YARN provider yet"),
        (&["run", "wordcount", "input.txt"], "weir run wordcount -- input.txt"),
    ] {
        let answer = call(words).expect(2).stderr_has(part);
        assert!(answer.stderr.starts_with("error: ") && answer.stdout.is_empty(), "{answer:#?}");
    }
    call(&["rum"]).expect(2).stderr_has("a similar subcommand exists: 'run'");
    call(&["run", "--wokers", "2", "x"]).expect(2).stderr_has("a similar argument exists: '--workers'");
}
