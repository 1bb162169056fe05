//! What people who know Flink type, and what does it here.

use std::ffi::OsString;
use std::path::Path;

/// Advice for a wrong command line, if a habit made it wrong.
pub(crate) fn advice(words: &[OsString]) -> Option<String> {
    let words: Vec<String> = words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let (first, rest) = words.split_first()?;
    if let Some((_, advice)) = COMMANDS.iter().find(|(names, _)| names.contains(&first.as_str())) {
        return Some(format!("`weir {first}`: {advice}"));
    }
    let has = |flags: &[&str]| rest.iter().find(|word| flags.contains(&word.split('=').next().unwrap_or_default()));
    match first.as_str() {
        "stop" | "savepoint" => return has(&["-type", "--type"]).map(|flag| format!("`{flag}`: {ONE_FORMAT}")),
        "cancel" => return has(&["-s", "--withSavepoint"]).map(|flag| format!("`{flag}`: {WITH_SAVEPOINT}")),
        _ => {}
    }
    if !matches!(first.as_str(), "run" | "info") {
        return None;
    }
    let before_the_jobs_own = || rest.iter().take_while(|word| *word != "--");
    let of_flags = before_the_jobs_own().filter_map(|word| of_flag(word));
    let of_files = before_the_jobs_own().filter_map(|word| foreign_artifact(Path::new(word)));
    let mut all: Vec<String> = of_flags.chain(of_files).collect();
    all.dedup();
    match all.as_slice() {
        [] => argument_without_dashes(first, rest),
        [only] => Some(only.clone()),
        several => Some(format!("these belong to Flink:\n  {}", several.join("\n  "))),
    }
}

/// Options that Flink writes with one dash, with the same in two.
const ONE_DASH: [(&str, &str); 6] = [
    ("-rm", "--restoreMode"),
    ("-cm", "--claimMode"),
    ("-detached", "--detached"),
    ("-drain", "--drain"),
    ("-dispose", "--dispose"),
    ("-full", "--full"),
];

/// The command line with Flink's long options behind one dash written as they are here.
pub(crate) fn in_two_dashes(words: &[OsString]) -> Vec<OsString> {
    let knows_them =
        matches!(words.get(1).and_then(|word| word.to_str()), Some("run" | "stop" | "savepoint" | "checkpoint"));
    let own = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let with_two = |(index, word): (usize, &OsString)| {
        let long = ONE_DASH.iter().find(|(short, _)| knows_them && index < own && word == short);
        long.map_or_else(|| word.clone(), |(_, long)| OsString::from(*long))
    };
    words.iter().enumerate().map(with_two).collect()
}

const ONE_FORMAT: &str =
    "savepoints have one format, which can be moved and is read by every state backend; leave it out";
const WITH_SAVEPOINT: &str = "a job is stopped with a savepoint by `weir stop JOB -p DIR`";

/// First words that are no command here.
const COMMANDS: [(&[&str], &str); 6] = [
    (&["ps"], "the jobs of a cluster are shown by `weir list`"),
    (&["kill"], "a job is stopped by `weir cancel JOB`"),
    (
        &["session", "start-cluster", "yarn-session", "kubernetes-session"],
        "a cluster is started by `scripts/start-cluster`, or by `weir jobmanager` with a provider in resourcemanager.providers; `weir local` runs \
         a whole one in one process",
    ),
    (
        &["run-application"],
        "run the job with `weir run -t remote -d ARTIFACT` on a cluster, or with `weir run ARTIFACT` on one of its own",
    ),
    (&["build"], "`weir run CRATE_DIR` builds a crate and runs it; `cargo build` only builds it"),
    (&["plan", "explain"], "a job's plan is shown by `weir info ARTIFACT|CRATE_DIR`"),
];

const JAVA: &str = "a job is an executable or a crate written in Rust: `weir run ARTIFACT|CRATE_DIR`";

/// Flags of `flink run` and what to do instead. Those of YARN sessions begin with `-y`.
const FLAGS: [(&[&str], &str); 9] = [
    (&["-c", "--class"], "the job of an executable that has several is chosen by --job NAME"),
    (&["-e", "--executor"], "where a job runs is chosen by -t local or -t remote"),
    (&["-z", "--zookeeperNamespace"], "there is no ZooKeeper yet; the cluster is named by -m HOST:PORT"),
    (&["-C", "--classpath", "-j", "--jarfile", "--jar"], JAVA),
    (&["-py", "--python", "-pym", "--pyModule", "-pyfs", "--pyFiles"], JAVA),
    (&["-sae", "--shutdownOnAttachedExit"], "it is what happens without -t remote: the cluster ends with the command"),
    (&["-a", "--arguments"], "a job's own arguments follow `--`: weir run ARTIFACT -- --input FILE"),
    (&["-yD"], "options are set by -D KEY=VALUE"),
    (
        &[
            "-ys",
            "--yarnslots",
            "-yn",
            "--yarncontainer",
            "-yjm",
            "--yarnjobManagerMemory",
            "-ytm",
            "--yarntaskManagerMemory",
        ],
        "how big TaskManagers are is the cluster's configuration: taskmanager.numberOfTaskSlots, taskmanager.memory.process.size",
    ),
];

const YARN: &str =
    "there is no YARN provider yet; jobs run on this machine, or with -t remote on a cluster that runs already";

fn of_flag(word: &str) -> Option<String> {
    let name = word.split('=').next().unwrap_or(word);
    let known =
        FLAGS.iter().find(|(names, _)| names.contains(&name) || (name.starts_with("-yD") && names.contains(&"-yD")));
    let is_yarn = (name.starts_with("-y") && name.len() > 2) || name.starts_with("--yarn");
    let advice = known.map(|(_, advice)| *advice).or(is_yarn.then_some(YARN))?;
    Some(format!("`{name}`: {advice}"))
}

/// What is said about a file that a job of Flink may be.
pub(crate) fn foreign_artifact(path: &Path) -> Option<String> {
    let what = match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jar" => "a Java archive",
        "py" => "a Python program",
        "sql" => "a SQL script",
        _ => return None,
    };
    Some(format!("{} is {what}: {JAVA}", path.display()))
}

/// `weir run ARTIFACT input.txt`: the second one is no flag, so it is meant for the job.
fn argument_without_dashes(command: &str, rest: &[String]) -> Option<String> {
    if rest.iter().any(|word| word == "--" || word.starts_with('-')) {
        return None;
    }
    match rest {
        [artifact, own @ ..] if !own.is_empty() => {
            Some(format!("a job's own arguments follow `--`: weir {command} {artifact} -- {}", own.join(" ")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<&str>) {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match (advice(&words), expect) {
            (Some(found), Some(part)) => assert!(found.contains(part), "{line}: {found:?} lacks {part:?}"),
            (None, None) => {}
            (found, expect) => panic!("{line}: found {found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn habits_of_flink_are_answered() {
        check("weir ps", Some("weir list"));
        check("weir yarn-session", Some("scripts/start-cluster"));
        check("weir stop abc --type native", Some("`--type`: savepoints have one format"));
        check("weir savepoint abc -type=canonical", Some("savepoints have one format"));
        check("weir cancel -s /s abc", Some("weir stop JOB -p DIR"));
        check("weir run -c org.Job x.jar", Some("--job NAME"));
        check("weir run -c org.Job x.jar", Some("x.jar is a Java archive"));
        check("weir run -yqu root wordcount", Some("`-yqu`: there is no YARN provider yet"));
        check("weir run -yDa=b wordcount", Some("-D KEY=VALUE"));
        check("weir run --yarnqueue=root wordcount", Some("`--yarnqueue`: there is no YARN"));
        check("weir run -z ns wordcount", Some("-m HOST:PORT"));
        check("weir run wordcount input.txt", Some("weir run wordcount -- input.txt"));
    }

    #[test]
    fn long_options_behind_one_dash_are_understood() {
        let check = |line: &str, expect: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let found: Vec<String> = in_two_dashes(&words).iter().map(|word| word.to_string_lossy().into()).collect();
            assert_eq!(found.join(" "), expect);
        };
        check("weir run -s /s -rm claim x -- -rm", "weir run -s /s --restoreMode claim x -- -rm");
        check("weir run -cm no_claim x", "weir run --claimMode no_claim x");
        check("weir stop -drain -detached j", "weir stop --drain --detached j");
        check("weir logs -full", "weir logs -full");
    }

    #[test]
    fn other_mistakes_are_left_to_the_parser() {
        check("weir", None);
        check("weir rum", None);
        check("weir run --paralelism 3 wordcount", None);
        check("weir run wordcount --nonsense -- -c x.jar", None);
        check("weir config -c", None);
    }
}
