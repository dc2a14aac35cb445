//! Meta snapshots: taking, listing, deleting, verifying and restoring them; needs no running server.
//!
//! A meta snapshot is one object with all metadata and the version it belongs to ([`snapshot`]); the manifest
//! in the same directory lists the snapshots ([`manifest`]). A create writes the object first and the
//! manifest last, a delete does it the other way round, so a listed snapshot is always whole. A restore is
//! planned, shown, verified and applied ([`restore`], [`verify`]).
//!
//! A snapshot may also have copies of the data files it names, in the backup directory ([`copy`]); then it
//! survives the loss of the data directory.

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
pub use manifest::{Claim, Manifest, ManifestCache, ReadManifest};
pub use snapshot::SnapshotReader;

use std::fmt;

use crate::layout;
use crate::storage::{Storage, StorageLocation};

/// An open backup location or data directory.
#[derive(Clone, Debug)]
pub struct OpenLocation {
    pub storage: Storage,
    pub directory: String,
}

impl OpenLocation {
    /// Opens the location; creates its root directory if it is missing.
    pub fn open(location: &StorageLocation) -> Result<Self, BackupError> {
        let storage = location.open()?;
        Ok(Self { storage, directory: location.directory.clone() })
    }

    /// A directory in a new memory store.
    pub fn in_memory(directory: &str) -> Self {
        Self { storage: Storage::in_memory(), directory: directory.to_owned() }
    }

    /// Opens the location without creating anything.
    pub fn open_existing(location: &StorageLocation) -> Result<Self, BackupError> {
        let storage = location.open_existing()?;
        Ok(Self { storage, directory: location.directory.clone() })
    }

    /// The directory of the data file copies that belong to the snapshots of this life of the cluster.
    #[must_use]
    pub fn copies(&self, life: &str) -> Self {
        let (storage, directory) = (self.storage.clone(), layout::copies(&self.directory, life));
        Self { storage, directory }
    }

    /// The location as a URL and a directory, with its credentials.
    pub fn storage_location(&self) -> StorageLocation {
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
