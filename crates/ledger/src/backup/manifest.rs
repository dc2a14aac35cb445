//! The manifest: the list of the snapshots in a backup directory, `manifest.json`, changed by
//! compare-and-swap only.
//!
//! | field | meaning |
//! |---|---|
//! | `manifest_id` | rises by one with every change |
//! | `cluster_id` | the cluster whose snapshots are here; those of another are refused |
//! | `holder` | the meta server that may list or delete snapshots; a new id whenever one becomes leader |
//! | `next_snapshot_id` | no id below it is ever used again, deleted or not |
//! | `snapshot_metadata` | a [`ManifestEntry`] per snapshot, in the order they were taken |
//! | `verification_run` | the unfinished verification of all snapshots, if there is one |
//! | `sha256` | the checksum of everything before it, closed with a brace; always last |
//!
//! A [`Claim`] sets the holder, and creates the manifest if there is none; nothing else ever creates one. So
//! if a cluster had a manifest and there is none now, its snapshots cannot be seen, which does not mean that
//! they are deleted. And a deposed server cannot change anything here once another has claimed the manifest.
//!
//! Every change rewrites the whole manifest, so an entry is small however large the snapshot is: its tables
//! are in the footer of the snapshot ([`super::SnapshotDetail`]). The manifests of the first builds also have
//! the tables, in `state_table_info`; they are ignored, and dropped by the next change.
//!
//! Unknown fields are ignored, and missing ones have a default. Only a manifest without a holder, as the
//! first builds wrote it, may lack `sha256`. The tests read `tests/fixtures/manifest-v1.json`,
//! `manifest-v1-sealed.json` and `manifest-v1-small.json`; `UPDATE_FIXTURES=1` rewrites the last one.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::info::ManifestEntry;
use super::verification::{Check, Level, Subset, Verified};
use super::{BackupError, OpenLocation};
use crate::id::SnapshotId;
use crate::layout;
use crate::storage::checksum::{Unsealed, sealed};
use crate::storage::{StorageError, Tag};

pub use read::{ManifestCache, ReadManifest};

/// Maximum attempts of a swap. Each one that is lost means that another writer has succeeded.
const SWAPS_MAX: usize = 100;

/// The snapshots of one backup directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub manifest_id: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub holder: String,
    #[serde(default)]
    pub next_snapshot_id: SnapshotId,
    pub snapshot_metadata: Vec<ManifestEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_run: Option<VerificationRun>,
}

/// An unfinished verification of all snapshots. The snapshots it has checked were verified since it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationRun {
    /// RFC 3339, UTC.
    pub begun_at: String,
    pub level: Level,
    pub coverage: Subset,
}

impl VerificationRun {
    pub fn new(begun_at: String, check: Check) -> Self {
        Self { begun_at, level: check.level, coverage: check.subset }
    }

    /// Whether it does the same check of snapshots as `check`.
    pub fn is_of(&self, check: Check) -> bool {
        (self.level, self.coverage) == (check.level, check.subset)
    }
}

impl Manifest {
    /// Reads the manifest of a backup directory.
    ///
    /// # Errors
    /// [`BackupError::NoManifest`] where there is none.
    pub async fn read(location: &OpenLocation) -> Result<Self, BackupError> {
        let found = Self::find(location).await?;
        found.ok_or_else(|| BackupError::NoManifest { location: location.to_string() })
    }

    /// Reads the manifest of a backup directory; `None` if it has none.
    pub async fn find(location: &OpenLocation) -> Result<Option<Self>, BackupError> {
        Ok(read_tagged(location).await?.map(|(manifest, _)| manifest))
    }

    pub fn entry(&self, id: SnapshotId) -> Option<&ManifestEntry> {
        self.snapshot_metadata.iter().find(|entry| entry.info.id == id)
    }

    /// The ids, in the order the snapshots were taken.
    pub fn ids(&self) -> Vec<SnapshotId> {
        self.snapshot_metadata.iter().map(|entry| entry.info.id).collect()
    }

    /// The snapshot taken last.
    pub fn newest(&self) -> Option<&ManifestEntry> {
        self.snapshot_metadata.iter().max_by_key(|entry| entry.info.id)
    }

    /// Checks that the snapshots here are those of this cluster.
    ///
    /// # Errors
    /// [`BackupError::OtherCluster`], with the id of the cluster they belong to.
    pub fn accepts(&self, location: &OpenLocation, cluster_id: &str) -> Result<(), BackupError> {
        let entries = self.snapshot_metadata.iter().map(|entry| &entry.info.cluster_id);
        let mut ids = std::iter::once(&self.cluster_id).chain(entries);
        match ids.find(|id| !id.is_empty() && *id != cluster_id) {
            None => Ok(()),
            Some(other) => Err(BackupError::OtherCluster {
                location: location.to_string(),
                cluster_id: other.to_owned(),
            }),
        }
    }

    /// Refuses a manifest that lacks snapshots because it is older than one with the id `seen`, which was
    /// here before.
    pub fn check_not_older(&self, location: &OpenLocation, seen: u64) -> Result<(), BackupError> {
        match self.manifest_id >= seen {
            true => Ok(()),
            false => {
                let (location, found) = (location.to_string(), self.manifest_id);
                Err(BackupError::OldManifest { location, found, seen })
            }
        }
    }

    /// Checks that the snapshots are this server's to change.
    pub(super) fn check_holder(
        &self,
        location: &OpenLocation,
        holder: &str,
    ) -> Result<(), BackupError> {
        match self.holder == holder {
            true => Ok(()),
            false => Err(BackupError::HeldByOther { location: location.to_string() }),
        }
    }

    /// Adds a snapshot to the list.
    pub async fn add(
        location: &OpenLocation,
        entry: &ManifestEntry,
        holder: &str,
    ) -> Result<Self, BackupError> {
        update(location, |manifest| {
            manifest.accepts(location, &entry.info.cluster_id)?;
            manifest.check_holder(location, holder)?;
            let id = entry.info.id;
            if manifest.entry(id).is_some() {
                return Err(BackupError::Exists { id, location: location.to_string() });
            }
            manifest.snapshot_metadata.push(entry.clone());
            manifest.next_snapshot_id =
                manifest.next_snapshot_id.max(SnapshotId(id.0.saturating_add(1)));
            Ok(())
        })
        .await
    }

    /// Rewrites the manifest as it is. From then on, no change that was sent before can take effect.
    pub async fn fence(location: &OpenLocation) -> Result<Self, BackupError> {
        update(location, |_| Ok(())).await
    }

    /// Records the results of checks, for the snapshots that are still listed, and the run they are part of
    /// if it is to be continued. Recorded damage is cleared only by a check that would have found it again.
    pub(super) async fn remember(
        location: &OpenLocation,
        found: &[(ManifestEntry, Verified)],
        run: &RunNote,
    ) -> Result<Self, BackupError> {
        update(location, |manifest| {
            let by_id: BTreeMap<_, _> = found.iter().map(|look| (look.0.info.id, look)).collect();
            for entry in &mut manifest.snapshot_metadata {
                if let Some((seen, verified)) = by_id.get(&entry.info.id)
                    && entry.sha256 == seen.sha256
                {
                    entry.note(&verified.verification);
                }
            }
            match run {
                RunNote::None => {}
                RunNote::GoesOn(run) => manifest.verification_run = Some(run.clone()),
                RunNote::Ended => manifest.verification_run = None,
            }
            Ok(())
        })
        .await
    }

    /// Removes these snapshots from the list: all of them or, if one is not there, none.
    pub async fn remove(
        location: &OpenLocation,
        ids: &[SnapshotId],
        holder: &str,
    ) -> Result<Self, BackupError> {
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        update(location, |manifest| {
            manifest.check_holder(location, holder)?;
            let known = manifest.ids();
            let unknown: Vec<_> = ids.iter().copied().filter(|id| !known.contains(id)).collect();
            if !unknown.is_empty() {
                let location = location.to_string();
                return Err(BackupError::UnknownSnapshots { unknown, location, known });
            }
            let past_newest =
                known.iter().map(|id| id.0.saturating_add(1)).max().unwrap_or_default();
            manifest.next_snapshot_id = manifest.next_snapshot_id.max(SnapshotId(past_newest));
            manifest.snapshot_metadata.retain(|entry| !ids.contains(&entry.info.id));
            Ok(())
        })
        .await
    }
}

/// What to do with the verification run in the manifest.
#[derive(Clone, Debug)]
pub(super) enum RunNote {
    /// The checks are not part of a run.
    None,
    GoesOn(VerificationRun),
    Ended,
}

/// A manifest that a server is about to claim, or the lack of one, as it was read.
#[derive(Debug)]
pub struct Claim {
    location: OpenLocation,
    manifest: Manifest,
    tag: Option<Tag>,
}

impl Claim {
    /// Checks whether this cluster may claim the manifest. Writes nothing.
    ///
    /// # Errors
    /// [`BackupError::OtherCluster`] when it is another cluster's. If a manifest with the id `seen` was seen
    /// here: [`BackupError::NoManifest`] when there is none, and [`BackupError::OldManifest`] when it is
    /// older.
    pub async fn prepare(
        location: &OpenLocation,
        cluster_id: &str,
        seen: u64,
    ) -> Result<Self, BackupError> {
        let (mut manifest, tag) = match read_tagged(location).await? {
            Some((manifest, tag)) => (manifest, Some(tag)),
            None if seen > 0 => {
                return Err(BackupError::NoManifest { location: location.to_string() });
            }
            None => (Manifest::default(), None),
        };
        manifest.accepts(location, cluster_id)?;
        manifest.check_not_older(location, seen)?;
        cluster_id.clone_into(&mut manifest.cluster_id);
        Ok(Self { location: location.clone(), manifest, tag })
    }

    /// The current holder.
    pub fn holder(&self) -> &str {
        &self.manifest.holder
    }

    /// Makes `holder` the holder, and returns the new id of the manifest. `None` if the manifest has changed
    /// since it was read: prepare another claim.
    pub async fn take(mut self, holder: &str) -> Result<Option<u64>, BackupError> {
        holder.clone_into(&mut self.manifest.holder);
        match swap(&self.location, self.manifest, self.tag.as_ref()).await {
            Ok(manifest) => Ok(Some(manifest.manifest_id)),
            Err(BackupError::Storage(StorageError::Changed { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Applies `change` to the current manifest; starts over if another writer wins the swap.
async fn update(
    location: &OpenLocation,
    change: impl Fn(&mut Manifest) -> Result<(), BackupError>,
) -> Result<Manifest, BackupError> {
    for _ in 0..SWAPS_MAX {
        let Some((mut manifest, tag)) = read_tagged(location).await? else {
            return Err(BackupError::NoManifest { location: location.to_string() });
        };
        change(&mut manifest)?;
        match swap(location, manifest, Some(&tag)).await {
            Err(BackupError::Storage(StorageError::Changed { .. })) => {}
            swapped => return swapped,
        }
    }
    let path = layout::manifest(&location.directory);
    Err(BackupError::Contended { file: location.storage.name_of(&path) })
}

async fn swap(
    location: &OpenLocation,
    mut manifest: Manifest,
    tag: Option<&Tag>,
) -> Result<Manifest, BackupError> {
    manifest.manifest_id += 1;
    let path = layout::manifest(&location.directory);
    location.storage.replace(&path, tag, Bytes::from(encode(&manifest))).await?;
    Ok(manifest)
}

async fn read_tagged(location: &OpenLocation) -> Result<Option<(Manifest, Tag)>, BackupError> {
    let Some((bytes, tag)) = bytes_of(location).await? else { return Ok(None) };
    Ok(Some((decode(&bytes).map_err(|what| damaged(location, what))?, tag)))
}

async fn bytes_of(location: &OpenLocation) -> Result<Option<(Bytes, Tag)>, BackupError> {
    Ok(location.storage.read_tagged(&layout::manifest(&location.directory)).await?)
}

fn damaged(location: &OpenLocation, what: String) -> BackupError {
    let path = layout::manifest(&location.directory);
    BackupError::damaged(&location.storage.name_of(&path), what)
}

fn encode(manifest: &Manifest) -> Vec<u8> {
    sealed("", &serde_json::to_vec(manifest).expect("plain data always has a JSON form"))
}

fn decode(bytes: &[u8]) -> Result<Manifest, String> {
    let seal = Unsealed::of(bytes);
    if seal.is_some_and(|seal| !seal.matches("")) {
        return Err("it does not match its checksum".to_owned());
    }
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|e| format!("it is no list of meta snapshots: {e}"))?;
    let is_first_build = manifest.holder.is_empty() && manifest.cluster_id.is_empty();
    match seal.is_some() || is_first_build {
        true => Ok(manifest),
        false => Err("its checksum is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests;
