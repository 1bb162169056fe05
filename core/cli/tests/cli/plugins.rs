use std::fs;

use crate::support::call;

fn plugins_in(folder: &std::path::Path, more: &[&str]) -> crate::support::Outcome {
    let option = format!("plugins.dir={}", folder.display());
    call(&[&["plugins", "-D", &option], more].concat())
}

#[test]
fn a_folder_without_plugins_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    plugins_in(folder.path(), &[]).expect(0).stdout_has("no plugins in").stdout_has("libweir_provider_<name>.so");
    assert_eq!(plugins_in(folder.path(), &["--output=json"]).expect(0).stdout, "[]\n");
    plugins_in(&folder.path().join("missing"), &[]).expect(2).stderr_has("plugins.dir names another one");
}

#[test]
fn files_that_are_no_plugins_are_listed_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(format!("libweir_provider_{name}.so"));
    fs::write(file("text"), "no library").unwrap();
    fs::write(file("empty"), "").unwrap();
    fs::write(file("stub"), b"\x7fELF").unwrap();
    fs::write(folder.path().join("other.so"), "not named like a plugin").unwrap();
    let listed = plugins_in(folder.path(), &[]).expect(1);
    for name in ["text", "empty", "stub"] {
        assert!(listed.stdout.contains(file(name).to_str().unwrap()), "{listed:#?}");
    }
    assert!(!listed.stdout.contains("other.so"), "{listed:#?}");
    let json = plugins_in(folder.path(), &["--output=json"]).expect(1).last_line_as_json();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| !row["error"].as_str().unwrap().is_empty()), "{json}");
}
