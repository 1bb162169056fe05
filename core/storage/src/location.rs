//! From a URI of the configuration to a file system and a path in it.

use std::sync::Arc;

use crate::{FileSystem, LocalFileSystem, StorageError};

/// A place in some file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// E.g. `file`.
    pub scheme: String,
    /// Host, name service or bucket; empty for `file`.
    pub authority: String,
    /// Begins with `/` and does not end with one, unless it is the root.
    pub path: String,
}

impl Location {
    /// Takes a URI, or an absolute path of this machine.
    pub fn parse(text: &str) -> Result<Location, StorageError> {
        let wrong =
            |problem: &str| StorageError::InvalidLocation { found: text.to_owned(), problem: problem.to_owned() };
        let (scheme, authority, path) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let start = rest.find('/').unwrap_or(rest.len());
                (scheme.to_ascii_lowercase(), &rest[..start], &rest[start..])
            }
            None if text.starts_with('/') => ("file".to_owned(), "", text),
            None => return Err(wrong("it has neither a scheme nor does it begin with `/`")),
        };
        if scheme == "file" && !authority.is_empty() {
            return Err(wrong("file:// is followed by an absolute path, so by a third `/`"));
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            return Err(wrong("`.` and `..` are not allowed in it"));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Ok(Location { scheme, authority: authority.to_owned(), path: format!("/{}", parts.join("/")) })
    }
}

/// The file system at a place, and the path of the place in it. `text` is a URI or an absolute path of this machine.
pub fn file_system(text: &str) -> Result<(Arc<dyn FileSystem>, String), StorageError> {
    let location = Location::parse(text)?;
    match location.scheme.as_str() {
        "file" => Ok((Arc::new(LocalFileSystem), location.path)),
        _ => Err(StorageError::UnsupportedScheme { found: text.to_owned(), scheme: location.scheme }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_uris_name_the_same_place() {
        for text in ["/a/b", "file:///a/b", "FILE:///a//b/"] {
            let (found, path) = file_system(text).unwrap();
            assert_eq!((found.scheme(), path.as_str()), ("file", "/a/b"), "{text}");
        }
        let hdfs = Location::parse("hdfs://names:8020/weir/x").unwrap();
        assert_eq!((hdfs.authority.as_str(), hdfs.path.as_str()), ("names:8020", "/weir/x"));
        assert_eq!(Location::parse("s3://bucket").unwrap().path, "/");
    }

    #[test]
    fn what_is_not_served_is_said() {
        let check = |text: &str, expect: &str| {
            let error = file_system(text).expect_err(text).to_string();
            assert!(error.contains(expect) && error.contains(text), "{error}");
        };
        check("hdfs://names/x", "hdfs://, which this version of Weir does not have: it has file://");
        check("s3://bucket/x", "s3://, which");
        check("relative/path", "neither a scheme");
        check("file://host/x", "third `/`");
        check("file:///a/../b", "`..`");
    }
}
