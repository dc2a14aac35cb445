//! Restores a meta snapshot: plan, show, verify, apply.
//!
//! [`plan`] reads everything and decides; the [`Plan`] is pure data, and printing it is the dry run.
//! [`copy()`] copies the data files to another location, if that is requested; [`verify()`] checks them.
//! [`apply`] fills an empty meta store, all or nothing. The store is not written before `apply`, and a crash
//! in `apply` leaves it empty, so that running it again works. Files that were copied before a crash are not
//! copied again.
//!
//! No number is ever used twice in a data directory: the restored cluster continues above everything that the
//! lease, the listed snapshots and the objects there have used. Its first server takes the lease as its next
//! generation, which deposes a server of the old cluster that is still running.

mod json;
mod loss;
mod numbers;
mod overwrite;
mod show;
mod target;

pub use loss::{Loss, NewestCommit, TableLoss, UnnamedFiles};
pub use overwrite::Overwrite;
pub use target::Target;

use super::copy::{CopyPlan, copy_files};
use super::listing::Listing;
use super::manifest::Manifest;
use super::verify::{self, Progress, Subset, Whole};
use super::{BackupError, ManifestEntry, OpenLocation, Tables, tables_of};
use crate::checkpoint::{self, Checkpoint};
use crate::epoch::Epoch;
use crate::id::SnapshotId;
use crate::lease::Incarnation;
use crate::meta_store::{MetaStore, Pair, StoreError};
use crate::params::{BACKUP_STORAGE_URL, STATE_STORE};
use crate::state::{NextIds, State, json_pair, seal};
use crate::storage::{Storage, StorageError, StorageLocation};
use crate::version::Version;
use crate::{keys, layout};

/// What to restore, from where.
#[derive(Clone, Debug)]
pub struct Request {
    pub snapshot_id: SnapshotId,
    pub backup: StorageLocation,
    /// Where the data files are, or will be: the state store and the data directory.
    pub hummock: StorageLocation,
    /// Read every data file and compare checksums, in addition to existence and size.
    pub validate_integrity: bool,
    /// The current Unix time in milliseconds, for the ages in the plan.
    pub now_ms: u64,
    pub overwrite: Overwrite,
    /// Copy the data files to `hummock` first.
    pub copy_data: bool,
    /// Only the plan is requested.
    pub dry_run: bool,
}

/// What a restore will do. Printing it is the dry run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub request: Request,
    pub entry: ManifestEntry,
    /// The snapshot of this backup location that was taken last.
    pub newest: ManifestEntry,
    /// The tables that are restored.
    pub tables: Tables,
    /// The store that will be filled, and what it holds.
    pub target: Target,
    /// What was committed after the snapshot, as far as it is known.
    pub loss: Loss,
    /// The version to restore, under the id it will have.
    pub version: Version,
    /// The first ids of the restored cluster.
    pub ids: NextIds,
    /// The data files to copy first.
    pub copy: Option<Copy>,
    /// Parameters whose value differs from that in the snapshot.
    pub overwritten: Vec<(&'static str, String)>,
    /// The pairs to restore, except for the one that names the version's checkpoint.
    pub pairs: Vec<Pair>,
    /// The content of the data directory.
    listed: Listing,
}

/// Data files to copy.
#[derive(Clone, Debug)]
pub struct Copy {
    pub from: StorageLocation,
    pub files: CopyPlan,
}

/// Plans the restore, or fails with the reason why it is impossible. Writes nothing. A target that is not
/// empty is part of the plan: [`Plan::check_target`] refuses it.
pub async fn plan(request: Request, target: &dyn MetaStore) -> Result<Plan, BackupError> {
    let backup = OpenLocation::open_existing(&request.backup)?;
    let manifest = find_manifest(&backup).await?;
    let (entry, newest) = find_entry(&manifest, &backup, request.snapshot_id)?;
    let Whole { pairs, state } = verify::read_whole(&backup, &entry).await?;
    let target = Target::of(target).await?;
    let overwritten = overwrite::params(&request, &state)?;
    let (hummock, listed) = open_hummock(&request).await?;
    let source =
        if request.copy_data { Some(open_source(&entry, &backup, &state).await?) } else { None };

    let mut reserved = numbers::reserved_by_snapshots(&backup, &manifest, &entry).await?;
    if let Some(location) = &hummock {
        let found = numbers::reserved_in(location, &listed, &state.cluster_id).await?;
        reserved = reserved.max(found);
    }
    if let Some((location, listed)) = &source {
        reserved = reserved.max(numbers::reserved_in(location, listed, &state.cluster_id).await?);
    }
    let traces = loss::LossSources {
        data: match &source {
            Some((location, listed)) => Some((location, listed)).filter(|_| !entry.info.copy_data),
            None => hummock.as_ref().map(|location| (location, &listed)),
        },
        backup: &backup,
        entry: &entry,
        newest: &newest,
        thorough: request.dry_run,
    };
    let loss = loss::estimate(&state, &traces).await;
    let copy = match &source {
        Some((location, _)) => {
            let to =
                hummock.as_ref().map_or_else(|| request.hummock.to_string(), ToString::to_string);
            let files = CopyPlan::new(&state.version, &listed);
            files.check_free(&to)?;
            Some(Copy { from: location.storage_location(), files })
        }
        None => None,
    };

    let snapshot = super::next_snapshot_id(&backup, state.next.snapshot).await?;
    let ids = NextIds {
        object: state.next.object.max(reserved.object),
        sst: state.next.sst.max(reserved.sst),
        snapshot: snapshot.max(reserved.snapshot),
    };
    let mut version = Version::clone(&state.version);
    version.id = version.id.max(reserved.version);
    let known = loss.newest.as_ref().map_or(Epoch::ZERO, |newest| newest.epoch);
    let floor = state.epoch_floor.max(reserved.epoch).max(newest.max_committed_epoch).max(known);
    let locations = hummock.iter().chain(source.iter().map(|(location, _)| location));
    let incarnation = numbers::incarnation_after(&state.incarnation, locations).await?;
    let pairs = continued(pairs, state.revision + 1, ids, floor, &incarnation, &overwritten);
    Ok(Plan {
        request,
        entry,
        newest,
        tables: tables_of(&state),
        target,
        loss,
        version,
        ids,
        copy,
        overwritten,
        pairs,
        listed,
    })
}

/// The manifest, or an empty one. A bucket that does not exist is an error, as its name may be misspelt.
async fn find_manifest(backup: &OpenLocation) -> Result<Manifest, BackupError> {
    if let Some(manifest) = Manifest::find(backup).await? {
        return Ok(manifest);
    }
    backup.storage.holds_any(&layout::directory(&backup.directory)).await?;
    Ok(Manifest::default())
}

/// The data directory; `None` if it does not exist yet but files are to be copied there.
async fn open_hummock(request: &Request) -> Result<(Option<OpenLocation>, Listing), BackupError> {
    match OpenLocation::open_existing(&request.hummock) {
        Ok(location) => {
            let listed = Listing::of(&location).await?;
            Ok((Some(location), listed))
        }
        Err(BackupError::Storage(StorageError::NotFound { .. })) if request.copy_data => {
            Ok((None, Listing::default()))
        }
        Err(error) => Err(error),
    }
}

/// The source of the data files: the copies of the snapshot, or the location it names.
async fn open_source(
    entry: &ManifestEntry,
    backup: &OpenLocation,
    state: &State,
) -> Result<(OpenLocation, Listing), BackupError> {
    let location = match entry.info.copy_data {
        true => backup.copies(&entry.info.life),
        false => OpenLocation::open_existing(&state.params.data_location())?,
    };
    let listed = Listing::of(&location).await?;
    Ok((location, listed))
}

impl Plan {
    /// The same plan for a scratch cluster: its checkpoint, its lease and its backups are in the storage at
    /// `url`, and nothing is written anywhere else.
    #[must_use]
    pub fn rehearsed_in(mut self, url: &str) -> Self {
        url.clone_into(&mut self.request.hummock.url);
        let params =
            [(STATE_STORE, format!("hummock+{url}")), (BACKUP_STORAGE_URL, url.to_owned())];
        for (name, value) in params {
            let pair = json_pair(keys::param(name), &value);
            self.pairs.retain(|old| old.key != pair.key);
            self.pairs.push(pair);
        }
        self
    }

    /// Refuses a target that is not empty.
    pub fn check_target(&self) -> Result<(), BackupError> {
        match self.target.holds.is_empty() {
            true => Ok(()),
            false => Err(BackupError::NotEmpty { store: self.target.name.clone() }),
        }
    }
}

/// Copies the data files that the data directory of the plan lacks. Does nothing if none are to be copied.
pub async fn copy(plan: &Plan, progress: Progress<'_>) -> Result<(), BackupError> {
    let Some(Copy { from, files }) = &plan.copy else { return Ok(()) };
    let from = OpenLocation::open_existing(from)?;
    let to = OpenLocation::open(&plan.request.hummock)?;
    copy_files(files, &from, &to, progress).await
}

/// Verifies the data files: in a dry run where they will be copied from, if at another location, else where
/// the restored cluster will look for them.
pub async fn verify(plan: &Plan, progress: Progress<'_>) -> Result<(), BackupError> {
    let location = match &plan.copy {
        Some(copy) if plan.request.dry_run => &copy.from,
        _ => &plan.request.hummock,
    };
    let opened = OpenLocation::open_existing(location)?;
    let again = match plan.copy {
        Some(_) => Some(Listing::of(&opened).await?),
        None => None,
    };
    let listed = again.as_ref().unwrap_or(&plan.listed);
    verify::sizes(&plan.version, listed, Subset::ALL, progress)?;
    if plan.request.validate_integrity {
        verify::checksums(&plan.version, &opened, Subset::ALL, progress).await?;
    }
    Ok(())
}

/// Writes the checkpoint and fills the target, all or nothing.
pub async fn apply(plan: &Plan, target: &dyn MetaStore) -> Result<(), BackupError> {
    check_empty(target).await?;
    let location = &plan.request.hummock;
    let storage = location.open_existing()?;
    let checkpoint = checkpoint::write(&storage, &location.directory, &plan.version).await?;
    let pair = seal::checkpoint_pair(checkpoint.clone(), String::new());
    let mut pairs = plan.pairs.clone();
    pairs.push(pair.clone());
    let (pairs, _) = seal::seal_pairs(pairs)?;
    match target.fill(pairs).await {
        Ok(()) => Ok(()),
        Err(error) => resolve_unfilled(target, &storage, &checkpoint, &pair, error).await,
    }
}

/// Resolves a failed fill of the store, which may have taken the pairs all the same. The checkpoint is
/// deleted only if it is certain that the store does not name it.
async fn resolve_unfilled(
    target: &dyn MetaStore,
    storage: &Storage,
    checkpoint: &Checkpoint,
    pair: &Pair,
    error: StoreError,
) -> Result<(), BackupError> {
    match target.get(&pair.key).await {
        Ok(Some(found)) if found == pair.value => return Ok(()),
        Ok(_) => {
            let path = checkpoint::object_path(checkpoint)?;
            if let Err(error) = storage.delete(&path).await {
                tracing::warn!(%error, %path, "a checkpoint nothing names stays behind");
            }
        }
        Err(_) => return Err(BackupError::unsure(target.name(), error.into())),
    }
    Err(match error {
        StoreError::NotEmpty { store } => BackupError::NotEmpty { store },
        error => error.into(),
    })
}

/// The requested snapshot, and the one taken last.
fn find_entry(
    manifest: &Manifest,
    backup: &OpenLocation,
    id: SnapshotId,
) -> Result<(ManifestEntry, ManifestEntry), BackupError> {
    match (manifest.entry(id), manifest.newest()) {
        (Some(entry), Some(newest)) => Ok((entry.clone(), newest.clone())),
        _ => {
            let location = backup.to_string();
            Err(BackupError::NotFound { id, location, known: manifest.ids() })
        }
    }
}

async fn check_empty(target: &dyn MetaStore) -> Result<(), BackupError> {
    match target.list("").await?.is_empty() {
        true => Ok(()),
        false => Err(BackupError::NotEmpty { store: target.name().to_owned() }),
    }
}

/// The pairs that the restored cluster starts with: those of the snapshot, with these values replaced. All
/// others stay as they are, also those unknown to this build.
fn continued(
    mut pairs: Vec<Pair>,
    revision: u64,
    ids: NextIds,
    epoch_floor: Epoch,
    incarnation: &Incarnation,
    overwritten: &[(&'static str, String)],
) -> Vec<Pair> {
    let mut replaced = vec![
        json_pair(keys::REVISION.to_owned(), &revision),
        json_pair(keys::NEXT_IDS.to_owned(), &ids),
        json_pair(keys::EPOCH_FLOOR.to_owned(), &epoch_floor),
        json_pair(keys::INCARNATION.to_owned(), incarnation),
    ];
    replaced.extend(overwritten.iter().map(|(name, value)| json_pair(keys::param(name), value)));
    pairs.retain(|pair| replaced.iter().all(|new| new.key != pair.key));
    pairs.extend(replaced);
    pairs.sort();
    pairs
}

#[cfg(test)]
mod tests;
