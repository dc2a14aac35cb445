//! What snapshots say of themselves beyond their entries in the manifest: their tables.

use futures::{StreamExt as _, stream};

use super::info::{ManifestEntry, Tables};
use super::{BackupError, OpenLocation, SnapshotReader};
use crate::ledger::layout;
use crate::ledger::storage::StorageLocation;

/// Footers that are read at a time.
const FOOTERS_AT_ONCE: usize = 16;

/// The tables of each of these snapshots of one place, in their order; none of one that cannot be read.
pub async fn tables_of_each(
    location: &StorageLocation,
    entries: &[ManifestEntry],
) -> Vec<Option<Tables>> {
    let Ok(location) = OpenLocation::open_existing(location) else { return vec![] };
    let reads = entries.iter().map(|entry| {
        let (location, entry) = (location.clone(), entry.clone());
        async move { read_tables(&location, &entry).await.ok() }
    });
    // Collected, as a lazy iterator over borrowed entries could not move between threads.
    let reads: Vec<_> = reads.collect();
    stream::iter(reads).buffered(FOOTERS_AT_ONCE).collect().await
}

/// The tables of a snapshot, from its footer.
pub async fn read_tables(
    location: &OpenLocation,
    entry: &ManifestEntry,
) -> Result<Tables, BackupError> {
    let path = layout::snapshot(&location.directory, entry.info.id);
    let reader = SnapshotReader::open(&location.storage, &path, Some(entry)).await?;
    Ok(reader.tables().clone())
}
