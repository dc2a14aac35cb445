//! Which snapshots exist: `manifest.json` in the backup directory, changed by compare-and-swap only.
//!
//! | field | meaning |
//! |---|---|
//! | `manifest_id` | rises by one with every change |
//! | `cluster_id` | the cluster whose snapshots are here; no other's may be |
//! | `holder` | the meta server that may list or delete snapshots: another id whenever one begins to lead |
//! | `next_snapshot_id` | no id below it is ever used again, deleted or not |
//! | `snapshot_metadata` | a [`ManifestEntry`] per snapshot, in the order they were taken |
//! | `verification_run` | the verification of all snapshots that has not come to its end, if there is one |
//! | `sha256` | of all before it, closed with a brace; always last |
//!
//! A [`Claim`] makes the manifest, and gives it its holder; nothing else ever makes one. So where a
//! cluster had a manifest and there is none, its snapshots are out of sight, and not gone. And a server
//! that was deposed changes nothing here from when another has claimed the manifest.
//!
//! Every change writes the whole manifest, so an entry is small whatever the snapshot holds: what there is
//! to say of each table is in the footer of the snapshot ([`SnapshotDetail`]). The manifests of the first
//! builds have it in `state_table_info` too; it is not read there, and gone with the next change.
//!
//! Fields this build does not know are ignored, those that are missing have a default. Only a manifest
//! without a holder, as the first builds wrote it, may lack `sha256`. The tests read
//! `tests/fixtures/manifest-v1.json`, `manifest-v1-sealed.json` and `manifest-v1-small.json`;
//! `UPDATE_FIXTURES=1` writes the last anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::verify::{Check, Level, Subset, Verification, Verified};
use super::{BackupError, OpenLocation};
use crate::epoch::Epoch;
use crate::id::{SnapshotId, VersionId};
use crate::layout;
use crate::meta::state::State;
use crate::storage::{StorageError, Tag, sha256_hex};

/// Tries of a swap before giving up: each lost one is somebody else's success.
const SWAPS_MAX: usize = 100;
/// What comes before the checksum, and after it.
const SEAL: (&[u8], &[u8]) = (b",\"sha256\":\"", b"\"}");
const SHA256_HEX_LENGTH: usize = 64;

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

/// A verification of all snapshots that was begun. What it has looked at is verified since.
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

    /// Whether it looks at snapshots as `check` does.
    pub fn is_of(&self, check: Check) -> bool {
        (self.level, self.coverage) == (check.level, check.subset)
    }
}

/// A snapshot, as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    #[serde(flatten)]
    pub info: SnapshotInfo,
    /// Of the `.snapshot` object.
    #[serde(default)]
    pub size_bytes: u64,
    /// Of the whole `.snapshot` object, in hex.
    #[serde(default)]
    pub sha256: String,
    /// What the last look at it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    pub id: SnapshotId,
    pub hummock_version_id: VersionId,
    pub safe_epoch: Epoch,
    pub max_committed_epoch: Epoch,
    #[serde(default)]
    pub format_version: u32,
    #[serde(default)]
    pub remarks: Option<String>,
    /// The release that took it.
    #[serde(default)]
    pub rw_version: Option<String>,
    #[serde(default)]
    pub cluster_id: String,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub created_at: String,
    #[serde(default)]
    pub sst_count: u64,
    #[serde(default)]
    pub data_bytes: u64,
    /// The backup directory has copies of the data files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy_data: bool,
    /// Id of the life of the cluster that took it; empty for the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
}

/// All that a snapshot says of itself: what its footer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDetail {
    #[serde(flatten)]
    pub info: SnapshotInfo,
    /// The tables alive at `max_committed_epoch`, by their id.
    #[serde(default)]
    pub state_table_info: Tables,
}

/// What there is to say of each table, by its id as text.
pub type Tables = BTreeMap<String, TableInfo>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInfo {
    /// A text, since JSON numbers lose the low digits of an epoch.
    #[serde(rename = "committedEpoch", with = "epoch_text")]
    pub committed_epoch: Epoch,
    /// Schema and table.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub rows: u64,
}

/// An entry is what the snapshot says of itself, and how to know the object again.
impl Deref for ManifestEntry {
    type Target = SnapshotInfo;

    fn deref(&self) -> &SnapshotInfo {
        &self.info
    }
}

impl SnapshotDetail {
    /// What a snapshot of `state` will say of itself.
    pub fn of(state: &State, id: SnapshotId, remarks: Option<String>, created_at: String) -> Self {
        let info = SnapshotInfo::of(state, id, remarks, created_at);
        Self { info, state_table_info: tables_of(state) }
    }
}

impl SnapshotInfo {
    /// What a snapshot of `state` will say of itself.
    fn of(state: &State, id: SnapshotId, remarks: Option<String>, created_at: String) -> Self {
        let version = &state.version;
        Self {
            id,
            hummock_version_id: version.id,
            safe_epoch: version.safe_epoch,
            max_committed_epoch: version.max_committed_epoch,
            format_version: super::snapshot::FORMAT,
            remarks,
            rw_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            cluster_id: state.cluster_id.clone(),
            created_at,
            sst_count: super::verify::objects_of(version).count() as u64,
            data_bytes: super::verify::objects_of(version).map(|file| file.sst.size_bytes).sum(),
            copy_data: false,
            life: state.incarnation.id.clone(),
        }
    }
}

/// The tables alive at the newest epoch of a state.
pub(super) fn tables_of(state: &State) -> Tables {
    let epoch = state.version.max_committed_epoch;
    let catalog = state.catalog.at(epoch);
    let tables = catalog.relations().filter(|relation| relation.as_table().is_some());
    let infos = tables.map(|table| {
        let info = TableInfo {
            committed_epoch: epoch,
            name: catalog.full_name(table),
            rows: state.version.rows_at(table.id, epoch),
        };
        (table.id.to_string(), info)
    });
    infos.collect()
}

impl Manifest {
    /// The manifest of a backup directory.
    ///
    /// # Errors
    /// [`BackupError::NoManifest`] where there is none.
    pub async fn read(location: &OpenLocation) -> Result<Self, BackupError> {
        let found = Self::find(location).await?;
        found.ok_or_else(|| BackupError::NoManifest { location: location.to_string() })
    }

    /// The manifest of a backup directory, if it has one.
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

    /// Whether the snapshots here are those of this cluster, or whose they are.
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

    /// Refuses a manifest that has forgotten snapshots: one with the id `seen` was there.
    pub fn check_not_older(&self, location: &OpenLocation, seen: u64) -> Result<(), BackupError> {
        match self.manifest_id >= seen {
            true => Ok(()),
            false => {
                let (location, found) = (location.to_string(), self.manifest_id);
                Err(BackupError::OldManifest { location, found, seen })
            }
        }
    }

    /// Whether the snapshots are this server's to change.
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

    /// Lists one more snapshot.
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

    /// Writes the manifest anew as it is. From then on, no change can land that was sent before.
    pub async fn settle(location: &OpenLocation) -> Result<Self, BackupError> {
        update(location, |_| Ok(())).await
    }

    /// Writes down what looks at snapshots found, of those that are still listed, and the run of which they
    /// are a part, if that is to go on. Damage that was found is forgotten only when a look that would find
    /// it again does not.
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

    /// Lists these snapshots no more: all of them or, if one is not there, none.
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

/// What becomes of the run that the manifest knows.
#[derive(Clone, Debug)]
pub(super) enum RunNote {
    /// What was looked at is no part of one.
    None,
    GoesOn(VerificationRun),
    Ended,
}

impl ManifestEntry {
    fn note(&mut self, verification: &Verification) {
        let outweighs = |found: &Verification| found.outweighs(verification);
        if !self.verification.as_ref().is_some_and(outweighs) {
            self.verification = Some(verification.clone());
        }
    }
}

/// A manifest, or the want of one, as it was when a server set out to become its holder.
#[derive(Debug)]
pub struct Claim {
    location: OpenLocation,
    manifest: Manifest,
    tag: Option<Tag>,
}

impl Claim {
    /// Looks whether this cluster may claim the manifest. Writes nothing.
    ///
    /// # Errors
    /// [`BackupError::OtherCluster`] when it is another's; [`BackupError::NoManifest`] when there is none
    /// and [`BackupError::OldManifest`] when it is older, where one of id `seen` was seen.
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

    /// Who is the holder.
    pub fn holder(&self) -> &str {
        &self.manifest.holder
    }

    /// Makes `holder` the holder, and returns the id of the manifest by then. `None` when the manifest was
    /// changed since: prepare another claim.
    pub async fn take(mut self, holder: &str) -> Result<Option<u64>, BackupError> {
        holder.clone_into(&mut self.manifest.holder);
        match swap(&self.location, self.manifest, self.tag.as_ref()).await {
            Ok(manifest) => Ok(Some(manifest.manifest_id)),
            Err(BackupError::Storage(StorageError::Changed { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Changes the manifest as it is by the time of the swap.
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
    let path = layout::manifest(&location.directory);
    let Some((bytes, tag)) = location.storage.read_tagged(&path).await? else { return Ok(None) };
    let manifest = decode(&bytes)
        .map_err(|what| BackupError::damaged(&location.storage.name_of(&path), what))?;
    Ok(Some((manifest, tag)))
}

fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(manifest).expect("plain data always has a JSON form");
    let checksum = sha256_hex(&bytes);
    // The closing brace, which the checksum covers, comes after it.
    bytes.pop();
    bytes.extend([SEAL.0, checksum.as_bytes(), SEAL.1].concat());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Manifest, String> {
    let no_list = |e: serde_json::Error| format!("it is no list of meta snapshots: {e}");
    if let Some((body, checksum)) = unsealed(bytes) {
        let body = [body, b"}"].concat();
        if sha256_hex(&body).as_bytes() != checksum {
            return Err("it does not match its checksum".to_owned());
        }
        return serde_json::from_slice(&body).map_err(no_list);
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(no_list)?;
    match manifest.holder.is_empty() && manifest.cluster_id.is_empty() {
        true => Ok(manifest),
        false => Err("its checksum is missing".to_owned()),
    }
}

/// What comes before the checksum, and the checksum.
fn unsealed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = bytes.strip_suffix(SEAL.1)?;
    let (rest, checksum) = inside.split_at_checked(inside.len().checked_sub(SHA256_HEX_LENGTH)?)?;
    Some((rest.strip_suffix(SEAL.0)?, checksum))
}

/// An epoch as a JSON text.
mod epoch_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::epoch::Epoch;

    pub fn serialize<S: Serializer>(epoch: &Epoch, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(epoch)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::sample::{self, HOLDER};
    use crate::storage::StorageLocation;

    fn entry(id: u64) -> ManifestEntry {
        let created_at = "2026-11-22T16:53:37.121Z".to_owned();
        let remarks = Some("nightly".to_owned());
        let info = SnapshotInfo::of(&sample::state(), SnapshotId(id), remarks, created_at);
        let info = SnapshotInfo { rw_version: Some("0.1.0".to_owned()), ..info };
        ManifestEntry { info, size_bytes: 1234, sha256: "ab".repeat(32), verification: None }
    }

    async fn add(location: &OpenLocation, entry: &ManifestEntry) -> Result<Manifest, BackupError> {
        Manifest::add(location, entry, HOLDER).await
    }

    fn ids(numbers: &[u64]) -> Vec<SnapshotId> {
        numbers.iter().copied().map(SnapshotId).collect()
    }

    #[tokio::test]
    async fn entries_come_and_go_and_ids_stay_used() {
        let location = sample::backup_place().await;
        assert_eq!(Manifest::read(&location).await.unwrap().ids(), []);
        for id in [1, 2, 3] {
            add(&location, &entry(id)).await.unwrap();
        }
        let error = add(&location, &entry(2)).await.unwrap_err();
        assert!(matches!(error, BackupError::Exists { .. }), "{error:?}");
        Manifest::remove(&location, &ids(&[3, 1, 3]), HOLDER).await.unwrap();
        let manifest = Manifest::read(&location).await.unwrap();
        assert_eq!(manifest.ids(), ids(&[2]));
        assert_eq!(manifest.manifest_id, 5);
        assert_eq!(manifest.next_snapshot_id, SnapshotId(4));
    }

    #[tokio::test]
    async fn removing_an_unknown_id_removes_nothing() {
        let location = sample::backup_place().await;
        add(&location, &entry(1)).await.unwrap();
        let error = Manifest::remove(&location, &ids(&[1, 7, 9]), HOLDER).await.unwrap_err();
        assert_eq!(error.to_string(), "meta snapshot 7, 9 not found");
        assert!(error.hint().unwrap().ends_with("/backup are 1"), "{:?}", error.hint());
        assert_eq!(Manifest::read(&location).await.unwrap().ids(), ids(&[1]));
    }

    #[tokio::test]
    async fn a_manifest_is_made_by_a_claim_and_by_nothing_else() {
        let location = OpenLocation::in_memory("backup");
        for lost in [
            add(&location, &entry(1)).await.map(|_| ()),
            Manifest::remove(&location, &ids(&[1]), HOLDER).await.map(|_| ()),
            Manifest::read(&location).await.map(|_| ()),
            Claim::prepare(&location, sample::CLUSTER_ID, 1).await.map(|_| ()),
        ] {
            let error = lost.unwrap_err();
            assert!(matches!(error, BackupError::NoManifest { .. }), "{error:?}");
        }
        assert_eq!(Manifest::find(&location).await.unwrap(), None);
        sample::claim(&location, HOLDER).await;
        add(&location, &entry(1)).await.unwrap();
    }

    #[tokio::test]
    async fn who_was_deposed_changes_nothing_any_more() {
        let location = sample::backup_place().await;
        add(&location, &entry(1)).await.unwrap();
        let error = Claim::prepare(&location, sample::CLUSTER_ID, 3).await.unwrap_err();
        assert!(matches!(error, BackupError::OldManifest { found: 2, seen: 3, .. }), "{error:?}");
        let late = Claim::prepare(&location, sample::CLUSTER_ID, 2).await.unwrap();
        sample::claim(&location, "another").await;
        assert_eq!(late.take(HOLDER).await.unwrap(), None, "the manifest is another one by now");
        for refused in
            [add(&location, &entry(2)).await, Manifest::remove(&location, &ids(&[1]), HOLDER).await]
        {
            let error = refused.unwrap_err();
            assert!(matches!(error, BackupError::HeldByOther { .. }), "{error:?}");
            assert!(error.hint().is_some());
        }
        assert_eq!(Manifest::read(&location).await.unwrap().ids(), ids(&[1]));
        Manifest::add(&location, &entry(2), "another").await.unwrap();
    }

    #[tokio::test]
    async fn writers_that_race_all_land() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("fs://{}", dir.path().display());
        let place = StorageLocation::new(url, "backup");
        for location in [OpenLocation::in_memory("backup"), OpenLocation::open(&place).unwrap()] {
            sample::claim(&location, HOLDER).await;
            let adds = (1..=8).map(|id| {
                let (location, entry) = (location.clone(), entry(id));
                async move { add(&location, &entry).await }
            });
            for added in futures::future::join_all(adds).await {
                added.unwrap();
            }
            let manifest = Manifest::read(&location).await.unwrap();
            assert_eq!(manifest.manifest_id, 9);
            assert_eq!(BTreeSet::from_iter(manifest.ids()).len(), 8);
        }
    }

    #[tokio::test]
    async fn a_directory_holds_the_snapshots_of_one_cluster() {
        let location = sample::backup_place().await;
        let mut other = entry(2);
        other.info.cluster_id = "another".to_owned();
        let error = add(&location, &other).await.unwrap_err();
        assert!(matches!(error, BackupError::OtherCluster { .. }), "{error:?}");
        let error = Claim::prepare(&location, "another", 0).await.unwrap_err();
        assert!(matches!(error, BackupError::OtherCluster { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_no_manifest_is_an_error() {
        let location = OpenLocation::in_memory("backup");
        let path = layout::manifest("backup");
        location.storage.put_new(&path, "{}".into()).await.unwrap();
        let error = Manifest::read(&location).await.unwrap_err().to_string();
        assert!(error.contains("backup/manifest.json is damaged"), "{error}");
        assert!(add(&location, &entry(1)).await.is_err());
    }

    #[test]
    fn missing_fields_have_defaults_and_unknown_ones_are_ignored() {
        let text = r#"{"manifest_id":3,"snapshot_metadata":[{"id":1,"hummock_version_id":2,
            "ssts":[1,2],"safe_epoch":0,"max_committed_epoch":65536}]}"#;
        let manifest = decode(text.as_bytes()).unwrap();
        assert_eq!(manifest.snapshot_metadata[0].info.remarks, None);
        assert_eq!(manifest.snapshot_metadata[0].info.max_committed_epoch, Epoch::from_u64(65536));
    }

    #[test]
    fn format_1_reads_forever() {
        let first = Manifest {
            manifest_id: 9,
            next_snapshot_id: SnapshotId(8),
            snapshot_metadata: vec![entry(5), entry(7)],
            ..Manifest::default()
        };
        let fixture = |name| std::fs::read(crate::fixtures::path_of(name)).unwrap();
        assert_eq!(decode(&fixture("manifest-v1.json")).unwrap(), first);
        let (cluster_id, holder) = (sample::CLUSTER_ID.to_owned(), HOLDER.to_owned());
        let sealed = Manifest { cluster_id, holder, ..first };
        assert_eq!(decode(&fixture("manifest-v1-sealed.json")).unwrap(), sealed);
        let check = Check { level: Level::Objects, subset: Subset::ALL };
        let run = VerificationRun::new("2026-11-30T08:00:00.000Z".to_owned(), check);
        let small = Manifest { verification_run: Some(run), ..sealed };
        let name = "manifest-v1-small.json";
        let written = crate::fixtures::read_or_update(name, || encode(&small));
        assert_eq!(decode(&written).unwrap(), small);
    }

    /// Each table of each snapshot once took 80 bytes of the manifest, which every change reads and writes.
    #[tokio::test]
    async fn a_manifest_with_tables_is_read_and_written_without_them() {
        let location = OpenLocation::in_memory("backup");
        let path = layout::manifest("backup");
        let old = std::fs::read(crate::fixtures::path_of("manifest-v1.json")).unwrap();
        assert!(std::str::from_utf8(&old).unwrap().contains("state_table_info"));
        location.storage.put_new(&path, old.into()).await.unwrap();
        sample::claim(&location, HOLDER).await;
        let written = location.storage.get(&path).await.unwrap();
        assert!(!std::str::from_utf8(&written).unwrap().contains("state_table_info"));
        let manifest = Manifest { snapshot_metadata: vec![entry(1); 2_000], ..Manifest::default() };
        assert!(encode(&manifest).len() < 1 << 20, "{}", encode(&manifest).len());
    }

    #[test]
    fn ten_thousand_snapshots_are_read_fast() {
        let entries = (1..=10_000).map(entry).collect();
        let bytes = encode(&Manifest { snapshot_metadata: entries, ..Manifest::default() });
        let begun = std::time::Instant::now();
        assert_eq!(decode(&bytes).unwrap().snapshot_metadata.len(), 10_000);
        println!("{} bytes in {:?}", bytes.len(), begun.elapsed());
    }
}
