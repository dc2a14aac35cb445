//! The tables of snapshots, which are in their footers and not in the manifest.

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};

use super::info::{ManifestEntry, Tables};
use super::{BackupError, OpenLocation, SnapshotReader};
use crate::layout;
use crate::storage::StorageLocation;

/// Number of footers that are read at the same time.
const FOOTERS_AT_ONCE: usize = 16;

/// The tables of each of these snapshots of one location, in their order; `None` for one that cannot be read.
/// Empty if the location cannot be opened. At most `FOOTERS_AT_ONCE` are read ahead of the consumer.
pub fn tables_of_each(
    location: &StorageLocation,
    entries: Vec<ManifestEntry>,
) -> BoxStream<'static, Option<Tables>> {
    let Ok(location) = OpenLocation::open_existing(location) else {
        return stream::empty().boxed();
    };
    let reads = stream::iter(entries).map(move |entry| {
        let location = location.clone();
        async move { read_tables(&location, &entry).await.ok() }
    });
    reads.buffered(FOOTERS_AT_ONCE).boxed()
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
