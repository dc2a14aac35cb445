//! Taking and deleting snapshots. A listed snapshot is always whole: the manifest comes last when one
//! is taken, first when one is deleted. Copies of data files come before both, and go after both.

use std::collections::{BTreeSet, HashSet};

use super::copy::{CopyPlan, copy_files};
use super::listing::Listing;
use super::manifest::{Manifest, ManifestEntry, SnapshotInfo};
use super::verify::{self, Subset};
use super::{BackupError, OpenLocation, snapshot};
use crate::id::{SnapshotId, SstId};
use crate::layout;
use crate::meta::state::State;

/// Writes a snapshot of `state` as it is, and lists it. What epochs before its safe epoch saw is
/// forgotten by the caller, if at all.
pub async fn create_snapshot(
    location: &OpenLocation,
    state: &State,
    remarks: Option<String>,
    created_at: String,
    id: SnapshotId,
) -> Result<ManifestEntry, BackupError> {
    let info = describe(state, id, remarks, created_at).await;
    check_cluster(location, &info).await?;
    write_and_list(location, state, info).await
}

/// The same, with a copy of every data file it names beside it: those of `data` that are not there
/// yet. The snapshot is listed when all of them are.
pub async fn create_snapshot_with_copies(
    location: &OpenLocation,
    state: &State,
    remarks: Option<String>,
    created_at: String,
    id: SnapshotId,
    data: &OpenLocation,
) -> Result<ManifestEntry, BackupError> {
    let info = describe(state, id, remarks, created_at).await;
    let info = SnapshotInfo { copy_data: true, ..info };
    check_cluster(location, &info).await?;
    let copies = location.copies();
    let plan = CopyPlan::new(&state.version, &Listing::of(&copies).await?, &copies.to_string())?;
    copy_files(&plan, data, &copies, &|_, _| {}).await?;
    // Once more: what another server deletes here meanwhile must not be missed only at a restore.
    let listed = Listing::of(&copies).await?;
    verify::sizes(&state.version, &listed, Subset::ALL, &|_, _| {})?;
    write_and_list(location, state, info).await
}

/// Looks at every file, where nobody waits for it.
async fn describe(
    state: &State,
    id: SnapshotId,
    remarks: Option<String>,
    created_at: String,
) -> SnapshotInfo {
    let state = state.clone();
    let describe = move || SnapshotInfo::of(&state, id, remarks, created_at);
    tokio::task::spawn_blocking(describe).await.expect("what is described is in memory")
}

async fn check_cluster(location: &OpenLocation, info: &SnapshotInfo) -> Result<(), BackupError> {
    let manifest = Manifest::read(&location.storage, &location.directory).await?;
    manifest.accepts(location, &info.cluster_id)
}

async fn write_and_list(
    location: &OpenLocation,
    state: &State,
    info: SnapshotInfo,
) -> Result<ManifestEntry, BackupError> {
    let path = layout::snapshot(&location.directory, info.id);
    let pairs = state.encode_without_version();
    let written = snapshot::write(&location.storage, &path, pairs, &state.version, &info).await?;
    let entry = ManifestEntry {
        info,
        size_bytes: written.size_bytes,
        sha256: written.sha256,
        verification: None,
    };
    match Manifest::add(location, &entry).await {
        Ok(_) => Ok(entry),
        Err(error) => settle_unlisted(location, entry, error).await,
    }
}

/// The manifest did not take the entry, or did and could not say so. The object, which is ours since
/// writing it succeeded, goes only if it is certain that nothing lists it.
async fn settle_unlisted(
    location: &OpenLocation,
    entry: ManifestEntry,
    error: BackupError,
) -> Result<ManifestEntry, BackupError> {
    let id = entry.info.id;
    match Manifest::read(&location.storage, &location.directory).await {
        Ok(manifest) if manifest.entry(id) == Some(&entry) => return Ok(entry),
        Ok(_) => {
            let path = layout::snapshot(&location.directory, id);
            if let Err(error) = location.storage.delete(&path).await {
                tracing::warn!(%error, %path, "an unlisted meta snapshot stays behind");
            }
        }
        Err(_) => tracing::warn!(snapshot = %id, "a meta snapshot may stay behind unlisted"),
    }
    Err(error)
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

/// Deletes these snapshots: all of them or, if one is not there, none.
pub async fn delete_snapshots(
    location: &OpenLocation,
    ids: &[SnapshotId],
) -> Result<(), BackupError> {
    if ids.is_empty() {
        return Ok(());
    }
    let before = Manifest::read(&location.storage, &location.directory).await?;
    let after = Manifest::remove(location, ids).await?;
    for id in ids.iter().copied().collect::<BTreeSet<_>>() {
        location.storage.delete(&layout::snapshot(&location.directory, id)).await?;
    }
    let had_copies = ids.iter().filter_map(|id| before.entry(*id)).any(|e| e.info.copy_data);
    if had_copies && let Err(error) = delete_unnamed_copies(location, &after).await {
        tracing::warn!(%error, %location, "copies of data files stay until a snapshot is deleted");
    }
    Ok(())
}

/// Deletes the copies that no listed snapshot with copies names: those of deleted snapshots, and what a
/// backup that failed had copied.
async fn delete_unnamed_copies(
    location: &OpenLocation,
    manifest: &Manifest,
) -> Result<(), BackupError> {
    let mut named = HashSet::new();
    for entry in manifest.snapshot_metadata.iter().filter(|entry| entry.info.copy_data) {
        named.extend(files_of(location, entry).await?.into_iter().map(|(sst, _)| sst));
    }
    let copies = location.copies();
    for sst in Listing::of(&copies).await?.files.into_keys().filter(|sst| !named.contains(sst)) {
        copies.storage.delete(&layout::sst(&copies.directory, sst)).await?;
    }
    Ok(())
}

/// An id no snapshot of this place ever had: `counter` is what the cluster would take.
pub async fn next_snapshot_id(
    location: &OpenLocation,
    counter: SnapshotId,
) -> Result<SnapshotId, BackupError> {
    let manifest = Manifest::read(&location.storage, &location.directory).await?;
    let listed = manifest.ids();
    let objects = location.storage.list(&layout::directory(&location.directory)).await?;
    let stored = objects.iter().filter_map(|object| layout::parse_snapshot(&object.location));
    let used = stored.chain(listed).map(|id| SnapshotId(id.0.saturating_add(1)));
    Ok(used.fold(counter.max(manifest.next_snapshot_id), SnapshotId::max))
}
