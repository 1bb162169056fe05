//! Folders that only this user can enter, and that go when they are not needed any more.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest path of a folder in which a socket can be bound: the system has 108 bytes for the whole path.
const LONGEST: usize = 90;

/// A folder of mode 0700 under a name nobody can guess. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Makes one in `base`, or in `/tmp` if `base` is too long for the path of a socket.
    pub(crate) fn new(base: &Path) -> io::Result<PrivateFolder> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("weir-{:016x}", u64::from_ne_bytes(random));
        let fits = base.as_os_str().len() + 1 + name.len() <= LONGEST;
        let base = if fits { base } else { Path::new("/tmp") };
        let path = base.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(PrivateFolder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
