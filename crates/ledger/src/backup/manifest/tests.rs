//! Tests of what a manifest accepts, refuses and keeps.

use super::*;
use crate::backup::SnapshotInfo;
use crate::backup::sample::{self, HOLDER};
use crate::epoch::Epoch;
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
    let location = sample::backup_location().await;
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
    let location = sample::backup_location().await;
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
    let location = sample::backup_location().await;
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
    let on_disk = StorageLocation::new(url, "backup");
    for location in [OpenLocation::in_memory("backup"), OpenLocation::open(&on_disk).unwrap()] {
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
    let location = sample::backup_location().await;
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
