//! Restoring a meta snapshot: plan, show, verify, apply.
//!
//! [`plan`] reads everything and decides; the [`Plan`] is pure data and printing it is the dry run.
//! [`verify()`] looks at the data files. [`apply`] fills an empty meta store, all or nothing. Nothing is
//! written before `apply`, and a crash in it leaves the store empty, so that running it again works.
//!
//! No number is ever used twice in a data directory: the restored cluster goes on where the lease, the
//! manifest and the snapshot say that nothing was used yet. Its first server takes the lease as its next
//! generation, which deposes a server of the old cluster that is still there.

mod show;

use super::manifest::{Manifest, ManifestEntry};
use super::verify::{self, Progress};
use super::{BackupError, OpenLocation, SnapshotReader};
use crate::epoch::Epoch;
use crate::hummock::checkpoint::{self, Checkpoint};
use crate::hummock::lease::{self, LeaseError, Reserved};
use crate::hummock::version::Version;
use crate::id::{SnapshotId, SstId};
use crate::layout;
use crate::meta::keys;
use crate::meta::state::{NextIds, State, json_pair};
use crate::meta::store::{MetaStore, Pair, StoreError};
use crate::params::{DATA_DIRECTORY, STATE_STORE};
use crate::storage::{Storage, StorageLocation};
use crate::storage_url::{is_same_place, mask, without_hummock};

/// What to restore, from where.
#[derive(Clone, Debug)]
pub struct Request {
    pub snapshot_id: SnapshotId,
    pub backup: StorageLocation,
    /// Where the data files are: the state store and the data directory.
    pub hummock: StorageLocation,
    /// Read every data file and compare checksums, beside existence and size.
    pub validate_integrity: bool,
    /// Unix time in milliseconds, from which ages are told.
    pub now_ms: u64,
}

/// What a restore will do. Printing it is the dry run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub request: Request,
    pub entry: ManifestEntry,
    /// The snapshot of this place that was taken last.
    pub newest: ManifestEntry,
    /// The name of the store that will be filled.
    pub target: String,
    /// The version to restore, under the id it will have.
    pub version: Version,
    /// Where the numbers of the restored cluster begin.
    pub ids: NextIds,
    /// The pairs to restore, but for the one that names the version's checkpoint.
    pub pairs: Vec<Pair>,
}

/// Decides how to do what is asked, or why it cannot be done. Writes nothing.
pub async fn plan(request: Request, target: &dyn MetaStore) -> Result<Plan, BackupError> {
    let backup = OpenLocation::open_existing(&request.backup)?;
    let manifest = Manifest::read(&backup.storage, &backup.directory).await?;
    let (entry, newest) = find_entry(&manifest, &backup, request.snapshot_id)?;
    let path = layout::snapshot(&backup.directory, request.snapshot_id);
    let reader = SnapshotReader::open(&backup.storage, &path, Some(&entry)).await?;
    if !entry.sha256.is_empty() {
        reader.check_whole(&entry.sha256).await?;
    }
    let pairs = reader.all_pairs().await?;
    let state = State::decode(&pairs, reader.version().await?)?;
    check_empty(target).await?;
    check_params(&state, &request.hummock)?;
    let hummock = request.hummock.open_existing()?;
    let reserved = reserved_in(&hummock, &request.hummock.directory, &state.cluster_id).await?;
    let snapshot = super::next_snapshot_id(&backup, state.next.snapshot).await?;
    let ids = NextIds {
        object: state.next.object.max(reserved.object),
        sst: state.next.sst.max(reserved.sst),
        snapshot: snapshot.max(reserved.snapshot),
    };
    let mut version = Version::clone(&state.version);
    version.id = version.id.max(reserved.version);
    let floor = state.epoch_floor.max(reserved.epoch).max(newest.max_committed_epoch);
    let pairs = continued(pairs, state.revision + 1, ids, floor);
    let target = target.name().to_owned();
    Ok(Plan { request, entry, newest, target, version, ids, pairs })
}

/// Makes sure that the data files are there as they were written.
pub async fn verify(plan: &Plan, progress: Progress<'_>) -> Result<(), BackupError> {
    let location = &plan.request.hummock;
    let storage = location.open_existing()?;
    verify::objects(&plan.version, &storage, &location.directory, progress).await?;
    if plan.request.validate_integrity {
        verify::checksums(&plan.version, &storage, &location.directory, progress).await?;
    }
    Ok(())
}

/// Fills the target: everything or nothing.
pub async fn apply(plan: &Plan, target: &dyn MetaStore) -> Result<(), BackupError> {
    check_empty(target).await?;
    let location = &plan.request.hummock;
    let storage = location.open_existing()?;
    let checkpoint = checkpoint::write(&storage, &location.directory, &plan.version).await?;
    let pair = json_pair(keys::VERSION_CHECKPOINT.to_owned(), &checkpoint);
    let mut pairs = plan.pairs.clone();
    pairs.push(pair.clone());
    pairs.sort();
    match target.fill(pairs).await {
        Ok(()) => Ok(()),
        Err(error) => settle_unfilled(target, &storage, &checkpoint, &pair, error).await,
    }
}

/// The store did not take the pairs, or did and could not say so. The checkpoint goes only if it is
/// certain that the store does not name it.
async fn settle_unfilled(
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
        Err(_) => tracing::warn!(path = checkpoint.path, "a checkpoint may stay behind"),
    }
    Err(match error {
        StoreError::NotEmpty { store } => BackupError::NotEmpty { store },
        error => error.into(),
    })
}

/// The snapshot asked for, and the one taken last.
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

/// The data of the snapshot must be where the restored cluster will look for it.
fn check_params(state: &State, hummock: &StorageLocation) -> Result<(), BackupError> {
    let (url, directory) = (state.params.value(STATE_STORE), state.params.value(DATA_DIRECTORY));
    if !is_same_place(url, &hummock.url) {
        let [snapshot, given] = [url, &hummock.url].map(|url| mask(without_hummock(url)));
        return Err(BackupError::UrlMismatch { snapshot, given });
    }
    if layout::directory(directory) != layout::directory(&hummock.directory) {
        let [snapshot, given] = [directory, &hummock.directory].map(str::to_owned);
        return Err(BackupError::DirectoryMismatch { snapshot, given });
    }
    Ok(())
}

/// What may have been used in the data directory: what the lease says or, where a copy of the
/// directory came without it, the data files that are there.
async fn reserved_in(
    storage: &Storage,
    data_dir: &str,
    cluster_id: &str,
) -> Result<Reserved, BackupError> {
    if let Some(record) = lease::read(storage, data_dir).await? {
        if record.cluster_id != cluster_id {
            let cluster_id = record.cluster_id;
            return Err(LeaseError::OtherCluster { cluster_id }.into());
        }
        return Ok(record.reserved);
    }
    let objects = storage.list(&layout::directory(data_dir)).await?;
    let files = objects.iter().filter_map(|object| layout::parse_sst(&object.location));
    let sst = files.map(|id| SstId(id.0.saturating_add(1))).max().unwrap_or_default();
    Ok(Reserved { sst, ..Reserved::default() })
}

/// The pairs of the snapshot, as the restored cluster goes on from them. All others stay as they are,
/// whatever they are.
fn continued(mut pairs: Vec<Pair>, revision: u64, ids: NextIds, epoch_floor: Epoch) -> Vec<Pair> {
    let replaced = [keys::REVISION, keys::NEXT_IDS, keys::EPOCH_FLOOR];
    pairs.retain(|pair| !replaced.contains(&pair.key.as_str()));
    pairs.push(json_pair(keys::REVISION.to_owned(), &revision));
    pairs.push(json_pair(keys::NEXT_IDS.to_owned(), &ids));
    pairs.push(json_pair(keys::EPOCH_FLOOR.to_owned(), &epoch_floor));
    pairs.sort();
    pairs
}

#[cfg(test)]
mod tests;
