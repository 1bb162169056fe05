//! The code in the guide is code that is tested.

use std::fs;

use crate::build::root;

/// Each block of code in the guide has a line before it that says which file it is from.
#[test]
fn the_guide_shows_tested_code() {
    let guide = fs::read_to_string(root().join("docs/providers.md")).unwrap();
    let mut blocks = 0;
    let mut source = None;
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if let Some(path) = line.strip_prefix("<!-- from ") {
            source = Some(path.trim_end_matches(" -->"));
        }
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if matches!(language, "rust" | "c" | "toml" | "yaml") {
            let path = source.take().unwrap_or_else(|| panic!("{block:?} does not say where it is from"));
            let file = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let file: Vec<_> = file.lines().collect();
            // Leaving something out in between is fine, if the guide says so.
            for part in block.split(|line| line.trim() == "// …" || line.trim() == "/* … */") {
                let found = file.windows(part.len().max(1)).any(|lines| lines == part);
                assert!(part.is_empty() || found, "not in {path}: {part:#?}");
            }
            blocks += 1;
        }
    }
    assert!(blocks >= 5, "only {blocks} blocks of code were found");
}
