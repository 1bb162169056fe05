//! Bringing a worker's files into its folder. On one machine that is a copy.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use weir_provider_api::WorkerFile;

/// Copies the files into `folder`, which is made. An error names the file and what is wrong with it.
pub(crate) fn place(files: &[WorkerFile], folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("its folder {} cannot be made: {error}", folder.display()))?;
    for file in files {
        place_one(file, folder)
            .map_err(|problem| format!("its file {:?} from {:?}: {problem}", file.path, file.uri))?;
    }
    Ok(())
}

fn place_one(file: &WorkerFile, folder: &Path) -> Result<(), String> {
    let source = local_path(&file.uri)?;
    let inside = Path::new(&file.path);
    let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    if file.path.is_empty() || !plain {
        return Err("its path has to stay in the worker's folder: no leading slash, no ..".to_owned());
    }
    let target = folder.join(inside);
    copy(&source, &target, file.sha256).map_err(|error| error.to_string())?;
    if file.executable {
        let permissions = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&target, permissions).map_err(|error| format!("cannot be made executable: {error}"))?;
    }
    Ok(())
}

fn local_path(uri: &str) -> Result<PathBuf, String> {
    let path = match uri.split_once("://") {
        None => uri,
        Some(("file", path)) => path,
        Some((scheme, _)) => {
            return Err(format!("{scheme}:// cannot be fetched by the standalone provider, only file:// can"));
        }
    };
    if path.starts_with('/') { Ok(PathBuf::from(path)) } else { Err("it has to be an absolute path".to_owned()) }
}

fn copy(source: &Path, target: &Path, sha256: Option<[u8; 32]>) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut digest = Digesting { file: File::create(target)?, digest: Sha256::new() };
    io::copy(&mut File::open(source)?, &mut digest)?;
    let found: [u8; 32] = digest.digest.finalize().into();
    match sha256 {
        Some(expected) if expected != found => {
            let text = |digest: [u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            Err(io::Error::other(format!("its SHA-256 is {}, expected was {}", text(found), text(expected))))
        }
        Some(_) | None => Ok(()),
    }
}

/// Copies and digests in one go.
struct Digesting {
    file: File,
    digest: Sha256,
}

impl io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_copied_verified_and_made_executable() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "abc").unwrap();
        let sha256 = Sha256::digest("abc").into();
        let uri = format!("file://{}", source.display());
        let file = WorkerFile { path: "lib/it".to_owned(), uri, sha256: Some(sha256), executable: true };
        let folder = dir.path().join("worker");
        place(std::slice::from_ref(&file), &folder).unwrap();
        let target = folder.join("lib/it");
        assert_eq!(fs::read(&target).unwrap(), b"abc");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o111, 0o111);

        let check = |change: &dyn Fn(&mut WorkerFile), expected: &str| {
            let mut file = file.clone();
            change(&mut file);
            let problem = place(&[file], &folder).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        };
        check(&|file| file.sha256 = Some([0; 32]), "SHA-256");
        check(&|file| file.path = "../it".to_owned(), "has to stay");
        check(&|file| file.path = "/it".to_owned(), "has to stay");
        check(&|file| file.path.clear(), "has to stay");
        check(&|file| file.uri = "hdfs://nn/it".to_owned(), "only file://");
        check(&|file| file.uri = "relative".to_owned(), "absolute");
        check(&|file| file.uri = "/nonexistent/file".to_owned(), "No such file");
    }
}
