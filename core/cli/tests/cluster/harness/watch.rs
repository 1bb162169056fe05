//! Changes of folders, told the moment they happen.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::PATIENCE;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is there now under this name: made, linked or renamed.
    Appeared,
    /// It is no longer there under this name.
    Gone,
}

/// Sees what happens to files in some folders and in those below them.
pub(crate) struct Watch {
    inotify: OwnedFd,
    folders: HashMap<i32, PathBuf>,
    /// Not told yet, the last one first.
    changes: Vec<(Change, PathBuf)>,
}

const EVENTS: u32 = libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_MOVED_FROM | libc::IN_DELETE;

impl Watch {
    /// From now on. The folders have to be there.
    pub(crate) fn of(folders: &[PathBuf]) -> Watch {
        // SAFETY: the call takes no pointer, and the descriptor it returns belongs to nobody else.
        let inotify = unsafe {
            let descriptor = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
            assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(descriptor)
        };
        let mut watch = Watch { inotify, folders: HashMap::new(), changes: Vec::new() };
        folders.iter().for_each(|folder| drop(watch.add(folder)));
        watch
    }

    /// Watches a folder, and those in it. Returns the files that are there already.
    fn add(&mut self, folder: &Path) -> Vec<PathBuf> {
        let path = CString::new(folder.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a string that ends with a zero and outlives the call.
        let id = unsafe { libc::inotify_add_watch(self.inotify.as_raw_fd(), path.as_ptr(), EVENTS) };
        // Otherwise it is gone again.
        if id >= 0 {
            self.folders.insert(id, folder.to_owned());
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                files.extend(self.add(&entry.path()));
            } else {
                files.push(entry.path());
            }
        }
        files
    }

    /// Forgets what has happened and was not asked for.
    pub(crate) fn forget(&mut self) {
        while self.read() {}
        self.changes.clear();
    }

    /// Waits until `wanted` is true for a change.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(Change, &Path) -> bool) {
        loop {
            while let Some((change, path)) = self.changes.pop() {
                if wanted(change, &path) {
                    return;
                }
            }
            let mut poll = libc::pollfd { fd: self.inotify.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: the structure is this function's own.
            let ready = unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as libc::c_int) };
            assert!(ready > 0, "waited in vain for {what}");
            self.read();
        }
    }

    /// Takes the changes that there are. Whether there were any.
    fn read(&mut self) -> bool {
        const HEADER: usize = mem::size_of::<libc::inotify_event>();
        let mut buffer = [0_u8; 16 * 1024];
        // SAFETY: the buffer is this function's own and as long as is said.
        let read = unsafe { libc::read(self.inotify.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(read @ 1..) = usize::try_from(read) else { return false };
        let mut rest = &buffer[..read];
        let mut changes = Vec::new();
        while let Some((header, behind)) = rest.split_at_checked(HEADER) {
            // SAFETY: there are as many bytes as the structure has, all of which may be anything.
            let event: libc::inotify_event = unsafe { header.as_ptr().cast::<libc::inotify_event>().read_unaligned() };
            let (name, behind) = behind.split_at(event.len as usize);
            rest = behind;
            let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
            let Some(folder) = self.folders.get(&event.wd) else { continue };
            let path = folder.join(std::ffi::OsStr::from_bytes(name));
            let change =
                if event.mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0 { Change::Appeared } else { Change::Gone };
            if event.mask & libc::IN_ISDIR == 0 {
                changes.push((change, path));
            } else if change == Change::Appeared {
                changes.extend(self.add(&path).into_iter().map(|file| (Change::Appeared, file)));
            }
        }
        changes.reverse();
        self.changes.splice(0..0, changes);
        true
    }
}
