//! Building a store from the files of old ones.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::table::{Table, TableView};
use crate::{KeyGroups, LsmError, Options};

/// One file of a snapshot to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFile {
    /// Where it is on the local disk. It is linked into the store's folder, or copied when that is on another device, and can go afterwards. It must
    /// not be changed in place.
    pub path: PathBuf,
    /// As the snapshot gave it ([`SnapshotFile::checksum`](crate::SnapshotFile::checksum)); passed on to later snapshots. Reading does not
    /// depend on it: blocks are checked one by one.
    pub checksum: u64,
    /// As the snapshot gave them ([`SnapshotFile::key_groups`](crate::SnapshotFile::key_groups)), or fewer.
    pub key_groups: KeyGroups,
}

/// What the files hold of the store's key groups.
pub(crate) fn take_over(folder: &Path, options: &Options, files: &[RestoreFile]) -> Result<Vec<TableView>, LsmError> {
    let own_names = format!("{}-", options.prefix);
    let mut tables: HashMap<String, Arc<Table>> = HashMap::new();
    let mut views = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let groups = file.key_groups.intersection(options.key_groups);
        if groups.is_empty() {
            continue;
        }
        // Not the file's own name, which is known only when it was read.
        let path = folder.join(format!("{number:08}.restored"));
        link(&file.path, &path)?;
        let table = Table::open(&path, file.checksum)?;
        if table.name().starts_with(&own_names) {
            return Err(LsmError::PrefixInUse { name: table.name().to_owned(), prefix: options.prefix.clone() });
        }
        // Two old stores can share a file of a still older one.
        let table = tables.entry(table.name().to_owned()).or_insert_with(|| Arc::new(table)).clone();
        views.extend(TableView::clipped(table, groups)?);
    }
    Ok(views)
}

fn link(from: &Path, to: &Path) -> Result<(), LsmError> {
    let Err(error) = fs::hard_link(from, to) else { return Ok(()) };
    if error.kind() == io::ErrorKind::NotFound {
        return Err(LsmError::io("opening", from, error));
    }
    fs::copy(from, to).map(drop).map_err(|error| {
        // The error of the copy is the one to report.
        let _ = fs::remove_file(to);
        LsmError::io("copying here", to, error)
    })
}
