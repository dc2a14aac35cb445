//! Leftovers of killed processes in a storage: unfinished files, and probes. Listings of objects leave them
//! out.

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::time::UNIX_EPOCH;

use object_store::path::Path;

use super::{Storage, StorageError, durable};
use crate::storage_url::StorageUrl;

/// The prefix of a probe's name.
pub(super) const PROBE: &str = ".probe-";

/// An unfinished file, or a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub directory: Path,
    pub name: String,
    pub size_bytes: u64,
    /// When it was last written to; Unix time in milliseconds.
    pub modified_ms: u64,
}

impl Leftover {
    /// Its full path, like that of an object.
    pub fn path(&self) -> String {
        match self.directory.as_ref() {
            "" => self.name.clone(),
            directory => format!("{directory}/{}", self.name),
        }
    }

    /// The object it was to become; `None` for a probe.
    pub fn object(&self) -> Option<Path> {
        staged_for(&self.name).map(|name| self.directory.clone().join(name))
    }
}

/// The final name of a file that is being written; `None` if this is not the name of such a file.
fn staged_for(name: &str) -> Option<&str> {
    let (object, digits) = name.rsplit_once('#')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (is_number && !object.is_empty()).then_some(object)
}

/// Whether a name is that of a leftover. The lock of a probe has one more leading dot than the probe.
pub fn is_leftover(name: &str) -> bool {
    let is_probe = name.starts_with(PROBE)
        || name.strip_prefix('.').is_some_and(|name| name.starts_with(PROBE));
    is_probe || staged_for(name).is_some()
}

impl Storage {
    /// The leftovers under a directory, at any depth. On a store that is not a file system, only the probes:
    /// it does not list uploads that were not completed.
    pub async fn leftovers(&self, directory: &Path) -> Result<Vec<Leftover>, StorageError> {
        let Some(root) = self.below_root(directory.as_ref()) else {
            return self.probes(directory).await;
        };
        let below = directory.clone();
        durable::blocking(move || {
            let mut found = vec![];
            walk(&root, &below, &mut found)?;
            Ok(found)
        })
        .await
        .map_err(|e| StorageError::io("list", self.name_of(directory), e))
    }

    async fn probes(&self, directory: &Path) -> Result<Vec<Leftover>, StorageError> {
        let mut found = vec![];
        self.for_each_with_hidden(directory, |object| {
            let Some(name) = object.location.filename().filter(|name| is_leftover(name)) else {
                return;
            };
            let (name, parts) = (name.to_owned(), object.location.parts().collect::<Vec<_>>());
            let directory = Path::from_iter(parts[..parts.len() - 1].iter().cloned());
            let modified_ms = object.last_modified.timestamp_millis();
            let modified_ms = u64::try_from(modified_ms).unwrap_or_default();
            found.push(Leftover { directory, name, size_bytes: object.size, modified_ms });
        })
        .await?;
        Ok(found)
    }

    /// The file of this name, if the store is a file system.
    fn below_root(&self, name: &str) -> Option<PathBuf> {
        match self.url() {
            StorageUrl::Fs { root } => Some(root.join(name)),
            _ => None,
        }
    }

    /// Deletes a leftover; it is no error if it does not exist.
    pub async fn delete_leftover(&self, path: &str) -> Result<(), StorageError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        assert!(is_leftover(name), "{path} is an object");
        self.check_writable(&Path::from(path))?;
        let Some(file) = self.below_root(path) else {
            return self.delete(&Path::from(path)).await;
        };
        let gone = durable::blocking(move || match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        gone.await.map_err(|e| StorageError::io("delete", path.to_owned(), e))
    }
}

fn walk(dir: &FilePath, directory: &Path, found: &mut Vec<Leftover>) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &directory.clone().join(name), found)?;
        } else if is_leftover(&name) {
            found.extend(look_at(&entry, directory, name)?);
        }
    }
    Ok(())
}

/// `None` if the file was finished or removed meanwhile.
fn look_at(
    entry: &std::fs::DirEntry,
    directory: &Path,
    name: String,
) -> io::Result<Option<Leftover>> {
    let metadata = match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified_ms = u64::try_from(modified.as_millis()).unwrap_or(u64::MAX);
    let (directory, size_bytes) = (directory.clone(), metadata.len());
    Ok(Some(Leftover { directory, name, size_bytes, modified_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageLocation;

    #[test]
    fn a_leftover_is_known_by_its_name() {
        for (name, object) in [("17.data#340", Some("17.data")), (".probe-ab", None)] {
            assert!(is_leftover(name), "{name}");
            assert_eq!(staged_for(name), object, "{name}");
        }
        assert!(is_leftover("..probe-ab.lock"));
        for name in ["17.data", "17.data#", "17.data#x1", "#12", ".lease.json.lock", "probe-ab"] {
            assert!(!is_leftover(name), "{name}");
        }
    }

    #[tokio::test]
    async fn what_was_being_written_is_found_and_can_be_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("fs://{}", dir.path().display());
        let storage = StorageLocation::new(url, "data").open().unwrap();
        let data = Path::from("data");
        assert_eq!(storage.leftovers(&data).await.unwrap(), []);
        let path = Path::from("data/sub/7.data");
        storage.put_new(&path, "whole".into()).await.unwrap();
        let mut unfinished = storage.writer(&Path::from("data/sub/8.data")).await.unwrap();
        unfinished.write("half".into()).await.unwrap();
        let found = storage.leftovers(&data).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].object(), Some(Path::from("data/sub/8.data")));
        assert!(found[0].path().starts_with("data/sub/8.data#"), "{found:?}");
        for _ in 0..2 {
            storage.delete_leftover(&found[0].path()).await.unwrap();
        }
        assert_eq!(storage.leftovers(&data).await.unwrap(), []);
        assert_eq!(storage.list(&data).await.unwrap().len(), 1);
        drop(unfinished);
    }
}
