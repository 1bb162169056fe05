//! Starting a process that outlives its parent.

use std::ffi::{CString, OsStr};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use weir_provider_api::WorkerSpec;

use crate::process::{Process, ProcessId};
use crate::records::Records;

/// Variables that begin so may hold secrets.
const SECRETS: [&str; 2] = ["WEIR_CONF_SECURITY_", "WEIR_CONF_PROVIDER_"];

/// Starts the worker's command in a session of its own, its output appended to the file `output`. The process writes `process_file`
/// before it becomes the command.
pub(crate) fn spawn(
    spec: &WorkerSpec,
    folder: Option<&Path>,
    output: &Path,
    process_file: &Path,
) -> io::Result<Process> {
    let (program, arguments) = spec
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its command is empty"))?;
    let out = OpenOptions::new().create(true).append(true).mode(0o600).open(output).map_err(|error| {
        io::Error::new(error.kind(), format!("its output file {} cannot be opened: {error}", output.display()))
    })?;
    let mut command = Command::new(program);
    // Secrets of the process this one runs in are not the worker's, unless it is given them.
    for (name, _) in std::env::vars_os() {
        if SECRETS.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes())) {
            command.env_remove(&name);
        }
    }
    command.args(arguments).envs(&spec.environment);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let process_file_c = c_string(process_file.as_os_str())?;
    // SAFETY: only makes system calls; memory was allocated before the fork.
    unsafe { command.pre_exec(move || begin_session(&process_file_c)) };
    let child = command.spawn()?;
    let id = Records::process_id(process_file).filter(|id| i64::from(id.pid) == i64::from(child.id()));
    // In a container whose /proc belongs to another namespace the numbers differ.
    let id = id.or_else(|| ProcessId::parse(&fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?));
    let id = id.ok_or_else(|| io::Error::other("its process cannot be seen in /proc"))?;
    Ok(Process::child(id))
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path has a NUL byte in it"))
}

/// Runs in the child, between fork and exec: system calls only, no allocation.
fn begin_session(process_file: &CString) -> io::Result<()> {
    // Larger than any line of /proc/<pid>/stat.
    let mut line = [0u8; 2048];
    // SAFETY: paths are NUL-terminated, the buffer has the length given; descriptors are this process's own.
    unsafe {
        check(i64::from(libc::setsid()))?;
        let stat = check(i64::from(libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)))?;
        let read = check(libc::read(stat as i32, line.as_mut_ptr().cast(), line.len()) as i64)?;
        libc::close(stat as i32);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        let file = check(i64::from(libc::open(process_file.as_ptr(), flags, 0o644)))?;
        let written = check(libc::write(file as i32, line.as_ptr().cast(), read as usize) as i64)?;
        libc::close(file as i32);
        if written == read { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) }
    }
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether the same command may start another time.
pub(crate) fn may_help_to_retry(error: &io::Error) -> bool {
    let passing = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::EDQUOT, libc::ETXTBSY];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}
