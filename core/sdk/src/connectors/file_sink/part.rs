//! Part files: what they are called, and what a writer says of one.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use weir_dataflow::record::{Decoder, Record};

/// Of the bytes that announce a part file; they are kept in checkpoints.
const FORMAT: u8 = 2;

/// A finished part file, as its writer announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The output directory it belongs to: a job that goes on from a savepoint may write to another one.
    pub(super) output: PathBuf,
    /// The run that wrote it aside.
    pub(super) run: String,
    /// As it will be called.
    pub(super) name: String,
    /// Which attempt at the subtask wrote it.
    pub(super) attempt: u32,
    /// Bytes.
    pub(super) len: u64,
}

impl Part {
    /// Its name while it is written aside. An older attempt at the same subtask may not have ended everywhere: it must not write to
    /// the files of a newer one, nor have its own published.
    pub(super) fn staged(&self) -> String {
        staged(&self.name, self.attempt)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        self.output.as_os_str().as_bytes().to_vec().encode(&mut bytes);
        self.run.encode(&mut bytes);
        self.name.encode(&mut bytes);
        self.attempt.encode(&mut bytes);
        self.len.encode(&mut bytes);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Part, String> {
        let Some((&FORMAT, bytes)) = bytes.split_first() else {
            return Err("it was written by another version of this sink".to_owned());
        };
        let mut input = Decoder::new(bytes);
        let (output, run, name, attempt, len) = <(Vec<u8>, String, String, u32, u64)>::decode(&mut input)
            .and_then(|part| input.finish().map(|()| part))
            .map_err(|error| error.to_string())?;
        let output = PathBuf::from(OsString::from_vec(output));
        // All three become parts of a path.
        if !output.is_absolute() {
            return Err(format!("directory {output:?}"));
        }
        if !is_part(&name) {
            return Err(format!("{name:?}"));
        }
        if run.contains('/') {
            return Err(format!("run {run:?}"));
        }
        Ok(Part { output, run, name, attempt, len })
    }
}

/// Name of a part file while it is written aside.
pub(super) fn staged(name: &str, attempt: u32) -> String {
    format!("{name}.{attempt}")
}

/// What a part file written aside will be called; none if this is not one's name.
pub(super) fn name_of(staged: &str) -> Option<&str> {
    staged.rsplit_once('.').map(|(name, _)| name).filter(|name| is_part(name))
}

/// Tells the files of an attempt apart from those of all others of the job, in all of its runs.
pub(super) fn tag(run: &str, attempt: u32) -> String {
    let mut hasher = DefaultHasher::new();
    (run, attempt).hash(&mut hasher);
    format!("{:012x}", hasher.finish() >> 16)
}

/// Whether a name is one this sink gives: `part-<number>-<number>`, perhaps `-<tag>`, and an extension.
pub(super) fn is_part(name: &str) -> bool {
    let all = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|byte| is(&byte));
    let Some((stem, extension)) = name.split_once('.') else { return false };
    let mut words = stem.split('-');
    let numbers = words.next() == Some("part")
        && words.next().is_some_and(|word| all(word, u8::is_ascii_digit))
        && words.next().is_some_and(|word| all(word, u8::is_ascii_digit));
    let tag = words.next().is_none_or(|word| all(word, u8::is_ascii_hexdigit));
    numbers && tag && words.next().is_none() && matches!(extension, "txt" | "csv")
}
