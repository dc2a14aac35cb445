//! Checks one snapshot. The listing of a data directory and the checksums of files are reused for the next
//! snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::files::{Proven, checksums_unless, sizes};
use super::{Check, DataAt, Level, Progress, Whole, read_whole};
use crate::backup::listing::Listing;
use crate::backup::{BackupError, ManifestEntry, OpenLocation};
use crate::error::HummockError;
use crate::layout;
use crate::state::State;
use crate::storage::{StorageError, StorageLocation};

/// Why a check failed: damage was found, or the check could not be done.
#[derive(Debug)]
pub enum CheckFailure {
    Damaged(BackupError),
    Unable(BackupError),
}

impl From<BackupError> for CheckFailure {
    fn from(error: BackupError) -> Self {
        match &error {
            BackupError::Damaged { .. }
            | BackupError::ObjectsMissing { .. }
            | BackupError::ObjectsDamaged { .. }
            | BackupError::State(_)
            | BackupError::Hummock(HummockError::Corrupt(_))
            | BackupError::Storage(
                StorageError::NotFound { .. } | StorageError::ChecksumMismatch { .. },
            ) => Self::Damaged(error),
            _ => Self::Unable(error),
        }
    }
}

/// Checks snapshots of one backup location, whose manifest was read before.
pub struct Examiner<'a> {
    location: &'a OpenLocation,
    check: Check,
    data: DataAt<'a>,
    /// Listings of data directories, made after the manifest was read: no snapshot in it names a newer file.
    listed: BTreeMap<StorageLocation, Arc<Listing>>,
    proven: BTreeMap<StorageLocation, Proven>,
}

impl<'a> Examiner<'a> {
    pub fn new(location: &'a OpenLocation, check: Check, data: DataAt<'a>) -> Self {
        Self { location, check, data, listed: BTreeMap::new(), proven: BTreeMap::new() }
    }

    pub fn examine<'b>(
        &'b mut self,
        entry: &'b ManifestEntry,
        progress: Progress<'b>,
    ) -> BoxFuture<'b, Result<(), CheckFailure>> {
        self.look_at(entry, progress).boxed()
    }

    async fn look_at(
        &mut self,
        entry: &ManifestEntry,
        progress: Progress<'_>,
    ) -> Result<(), CheckFailure> {
        if self.check.level == Level::List {
            return Ok(check_size(self.location, entry).await?);
        }
        let Whole { state, .. } = read_whole(self.location, entry).await?;
        if self.check.level == Level::Meta {
            return Ok(());
        }
        let named = state.params.data_location();
        let copies =
            entry.info.copy_data.then(|| self.location.copies(&entry.info.life).storage_location());
        match self.data {
            DataAt::Named if copies.is_some() => {}
            DataAt::Named => self.look_in(&named, &state, progress).await?,
            DataAt::Location(location) => self.look_in(location, &state, progress).await?,
            DataAt::LocationOrNamed(location) => {
                match self.look_in(location, &state, progress).await {
                    // The cluster may have been restored to this location from another snapshot, whose
                    // files alone are there.
                    Err(CheckFailure::Damaged(_)) if *location != named => {
                        self.look_in(&named, &state, progress).await?;
                    }
                    looked => looked?,
                }
            }
        }
        match copies {
            Some(copies) => self.look_in(&copies, &state, progress).await,
            None => Ok(()),
        }
    }

    /// Checks the data files of `state` in `location`.
    fn look_in<'b>(
        &'b mut self,
        location: &'b StorageLocation,
        state: &'b State,
        progress: Progress<'b>,
    ) -> BoxFuture<'b, Result<(), CheckFailure>> {
        self.look_for_files(location, state, progress).boxed()
    }

    async fn look_for_files(
        &mut self,
        location: &StorageLocation,
        state: &State,
        progress: Progress<'_>,
    ) -> Result<(), CheckFailure> {
        // A location that does not exist proves nothing about the files that should be in it.
        let opened = OpenLocation::open_existing(location).map_err(CheckFailure::Unable)?;
        let listed = self.listing(location, &opened).await?;
        let subset = self.check.subset;
        sizes(&state.version, &listed, subset, progress)?;
        if self.check.level == Level::Checksum {
            let proven = self.proven.entry(location.clone()).or_default();
            checksums_unless(proven, &state.version, &opened, subset, progress).await?;
        }
        Ok(())
    }

    async fn listing(
        &mut self,
        location: &StorageLocation,
        opened: &OpenLocation,
    ) -> Result<Arc<Listing>, BackupError> {
        if let Some(listed) = self.listed.get(location) {
            return Ok(Arc::clone(listed));
        }
        let listed = Arc::new(Listing::of(opened).await?);
        self.listed.insert(location.clone(), Arc::clone(&listed));
        Ok(listed)
    }
}

async fn check_size(location: &OpenLocation, entry: &ManifestEntry) -> Result<(), BackupError> {
    let path = layout::snapshot(&location.directory, entry.info.id);
    let (found, listed) = (location.storage.size(&path).await?, entry.size_bytes);
    match listed {
        0 => Ok(()),
        listed if listed == found => Ok(()),
        listed => {
            let what = format!("it has {found} bytes, the manifest says {listed}");
            Err(BackupError::damaged(&location.storage.name_of(&path), what))
        }
    }
}
