//! The first numbers of a restored cluster: above everything that may have been used.

use crate::backup::listing::Listing;
use crate::backup::manifest::Manifest;
use crate::backup::{BackupError, ManifestEntry, OpenLocation, SnapshotReader};
use crate::id::VersionId;
use crate::lease::{self, Incarnation, LeaseError, Reserved};
use crate::state::{NextIds, decode_value};
use crate::{keys, layout};

/// The numbers that may have been used in a data directory: by its lease, if it has one, and by the names of
/// its objects, since the directory may have been put together from copies.
pub(super) async fn reserved_in(
    location: &OpenLocation,
    listed: &Listing,
    cluster_id: &str,
) -> Result<Reserved, BackupError> {
    match lease::read(&location.storage, &location.directory).await? {
        Some(record) if record.cluster_id != cluster_id => {
            let cluster_id = record.cluster_id;
            Err(LeaseError::OtherCluster { cluster_id }.into())
        }
        Some(record) => Ok(record.reserved.max(listed.reserved())),
        None => Ok(listed.reserved()),
    }
}

/// The life of the restored cluster: later than its life in the snapshot, and than those that have had these
/// directories.
pub(super) async fn incarnation_after<'a>(
    own: &Incarnation,
    locations: impl Iterator<Item = &'a OpenLocation>,
) -> Result<Incarnation, BackupError> {
    let mut latest = own.clone();
    for location in locations {
        let record = lease::read(&location.storage, &location.directory).await?;
        if let Some(held) = record.map(|record| record.incarnation)
            && held.number > latest.number
        {
            latest = held;
        }
    }
    Ok(latest.next())
}

/// The numbers that had been used when the newest listed snapshot was taken: another data directory may not
/// show them, but those snapshots name files, and must never find others under the same names.
pub(super) async fn reserved_by_snapshots(
    backup: &OpenLocation,
    manifest: &Manifest,
    restored: &ManifestEntry,
) -> Result<Reserved, BackupError> {
    let mut later: Vec<_> = manifest
        .snapshot_metadata
        .iter()
        .filter(|entry| entry.info.id > restored.info.id)
        .collect();
    later.sort_by_key(|entry| std::cmp::Reverse(entry.info.id));
    for entry in later {
        match next_ids_of(backup, entry).await {
            Ok(next) => return Ok(reserved_at(entry, restored, next)),
            // No file can be read through a snapshot that cannot be read.
            Err(BackupError::Storage(error)) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "a later meta snapshot is not counted"),
        }
    }
    Ok(Reserved::default())
}

fn reserved_at(entry: &ManifestEntry, restored: &ManifestEntry, next: NextIds) -> Reserved {
    let (version, own) = (entry.info.hummock_version_id, restored.info.hummock_version_id);
    let version = if version > own { VersionId(version.0.saturating_add(1)) } else { own };
    let NextIds { object, sst, snapshot } = next;
    Reserved { object, sst, version, snapshot, epoch: entry.info.max_committed_epoch }
}

async fn next_ids_of(backup: &OpenLocation, entry: &ManifestEntry) -> Result<NextIds, BackupError> {
    let path = layout::snapshot(&backup.directory, entry.info.id);
    let reader = SnapshotReader::open(&backup.storage, &path, Some(entry)).await?;
    let pairs = reader.pairs("meta").await?;
    let pair = pairs.iter().find(|pair| pair.key == keys::NEXT_IDS);
    let pair = pair.ok_or(crate::state::StateError::Missing(keys::NEXT_IDS))?;
    Ok(decode_value(pair)?)
}
