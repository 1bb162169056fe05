use crate::support::{call, outcome, weir};

#[test]
fn every_option_is_listed_with_where_its_value_came_from() {
    let mut command = weir();
    command.args(["config", "-D", "execution.buffer-timeout=1s"]).env("WEIR_CONF_PARALLELISM_DEFAULT", "3");
    let text = outcome(&mut command).expect(0).stdout;
    let row = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("parallelism.default"), ["parallelism.default", "Integer", "(none)", "3", "environment"]);
    let timeout = ["execution.buffer-timeout", "Duration or disabled", "100 ms", "1s", "command-line"];
    assert_eq!(row("execution.buffer-timeout"), timeout);
    assert_eq!(row("weir.embedded.workers"), ["weir.embedded.workers", "Integer", "1", "1", "default"]);

    let json = outcome(command.arg("--output=json")).expect(0).last_line_as_json();
    let options = json.as_array().unwrap();
    assert_eq!(options.len(), weir_config::all_options().len());
    let option = options.iter().find(|option| option["key"] == "parallelism.default").unwrap();
    assert_eq!((&option["value"], &option["origin"]), (&"3".into(), &"environment".into()));
    assert_eq!(option["default"], serde_json::Value::Null);
}

#[test]
fn an_option_is_explained_under_each_of_its_names() {
    for key in ["execution.buffer-timeout", "execution.buffer-timeout.interval"] {
        call(&["config", key]).expect(0).stdout_has("How long a record may wait").stdout_has("100 ms");
    }
    let json = call(&["config", "--output", "json", "weir.embedded.workers"]).expect(0).last_line_as_json();
    assert_eq!((&json["type"], &json["value"]), (&"Integer".into(), &"1".into()));
    // The variable that is shown does set it.
    let variable = json["variable"].as_str().unwrap();
    let set = outcome(weir().args(["config", "weir.embedded.workers"]).env(variable, "5")).expect(0);
    set.stdout_has("5 (from: environment)");
}

#[test]
fn wrong_settings_are_named_with_what_was_meant() {
    call(&["config", "paralelism.default"]).expect(2).stderr_has("did you mean \"parallelism.default\"?");
    call(&["config", "xyz"]).expect(2).stderr_has("there is no option \"xyz\"; `weir config` lists");
    call(&["config", "-D", "weir.embeded.workers=2"]).expect(2).stderr_has("did you mean \"weir.embedded.workers\"");
    call(&["config", "-D", "parallelism.default=many"]).expect(2).stderr_has("does not begin with a number");
    outcome(weir().arg("config").env("WEIR_CONF_PARALELISM_DEFAULT", "2"))
        .expect(2)
        .stderr_has("did you mean \"WEIR_CONF_PARALLELISM_DEFAULT\"");
}

#[test]
fn a_file_is_found_and_its_mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    call(&["--config-dir", dir, "config"])
        .expect(2)
        .stderr_has("there is no config.yaml in")
        .stderr_has("--config-dir");
    outcome(weir().arg("config").env("WEIR_CONF_DIR", dir)).expect(2).stderr_has("WEIR_CONF_DIR");
    write("rest:\n  port: 9999\njobmanager.rpc.port: 7000\n");
    call(&["--config-dir", dir, "config", "rest.port"]).expect(0).stdout_has("9999 (from: file)");
    call(&["config", "--config-dir", dir, "rest.port", "-D", "rest.port=1"])
        .expect(0)
        .stdout_has("1 (from: command-line)");
    let json = call(&["config", "--config-dir", dir, "jobmanager.rpc.port", "--output=json"]).expect(0);
    assert_eq!(json.last_line_as_json()["origin"], "file");
    for (text, part) in [
        ("rest.prot: 1\n", "did you mean \"rest.port\""),
        ("rest:\n  port: many\n", "rest.port"),
        ("rest: [\n", "config.yaml"),
        ("- a\n", "config.yaml"),
    ] {
        write(text);
        for command in [&["config"][..], &["list"], &["jobmanager"], &["taskmanager"], &["local"], &["plugins"]] {
            let found = call(&[&["--config-dir", dir], command].concat()).expect(2).stderr_has(part);
            assert!(found.stdout.is_empty() && found.stderr.contains("config.yaml"), "{found:#?}");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let secret = ["-D", "security.rest.token=open-sesame-open-sesame"];
    for words in [&["config"][..], &["config", "security.rest.token"], &["config", "--output=json"]] {
        let shown = call(&[words, &secret].concat()).expect(0).stdout_has("******");
        assert!(!shown.stdout.contains("sesame"), "{}", shown.stdout);
    }
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = weir();
    let status = command.args(["completions", "bash"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn options_of_plugins_are_listed_when_they_are_set() {
    let words = ["config", "-Dprovider.cloud.region=north", "-Dprovider.cloud.password=hunter2"];
    let listed = call(&words).expect(0).stdout_has("provider.cloud.region");
    assert!(listed.stdout.contains("north") && !listed.stdout.contains("hunter2"), "{}", listed.stdout);
    let json = call(&[&words[..], &["--output", "json"]].concat()).expect(0);
    assert!(json.stdout.contains("\"(plugin's)\"") && !json.stdout.contains("hunter2"), "{}", json.stdout);
}
