//! From a path, directory or pattern to the files it stands for.

use std::fs::{self, File, FileType};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::compression::MAGIC;
use super::error::Version;
use super::{Compression, FileError};

/// An input file as it was when the job began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    pub(super) compression: Compression,
}

/// The files that `input` stands for, in the order of their paths.
pub(super) fn find(input: &str) -> Result<Vec<InputFile>, FileError> {
    let mut paths = Vec::new();
    match fs::metadata(input) {
        // A name that exists is meant literally even if it contains `*` or `[`.
        Ok(_) => add(Path::new(input), &mut Vec::new(), &mut paths)?,
        Err(error) if error.kind() == ErrorKind::NotFound && input.contains(['*', '?', '[']) => {
            add_matches(input, &mut paths)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(FileError::Missing { path: input.to_owned() }),
        Err(error) => return Err(io_error(Path::new(input), "opened", error)),
    }
    paths.sort();
    paths.dedup();
    paths.into_iter().map(inspect).collect()
}

fn add_matches(pattern: &str, paths: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let matches = glob::glob_with(pattern, options)
        .map_err(|error| FileError::Pattern { pattern: pattern.to_owned(), reason: error.to_string() })?;
    let mut any = false;
    for path in matches {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            FileError::Io { path, action: "listed", source: error.into() }
        })?;
        any = true;
        add(&path, &mut Vec::new(), paths)?;
    }
    if any { Ok(()) } else { Err(FileError::NoMatch { pattern: pattern.to_owned() }) }
}

/// Adds the file at `path`, or the files below it. `inside` are the real paths of the directories it is reached
/// through: a symbolic link back to one of them would never end.
fn add(path: &Path, inside: &mut Vec<PathBuf>, paths: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let metadata = fs::metadata(path).map_err(|error| gone_or(path, "opened", error))?;
    if !metadata.is_dir() {
        if !metadata.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned(), found: kind_of(metadata.file_type()) });
        }
        paths.push(path.to_owned());
        return Ok(());
    }
    let real = path.canonicalize().map_err(|error| gone_or(path, "resolved", error))?;
    if inside.contains(&real) {
        return Ok(());
    }
    inside.push(real);
    for entry in fs::read_dir(path).map_err(|error| gone_or(path, "listed", error))? {
        let entry = entry.map_err(|error| io_error(path, "listed", error))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".")
            && !entry.file_name().as_encoded_bytes().starts_with(b"_")
        {
            add(&entry.path(), inside, paths)?;
        }
    }
    inside.pop();
    Ok(())
}

fn inspect(path: PathBuf) -> Result<InputFile, FileError> {
    let mut file = File::open(&path).map_err(|error| gone_or(&path, "opened", error))?;
    let metadata = file.metadata().map_err(|error| io_error(&path, "inspected", error))?;
    let version = Version::of(&metadata);
    let mut start = Vec::with_capacity(MAGIC);
    file.by_ref().take(MAGIC as u64).read_to_end(&mut start).map_err(|error| io_error(&path, "read", error))?;
    if version.len == 0 && !start.is_empty() {
        return Err(FileError::Unsized { path });
    }
    let compression = Compression::of(&path, &start)?;
    Ok(InputFile { path, version, compression })
}

fn kind_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "neither a file nor a directory",
    }
}

/// What was listed a moment ago and is no longer there was taken away under our eyes.
fn gone_or(path: &Path, action: &'static str, error: std::io::Error) -> FileError {
    match error.kind() {
        ErrorKind::NotFound => FileError::Vanished { path: path.to_owned() },
        _ => io_error(path, action, error),
    }
}

fn io_error(path: &Path, action: &'static str, source: std::io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x\n").unwrap();
        }
        dir
    }

    fn names(dir: &Path, input: &str) -> Vec<String> {
        let found = find(dir.join(input).to_str().unwrap()).unwrap();
        found.iter().map(|file| file.path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_file_a_directory_and_a_pattern_are_found() {
        let dir =
            tree(&["b.txt", "a.txt", "sub/c.txt", "sub/d.csv", ".hidden", "_temporary/x", "sub/.e.txt", "odd[1].txt"]);
        let check = |input: &str, expect: &[&str]| assert_eq!(names(dir.path(), input), expect, "{input}");
        check("a.txt", &["a.txt"]);
        check("", &["a.txt", "b.txt", "odd[1].txt", "sub/c.txt", "sub/d.csv"]);
        check("sub", &["sub/c.txt", "sub/d.csv"]);
        check("*.txt", &["a.txt", "b.txt", "odd[1].txt"]);
        check("**/*.txt", &["a.txt", "b.txt", "odd[1].txt", "sub/c.txt"]);
        check("s*", &["sub/c.txt", "sub/d.csv"]);
        check(".hidden", &[".hidden"]);
        check("odd[1].txt", &["odd[1].txt"]);
        check("[ab].txt", &["a.txt", "b.txt"]);
    }

    #[test]
    fn links_are_followed_but_not_in_circles() {
        let dir = tree(&["data/a.txt"]);
        symlink(dir.path().join("data/a.txt"), dir.path().join("data/link.txt")).unwrap();
        symlink(dir.path().join("data"), dir.path().join("data/self")).unwrap();
        assert_eq!(names(dir.path(), "data"), ["data/a.txt", "data/link.txt"]);
    }

    #[test]
    fn what_cannot_be_input_is_named() {
        let dir = tree(&["a.txt", "dangling/x"]);
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(dir.path().join("a.xz"), b"\xfd7zXZ\0rest").unwrap();
        symlink(at("nowhere"), at("dangling/link")).unwrap();
        let check = |input: &str, expect: &str| {
            let error = find(input).unwrap_err().to_string();
            assert!(error.contains(expect) && error.contains(input), "{error}");
        };
        check(&at("missing"), "does not exist");
        check(&at("*.nothing"), "no file matches");
        check(&at("a***"), "malformed");
        check(&at("a.txt/b"), "cannot be opened");
        check(&at("a.xz"), "compressed with xz");
        check(&at("dangling"), "vanished");
        check("/dev/null", "is a device");
        check("/proc/version", "copy it to a file first");
        // Reading at address 0 fails for everybody, the superuser included.
        check("/proc/self/mem", "cannot be read");
    }
}
