//! The content of a data directory: one listing answers every question about it.

use std::collections::BTreeMap;

use object_store::ObjectMeta;
use object_store::path::Path;

use super::{BackupError, OpenLocation};
use crate::id::{SstId, VersionId};
use crate::layout;
use crate::lease::Reserved;

/// The data files and checkpoints of a directory, as they were when it was listed.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub files: BTreeMap<SstId, ListedFile>,
    /// Newest version first.
    pub checkpoints: Vec<ListedCheckpoint>,
}

#[derive(Clone, Copy, Debug)]
pub struct ListedFile {
    pub size_bytes: u64,
    /// Unix time in milliseconds.
    pub modified_ms: u64,
}

#[derive(Clone, Debug)]
pub struct ListedCheckpoint {
    pub version_id: VersionId,
    pub path: Path,
    pub size_bytes: u64,
}

impl Listing {
    pub async fn of(location: &OpenLocation) -> Result<Self, BackupError> {
        let directory = layout::directory(&location.directory);
        let mut listing = Self::default();
        let see = |object: ObjectMeta| listing.add(&location.directory, object);
        location.storage.for_each(&directory, see).await?;
        listing.checkpoints.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.version_id));
        Ok(listing)
    }

    fn add(&mut self, directory: &str, object: ObjectMeta) {
        let (path, size_bytes) = (object.location, object.size);
        if let Some(sst) = layout::parse_sst_in(directory, &path) {
            let modified_ms = object.last_modified.timestamp_millis();
            let modified_ms = u64::try_from(modified_ms).unwrap_or_default();
            self.files.insert(sst, ListedFile { size_bytes, modified_ms });
        } else if let Some(version_id) = layout::parse_checkpoint(directory, &path) {
            self.checkpoints.push(ListedCheckpoint { version_id, path, size_bytes });
        }
    }

    /// The numbers that are used up by the names of the objects.
    pub fn reserved(&self) -> Reserved {
        let sst = self.files.last_key_value().map(|(id, _)| SstId(id.0.saturating_add(1)));
        let version = self.checkpoints.first().map(|checkpoint| checkpoint.version_id);
        Reserved {
            sst: sst.unwrap_or_default(),
            version: version.unwrap_or_default(),
            ..Reserved::default()
        }
    }
}
