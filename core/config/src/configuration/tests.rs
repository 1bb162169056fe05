use std::time::Duration;

use super::*;
use crate::options::{BUFFER_TIMEOUT, CANCELLATION_TIMEOUT, PARALLELISM_DEFAULT, RUNTIME_MODE, SEGMENT_SIZE};
use crate::{BufferTimeout, ByteSize, RuntimeMode};

#[test]
fn unset_options_have_their_defaults() {
    let config = Configuration::new();
    assert_eq!(config.get(&PARALLELISM_DEFAULT), None);
    assert_eq!(config.get(&BUFFER_TIMEOUT), BufferTimeout::After(Duration::from_millis(100)));
    assert_eq!(config.get(&CANCELLATION_TIMEOUT), Duration::from_secs(180));
    assert_eq!(config.get(&SEGMENT_SIZE), ByteSize(32 << 10));
    assert_eq!(config.get(&RUNTIME_MODE), RuntimeMode::Automatic);
    assert_eq!(config.origin(&SEGMENT_SIZE), Origin::Default);
    assert_eq!(config.iter().count(), 0);
}

#[test]
fn the_stronger_origin_wins_in_any_order() {
    let mut config = Configuration::new();
    let number = |config: &Configuration| (config.get(&PARALLELISM_DEFAULT), config.origin(&PARALLELISM_DEFAULT));
    config.set_value(&PARALLELISM_DEFAULT, Some(1), Origin::Default).unwrap();
    assert_eq!(number(&config), (Some(1), Origin::Default));
    config.set_argument("parallelism.default = 4").unwrap();
    config.set("parallelism.default", "2", Origin::Job).unwrap();
    config.set_environment([("WEIR_CONF_PARALLELISM_DEFAULT".to_owned(), "3".to_owned())]).unwrap();
    assert_eq!(number(&config), (Some(4), Origin::CommandLine));
    config.set_argument("parallelism.default=5").unwrap();
    assert_eq!(number(&config), (Some(5), Origin::CommandLine));
}

#[test]
fn variables_set_options_and_others_are_left_alone() {
    let mut config = Configuration::new();
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    config
        .set_environment([
            set("PATH", "/bin"),
            set("WEIR_LOG", "debug"),
            set("WEIR_CONF_TASKMANAGER_MEMORY_SEGMENT_SIZE", "64kb"),
        ])
        .unwrap();
    assert_eq!(config.get(&SEGMENT_SIZE), ByteSize(64 << 10));
    let error = config.set_environment([set("WEIR_CONF_PARALELISM_DEFAULT", "1")]).unwrap_err().to_string();
    assert!(error.contains("\"WEIR_CONF_PARALELISM_DEFAULT\" (set by environment)"), "{error}");
    assert!(error.contains("did you mean \"WEIR_CONF_PARALLELISM_DEFAULT\"?"), "{error}");
}

#[test]
fn a_fallback_key_sets_the_option_itself() {
    let mut config = Configuration::new();
    config.set_argument("execution.buffer-timeout.interval=-1").unwrap();
    assert_eq!(config.get(&BUFFER_TIMEOUT), BufferTimeout::Disabled);
    assert_eq!(config.to_map().keys().collect::<Vec<_>>(), ["execution.buffer-timeout"]);
}

#[test]
fn what_is_set_survives_the_way_through_a_job_graph() {
    let mut config = Configuration::new();
    config.set_argument("execution.buffer-timeout=5ms").unwrap();
    config.set_value(&SEGMENT_SIZE, ByteSize(65_536), Origin::Default).unwrap();
    let mut other = Configuration::new();
    for (key, value) in config.to_map() {
        other.set(&key, &value, Origin::Job).unwrap();
    }
    assert_eq!(other.to_map(), config.to_map());
    assert_eq!(other.get(&SEGMENT_SIZE), ByteSize(65_536));
}

#[test]
fn what_cannot_be_set_is_explained() {
    let check = |argument: &str, expect: &[&str]| {
        let error = Configuration::new().set_argument(argument).expect_err(argument).to_string();
        for part in expect {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    check("parallelism.default", &["is no setting", "expected key=value"]);
    check("parallelism.defualt=4", &["\"parallelism.defualt\" (set by -D)", "did you mean \"parallelism.default\"?"]);
    check("parallelism=4", &["did you mean \"parallelism.default\"?"]);
    check("execution.bufferTimeout=1", &["did you mean \"execution.buffer-timeout\"?"]);
    check("Pipeline.Name=x", &["did you mean \"pipeline.name\"?"]);
    check("colour=blue", &["unknown option \"colour\" (set by -D); all options"]);
    check("=4", &["unknown option \"\""]);
    check(
        "parallelism.default=four",
        &["\"parallelism.default\" (set by -D) has the value \"four\"", "expected a whole number, e.g. \"4\""],
    );
    check("parallelism.default=0", &["not between 1 and 32768"]);
    check("pipeline.max-parallelism=40000", &["not between 1 and 32768"]);
    check("execution.runtime-mode=fast", &["expected one of streaming, batch, automatic"]);
    check("task.cancellation.timeout=soon", &["expected a duration", "e.g. \"3 min\""]);
    check("taskmanager.memory.process.size=512", &["below 16mb"]);
    check("taskmanager.network.memory.buffers-per-channel=0", &["not between 1 and 1024"]);
}

#[test]
fn edit_distance_counts_insertions_deletions_and_substitutions() {
    for (left, right, expect) in [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ä", "a", 1)]
    {
        assert_eq!(edit_distance(left, right), expect, "{left} {right}");
        assert_eq!(edit_distance(right, left), expect, "{right} {left}");
    }
}

#[test]
fn the_variable_of_the_folder_is_no_option() {
    let mut config = Configuration::new();
    config.set_environment([(FOLDER_VARIABLE.to_owned(), "/etc/weir".to_owned())]).unwrap();
    assert_eq!(config.iter().count(), 0);
}

#[test]
fn secrets_are_masked_wherever_they_come_from() {
    let mut config = Configuration::new();
    config.set_argument("security.rest.token=0123456789abcdef").unwrap();
    config.set_argument("provider.cloud.password=hunter2").unwrap();
    config.set_argument("provider.cloud.region=north").unwrap();
    let shown = config.effective();
    assert_eq!(shown["security.rest.token"], "******");
    assert_eq!(shown["provider.cloud.password"], "******");
    assert_eq!(shown["provider.cloud.region"], "north");
}
