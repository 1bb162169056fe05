//! What a job's executable tells about itself to whoever is about to run it: the note it carries, and its answer when asked.

use std::ffi::OsString;
use std::hint::black_box;

use serde_json::json;
use weir_proto::artifact::{ArtifactNote, ROLE_DESCRIBE, ROLE_VARIABLE};
use weir_proto::worker::PROTOCOL_VERSION;

use super::{Job, exit};

/// Tells this executable from any other program without running it.
#[used]
// The name is `weir_proto::artifact::NOTE_SECTION`; an attribute takes only a literal. Other systems have no ELF notes.
#[cfg_attr(any(target_os = "linux", target_os = "freebsd"), unsafe(link_section = ".note.weir"))]
static NOTE: ArtifactNote = ArtifactNote::new(PROTOCOL_VERSION, env!("CARGO_PKG_VERSION"));

/// The role this process was started for, if it was not started to run a job.
pub(super) fn asked_role() -> Option<OsString> {
    // Keeps the note in the executable whatever the linker thinks of it.
    black_box(&NOTE);
    std::env::var_os(ROLE_VARIABLE).filter(|role| !role.is_empty())
}

/// Plays the role and returns the exit code.
pub(super) fn answer(jobs: &[Job], role: &OsString) -> u8 {
    if role == ROLE_DESCRIBE {
        println!("{}", description(jobs));
        return exit::FINISHED;
    }
    eprintln!(
        "error: {ROLE_VARIABLE} is {role:?}, but the SDK {} in this executable knows only {ROLE_DESCRIBE:?}: \
         build the job with a newer version of the crate `weir`, or unset the variable",
        NOTE.version()
    );
    exit::USAGE
}

fn description(jobs: &[Job]) -> serde_json::Value {
    let jobs: Vec<_> = jobs.iter().map(|job| json!({ "name": job.name })).collect();
    json!({ "weir": NOTE.version(), "protocol": NOTE.protocol(), "jobs": jobs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Environment;

    #[test]
    fn the_description_names_version_protocol_and_jobs() {
        let job = |_: &Environment| Ok(());
        let jobs = [Job::new("first", job), Job::new("second", job)];
        let expect = json!({
            "weir": env!("CARGO_PKG_VERSION"),
            "protocol": PROTOCOL_VERSION,
            "jobs": [{ "name": "first" }, { "name": "second" }],
        });
        assert_eq!(description(&jobs), expect);
    }
}
