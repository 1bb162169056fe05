//! URIs as text: folders, what lies in them, and paths relative to them.

use weir_model::JobId;

/// The name of the metadata file in the folder of a checkpoint.
pub const METADATA_FILE: &str = "_metadata";

/// `name` in the folder `directory`.
pub(crate) fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// What follows the folder in the URI of something in it; `None` if it is not in it.
pub(crate) fn relative<'a>(uri: &'a str, directory: &str) -> Option<&'a str> {
    let rest = uri.strip_prefix(directory.trim_end_matches('/'))?.strip_prefix('/')?;
    // What climbs out again is not inside, and an empty path is the folder itself.
    (!rest.is_empty() && rest.split('/').all(|part| part != "..")).then_some(rest)
}

/// The folder of a job's checkpoints.
pub(crate) fn job_directory(directory: &str, job: JobId) -> String {
    join(directory, &job.to_string())
}

/// The folder of a checkpoint.
pub(crate) fn checkpoint_directory(job_directory: &str, checkpoint: u64) -> String {
    join(job_directory, &format!("chk-{checkpoint}"))
}

/// The folder of what checkpoints share.
pub(crate) fn shared_directory(job_directory: &str) -> String {
    join(job_directory, "shared")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_joined_with_one_slash() {
        assert_eq!(join("file:///a/", "b"), "file:///a/b");
        assert_eq!(join("file:///a", "b"), "file:///a/b");
        let job = JobId::from_bytes([0xab; 16]);
        let directory = job_directory("file:///c", job);
        assert_eq!(directory, format!("file:///c/{}", "ab".repeat(16)));
        assert_eq!(checkpoint_directory(&directory, 7), format!("{directory}/chk-7"));
    }

    #[test]
    fn only_what_is_inside_a_folder_is_relative_to_it() {
        let check =
            |uri, directory, expect: Option<&str>| assert_eq!(relative(uri, directory), expect, "{uri} {directory}");
        check("file:///a/b/c", "file:///a", Some("b/c"));
        check("file:///a/b/c", "file:///a/", Some("b/c"));
        check("file:///ab/c", "file:///a", None);
        check("file:///a", "file:///a", None);
        check("file:///a/", "file:///a", None);
        check("file:///a/../b", "file:///a", None);
    }
}
