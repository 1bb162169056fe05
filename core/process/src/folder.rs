//! Folders that nobody else may look into or put something into.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Makes a folder that only this process's user can enter, with those above it that are missing; or makes sure that the one that is
/// there is such a folder.
///
/// Where others can write, as in `/tmp`, somebody may have put something under the name before.
///
/// # Errors
/// It cannot be made, or it is a symbolic link, no folder, or somebody else's; the text says which, and what to do about it.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let refused = |problem: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return refused(
            "it is a symbolic link, behind which somebody else may look on; name the folder that it leads to, or remove it"
                .to_owned(),
        );
    }
    // SAFETY: the call has no preconditions.
    let user = unsafe { libc::geteuid() };
    if metadata.uid() != user {
        return refused(format!(
            "it belongs to the user {}, and this process runs as {user}; remove it, or choose another folder",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(metadata.mode() & 0o7700 | 0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_folder_is_made_or_closed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        private_folder(&path).unwrap();
        assert_eq!((mode(&base.path().join("a")), mode(&path)), (0o700, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        private_folder(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn what_somebody_else_may_have_put_there_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        symlink(base.path(), &link).unwrap();
        let error = private_folder(&link).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        fs::write(base.path().join("file"), "").unwrap();
        private_folder(&base.path().join("file")).unwrap_err();
        // Either way `/` is no folder to keep secrets in: it is somebody else's, or cannot be made private by a test.
        // SAFETY: the call has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            let error = private_folder(Path::new("/")).unwrap_err().to_string();
            assert!(error.contains("belongs to the user 0"), "{error}");
        } else {
            std::os::unix::fs::chown(base.path(), Some(12_345), None).unwrap();
            let error = private_folder(base.path()).unwrap_err().to_string();
            assert!(error.contains("belongs to the user 12345"), "{error}");
        }
    }
}
