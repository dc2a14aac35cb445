//! Tests of taking and deleting snapshots.

use super::*;
use crate::id::{SnapshotId, SstId};
use crate::layout;
use crate::sst::SstInfo;

async fn take(location: &OpenLocation, id: u64) -> Result<ManifestEntry, BackupError> {
    let state = sample::state();
    create_snapshot(location, &state, &sample::new_snapshot(id, None)).await
}

async fn read(location: &OpenLocation) -> Manifest {
    Manifest::read(location).await.unwrap()
}

async fn objects_in(location: &OpenLocation) -> usize {
    location.storage.list(&layout::directory(&location.directory)).await.unwrap().len()
}

#[tokio::test]
async fn a_snapshot_that_was_taken_is_listed_and_holds_the_state() {
    let location = sample::backup_location().await;
    let entry = take(&location, 1).await.unwrap();
    let manifest = read(&location).await;
    assert_eq!(manifest.entry(SnapshotId(1)), Some(&entry));
    let path = layout::snapshot("backup", SnapshotId(1));
    let reader = SnapshotReader::open(&location.storage, &path, Some(&entry)).await.unwrap();
    assert_eq!(reader.state().await.unwrap(), sample::state());
    assert_eq!(reader.tables()["7"].rows, 9);
}

#[tokio::test]
async fn an_object_that_is_there_is_never_overwritten() {
    let location = sample::backup_location().await;
    take(&location, 1).await.unwrap();
    let path = layout::snapshot("backup", SnapshotId(1));
    let before = location.storage.get(&path).await.unwrap();
    let error = take(&location, 1).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error:?}");
    assert_eq!(location.storage.get(&path).await.unwrap(), before);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_listed_leaves_no_object() {
    let location = sample::backup_location().await;
    take(&location, 1).await.unwrap();
    location.storage.delete(&layout::snapshot("backup", SnapshotId(1))).await.unwrap();
    let new = sample::new_snapshot(1, Some("another one under an id that is taken"));
    let taken = create_snapshot(&location, &sample::state(), &new).await;
    assert!(matches!(taken, Err(BackupError::Exists { .. })), "{taken:?}");
    assert_eq!(objects_in(&location).await, 1);

    let other = OpenLocation::in_memory("backup");
    let path = layout::manifest("backup");
    other.storage.put_new(&path, "not a manifest".into()).await.unwrap();
    take(&other, 1).await.unwrap_err();
    assert_eq!(objects_in(&other).await, 1);
}

#[tokio::test]
async fn half_a_copy_is_replaced_unless_a_snapshot_knows_it_so() {
    let location = sample::backup_location().await;
    let data = OpenLocation::in_memory(sample::DATA_DIR);
    let state = sample::stored(&data.storage).await;
    let take = async |id: u64| {
        create_snapshot_with_copies(&location, &state, &sample::new_snapshot(id, None), &data).await
    };
    let copies = location.copies(&state.incarnation.id);
    let path = layout::sst(&copies.directory, SstId(3));
    copies.storage.put_new(&path, "the fir".into()).await.unwrap();
    let entry = take(1).await.unwrap();
    assert_eq!(copies.storage.get(&path).await.unwrap(), "the first file");
    assert_eq!(copies.directory, location.copies(&entry.info.life).directory);

    // As if an id had been assigned twice.
    let other = SstInfo { size_bytes: 3, ..sample::sst_of(3) };
    let plan = copy::CopyPlan { in_the_way: vec![other.into()], ..Default::default() };
    let error = create::check_broken(&location, &entry.info.life, &plan).await.unwrap_err();
    assert!(matches!(error, BackupError::ObjectsInTheWay { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_two_tables_have_counts_and_is_copied_once() {
    let (location, state) = (sample::backup_location().await, sample::shared());
    assert_eq!(state.version.file_count(), 3);
    let entry = create_snapshot(&location, &state, &sample::new_snapshot(1, None)).await.unwrap();
    let bytes = [3, 5].map(|id| sample::sst_of(id).size_bytes);
    assert_eq!((entry.info.sst_count, entry.info.data_bytes), (2, bytes[0] + bytes[1]));
    let path = layout::snapshot("backup", SnapshotId(1));
    let reader = SnapshotReader::open(&location.storage, &path, Some(&entry)).await.unwrap();
    assert_eq!(reader.state().await.unwrap(), state);
    let named = files_of(&location, &entry).await.unwrap();
    assert_eq!(named, [(SstId(3), bytes[0]), (SstId(5), bytes[1])]);
    let plan = copy::CopyPlan::new(&state.version, &listing::Listing::default());
    let missing: Vec<_> = plan.missing.iter().map(|sst| sst.id.0).collect();
    assert_eq!((missing, plan.missing_bytes), (vec![3, 5], entry.info.data_bytes));
}

#[tokio::test]
async fn deleting_is_all_or_nothing() {
    let location = sample::backup_location().await;
    for id in [1, 2, 3] {
        take(&location, id).await.unwrap();
    }
    let error = delete_snapshots(&location, &[SnapshotId(1), SnapshotId(9)], sample::HOLDER)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "meta snapshot 9 not found");
    assert_eq!(objects_in(&location).await, 4);
    delete_snapshots(&location, &[SnapshotId(1), SnapshotId(3), SnapshotId(1)], sample::HOLDER)
        .await
        .unwrap();
    assert_eq!(objects_in(&location).await, 2);
    assert_eq!(read(&location).await.ids(), [SnapshotId(2)]);
}

#[tokio::test]
async fn the_next_id_is_above_all_that_were_ever_there() {
    let location = sample::backup_location().await;
    let next = async |counter| next_snapshot_id(&location, SnapshotId(counter)).await.unwrap().0;
    assert_eq!(next(1).await, 1);
    take(&location, 4).await.unwrap();
    assert_eq!(next(1).await, 5);
    assert_eq!(next(9).await, 9);
    delete_snapshots(&location, &[SnapshotId(4)], sample::HOLDER).await.unwrap();
    assert_eq!(next(1).await, 5);
    let orphan = layout::snapshot("backup", SnapshotId(11));
    location.storage.put_new(&orphan, "orphan".into()).await.unwrap();
    assert_eq!(next(1).await, 12);
}
