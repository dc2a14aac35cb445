//! Takes and deletes snapshots. A listed snapshot is always whole: the manifest is written last when one is
//! taken, and first when one is deleted. Copies of data files are written before both, and deleted after
//! both.

use std::collections::{BTreeSet, HashMap};

use super::copy::{CopyPlan, copy_files};
use super::info::{ManifestEntry, SnapshotDetail};
use super::listing::Listing;
use super::manifest::Manifest;
use super::verify::{self, Subset};
use super::{BackupError, OpenLocation, snapshot};
use crate::id::{SnapshotId, SstId};
use crate::layout;
use crate::sst::SstInfo;
use crate::state::State;

/// Number of copies deleted between two checks that the manifest still has this holder.
const DELETES_PER_CHECK: usize = 100;

/// The identity of a new snapshot.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    pub id: SnapshotId,
    pub remarks: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The server that takes it: the holder of the manifest.
    pub holder: String,
}

impl NewSnapshot {
    /// Visits every file, on a thread for blocking work.
    async fn describe(&self, state: &State) -> SnapshotDetail {
        let (new, state) = (self.clone(), state.clone());
        let describe = move || SnapshotDetail::of(&state, new.id, new.remarks, new.created_at);
        match crate::ambient::blocking(describe).await {
            Ok(info) => info,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is stopping, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Writes a snapshot of `state` as it is, and adds it to the manifest. Forgetting what only epochs before the
/// safe epoch saw is up to the caller.
pub async fn create_snapshot(
    location: &OpenLocation,
    state: &State,
    new: &NewSnapshot,
) -> Result<ManifestEntry, BackupError> {
    let detail = new.describe(state).await;
    check_cluster(location, &detail).await?;
    write_and_list(location, state, detail, &new.holder).await
}

/// The same, with a copy of every data file that the snapshot names: those that are not there yet are copied
/// from `data`. The snapshot is listed once all copies are there.
pub async fn create_snapshot_with_copies(
    location: &OpenLocation,
    state: &State,
    new: &NewSnapshot,
    data: &OpenLocation,
) -> Result<ManifestEntry, BackupError> {
    let mut detail = new.describe(state).await;
    detail.info.copy_data = true;
    check_cluster(location, &detail).await?;
    let copies = location.copies(&detail.info.life);
    let plan = CopyPlan::new(&state.version, &Listing::of(&copies).await?);
    check_broken(location, &detail.info.life, &plan).await?;
    copy_files(&plan, data, &copies, &|_, _| {}).await?;
    // Listed once more: copies that another server has deleted meanwhile must not be missed only at a
    // restore.
    let listed = Listing::of(&copies).await?;
    verify::sizes(&state.version, &listed, Subset::ALL, &|_, _| {})?;
    write_and_list(location, state, detail, &new.holder).await
}

/// A file in the way of a copy is an incomplete copy, and will be replaced, unless a listed snapshot names a
/// file of this id with another size.
///
/// # Errors
/// [`BackupError::ObjectsInTheWay`] if there is such a file.
pub(super) async fn check_broken(
    location: &OpenLocation,
    life: &str,
    plan: &CopyPlan,
) -> Result<(), BackupError> {
    if plan.in_the_way.is_empty() {
        return Ok(());
    }
    let named = named_copies(location, &Manifest::read(location).await?, life).await?;
    let is_broken = |sst: &SstInfo| named.get(&sst.id).is_none_or(|bytes| *bytes == sst.size_bytes);
    match plan.in_the_way.iter().all(|sst| is_broken(sst)) {
        true => Ok(()),
        false => plan.check_free(&location.copies(life).to_string()),
    }
}

/// The copies of a life that listed snapshots name, with their sizes.
async fn named_copies(
    location: &OpenLocation,
    manifest: &Manifest,
    life: &str,
) -> Result<HashMap<SstId, u64>, BackupError> {
    let mut named = HashMap::new();
    let of_life = |entry: &&ManifestEntry| entry.info.copy_data && entry.info.life == life;
    for entry in manifest.snapshot_metadata.iter().filter(of_life) {
        named.extend(files_of(location, entry).await?);
    }
    Ok(named)
}

async fn check_cluster(
    location: &OpenLocation,
    detail: &SnapshotDetail,
) -> Result<(), BackupError> {
    Manifest::read(location).await?.accepts(location, &detail.info.cluster_id)
}

async fn write_and_list(
    location: &OpenLocation,
    state: &State,
    detail: SnapshotDetail,
    holder: &str,
) -> Result<ManifestEntry, BackupError> {
    let path = layout::snapshot(&location.directory, detail.info.id);
    let pairs = state.encode_without_version();
    let written = snapshot::write(&location.storage, &path, pairs, &state.version, &detail);
    let written = written.await?;
    let entry = ManifestEntry {
        info: detail.info,
        size_bytes: written.size_bytes,
        sha256: written.sha256,
        verification: None,
    };
    match Manifest::add(location, &entry, holder).await {
        Ok(_) => Ok(entry),
        Err(error) => resolve_unlisted(location, entry, error).await,
    }
}

/// Resolves a failed change of the manifest, which may have added the entry all the same, or may do so yet.
/// The object, which is ours since writing it succeeded, is deleted only if it is certain that it will never
/// be listed.
async fn resolve_unlisted(
    location: &OpenLocation,
    entry: ManifestEntry,
    error: BackupError,
) -> Result<ManifestEntry, BackupError> {
    let id = entry.info.id;
    match Manifest::fence(location).await {
        Ok(manifest) if manifest.entry(id) == Some(&entry) => return Ok(entry),
        Ok(_) => {
            let path = layout::snapshot(&location.directory, id);
            if let Err(error) = location.storage.delete(&path).await {
                tracing::warn!(%error, %path, "an unlisted meta snapshot stays behind");
            }
        }
        Err(_) => return Err(BackupError::unsure(location.to_string(), error)),
    }
    Err(error)
}

/// Resolves a failed change of the manifest, which listed all of these snapshots and may have dropped them
/// all the same. Returns the manifest if it has.
async fn resolve_listed(
    location: &OpenLocation,
    ids: &[SnapshotId],
    error: BackupError,
) -> Result<Manifest, BackupError> {
    match Manifest::fence(location).await {
        Ok(manifest) if ids.iter().all(|id| manifest.entry(*id).is_none()) => Ok(manifest),
        Ok(_) => Err(error),
        Err(_) => Err(BackupError::unsure(location.to_string(), error)),
    }
}

/// The data files a snapshot names, with their sizes. Inline rows are in the snapshot itself.
pub async fn files_of(
    location: &OpenLocation,
    entry: &ManifestEntry,
) -> Result<Vec<(SstId, u64)>, BackupError> {
    let path = layout::snapshot(&location.directory, entry.info.id);
    let reader = snapshot::SnapshotReader::open(&location.storage, &path, Some(entry)).await?;
    reader.objects().await
}

/// Deletes these snapshots: all of them or, if one is not there, none. They are deleted once nothing lists
/// them; an object that cannot be removed then stays behind.
pub async fn delete_snapshots(
    location: &OpenLocation,
    ids: &[SnapshotId],
    holder: &str,
) -> Result<(), BackupError> {
    if ids.is_empty() {
        return Ok(());
    }
    let before = Manifest::read(location).await?;
    let after = match Manifest::remove(location, ids, holder).await {
        Err(error) if ids.iter().all(|id| before.entry(*id).is_some()) => {
            resolve_listed(location, ids, error).await?
        }
        removed => removed?,
    };
    for id in ids.iter().copied().collect::<BTreeSet<_>>() {
        let path = layout::snapshot(&location.directory, id);
        if let Err(error) = location.storage.delete(&path).await {
            tracing::warn!(%error, %path, "an unlisted meta snapshot stays behind");
        }
    }
    let deleted = ids.iter().filter_map(|id| before.entry(*id)).filter(|e| e.info.copy_data);
    for life in deleted.map(|entry| &entry.info.life).collect::<BTreeSet<_>>() {
        if let Err(error) = delete_unnamed_copies(location, &after, life).await {
            tracing::warn!(%error, %location, "copies of data files stay until a snapshot is deleted");
        }
    }
    Ok(())
}

/// Deletes the copies of a life that no listed snapshot with copies names: those of deleted snapshots and
/// those of failed backups.
async fn delete_unnamed_copies(
    location: &OpenLocation,
    manifest: &Manifest,
    life: &str,
) -> Result<(), BackupError> {
    let named = named_copies(location, manifest, life).await?;
    let copies = location.copies(life);
    let listed = Listing::of(&copies).await?.files;
    let unnamed: Vec<SstId> = listed.into_keys().filter(|sst| !named.contains_key(sst)).collect();
    for some in unnamed.chunks(DELETES_PER_CHECK) {
        // A new leader may rely on the copies that are there.
        Manifest::read(location).await?.check_holder(location, &manifest.holder)?;
        for sst in some {
            copies.storage.delete(&layout::sst(&copies.directory, *sst)).await?;
        }
    }
    Ok(())
}

/// An id that no snapshot of this location ever had: `counter`, the next id of the cluster, or a greater one.
pub async fn next_snapshot_id(
    location: &OpenLocation,
    counter: SnapshotId,
) -> Result<SnapshotId, BackupError> {
    let manifest = Manifest::read(location).await?;
    let listed = manifest.ids();
    let objects = location.storage.list(&layout::directory(&location.directory)).await?;
    let stored = objects.iter().filter_map(|object| layout::parse_snapshot(&object.location));
    let used = stored.chain(listed).map(|id| SnapshotId(id.0.saturating_add(1)));
    Ok(used.fold(counter.max(manifest.next_snapshot_id), SnapshotId::max))
}
