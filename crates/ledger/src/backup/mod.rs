//! Snapshots of the truth, and restoring them; needs no running server.
//!
//! A meta snapshot is one object with all metadata and the version it belongs to ([`snapshot`]); the
//! manifest beside it says which snapshots exist ([`manifest`]). On create the object comes first and
//! the manifest last, on delete the other way round, so a listed snapshot is always whole.
//! A restore is planned, shown, verified and applied ([`restore`], [`verify`]).
//!
//! A snapshot may also have copies of the data files it names, beside it in the backup directory
//! ([`copy`]); then it outlives the data directory.

pub mod copy;
mod create;
mod detail;
mod error;
mod info;
pub mod listing;
pub mod manifest;
pub mod restore;
pub mod snapshot;
mod verification;
pub mod verify;

pub use create::{
    NewSnapshot, create_snapshot, create_snapshot_with_copies, delete_snapshots, files_of,
    next_snapshot_id,
};
pub use detail::tables_of_each;
pub use error::BackupError;
pub use info::{FORMAT, ManifestEntry, SnapshotDetail, SnapshotInfo, TableInfo, Tables, tables_of};
pub use manifest::{Claim, Manifest};
pub use snapshot::SnapshotReader;

use std::fmt;
use std::sync::Arc;

use crate::layout;
use crate::storage::{Storage, StorageLocation};
use crate::version::{FileEntry, Version};

/// The files that are objects. Inline rows are covered by the checksums of the snapshot.
pub fn objects_of(version: &Version) -> impl Iterator<Item = &Arc<FileEntry>> {
    version.all_files().filter(|file| file.sst.is_object())
}

/// A place for snapshots, open.
#[derive(Clone, Debug)]
pub struct OpenLocation {
    pub storage: Storage,
    pub directory: String,
}

impl OpenLocation {
    /// Opens the place; a root directory that is missing is made.
    pub fn open(location: &StorageLocation) -> Result<Self, BackupError> {
        let storage = location.open()?;
        Ok(Self { storage, directory: location.directory.clone() })
    }

    /// A directory in a memory store that nobody else has.
    pub fn in_memory(directory: &str) -> Self {
        Self { storage: Storage::in_memory(), directory: directory.to_owned() }
    }

    /// Opens the place without making anything.
    pub fn open_existing(location: &StorageLocation) -> Result<Self, BackupError> {
        let storage = location.open_existing()?;
        Ok(Self { storage, directory: location.directory.clone() })
    }

    /// Where the copies of data files are that snapshots name that a life of the cluster takes here.
    #[must_use]
    pub fn copies(&self, life: &str) -> Self {
        let (storage, directory) = (self.storage.clone(), layout::copies(&self.directory, life));
        Self { storage, directory }
    }

    /// The place, as a URL and a directory; holds its credentials.
    pub fn place(&self) -> StorageLocation {
        StorageLocation::new(self.storage.url().to_string(), self.directory.clone())
    }
}

impl fmt::Display for OpenLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.storage.name_of(&layout::directory(&self.directory)))
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
