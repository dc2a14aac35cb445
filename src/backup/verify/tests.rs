//! Each level finds what it is for, says so in the manifest, and what it cannot see is never well.

use super::*;
use crate::backup::{create_snapshot, sample};
use crate::storage::Storage;
use sample::DATA_DIR;

const QUIET: Progress<'_> = &|_, _| {};
const NOW: &str = "2026-11-25T07:00:00.000Z";

/// A cluster with one snapshot, all in one memory store.
async fn world() -> (OpenLocation, StorageLocation) {
    let storage = Storage::in_memory();
    let state = sample::stored(&storage).await;
    let data = StorageLocation::new(storage.url().to_string(), DATA_DIR);
    let backup = OpenLocation { storage, directory: "backup".to_owned() };
    sample::claim(&backup, sample::HOLDER).await;
    create_snapshot(&backup, &state, &sample::new_snapshot(1, None)).await.unwrap();
    (backup, data)
}

async fn verify(backup: &OpenLocation, level: Level, data: &StorageLocation) -> Verification {
    verify_part(backup, level, Subset::ALL, data).await
}

async fn verify_part(
    backup: &OpenLocation,
    level: Level,
    subset: Subset,
    data: &StorageLocation,
) -> Verification {
    let (id, check, at) = (SnapshotId(1), Check { level, subset }, NOW.to_owned());
    verify_snapshot(backup, id, check, DataAt::Place(data), at, QUIET).await.unwrap()
}

#[tokio::test]
async fn what_was_found_is_remembered() {
    let (backup, data) = world().await;
    for level in [Level::List, Level::Meta, Level::Objects, Level::Checksum] {
        let found = verify(&backup, level, &data).await;
        assert_eq!((found.result, found.level, found.detail.clone()), (Verdict::Ok, level, None));
        let manifest = Manifest::read(&backup).await.unwrap();
        assert_eq!(manifest.snapshot_metadata[0].verification, Some(found));
    }
}

#[tokio::test]
async fn each_level_finds_what_those_above_it_do_not_look_for() {
    let (backup, data) = world().await;
    let path = layout::sst(DATA_DIR, SstId(3));
    let content = backup.storage.get(&path).await.unwrap();
    let mut flipped = content.to_vec();
    flipped[0] ^= 1;
    backup.storage.delete(&path).await.unwrap();
    backup.storage.put_new(&path, flipped.into()).await.unwrap();
    assert_eq!(verify(&backup, Level::Objects, &data).await.result, Verdict::Ok);
    let found = verify(&backup, Level::Checksum, &data).await;
    assert_eq!(found.result, Verdict::Damaged);
    assert!(found.to_string().contains("3 (does not match its checksum)"), "{found}");

    backup.storage.delete(&path).await.unwrap();
    assert_eq!(verify(&backup, Level::Meta, &data).await.result, Verdict::Ok);
    let found = verify(&backup, Level::Objects, &data).await.to_string();
    assert!(found.starts_with("damaged: referenced objects not found"), "{found}");

    let path = layout::snapshot("backup", SnapshotId(1));
    let mut bytes = backup.storage.get(&path).await.unwrap().to_vec();
    bytes[50] ^= 1;
    backup.storage.delete(&path).await.unwrap();
    backup.storage.put_new(&path, bytes.clone().into()).await.unwrap();
    assert_eq!(verify(&backup, Level::List, &data).await.result, Verdict::Ok);
    assert_eq!(verify(&backup, Level::Meta, &data).await.result, Verdict::Damaged);

    backup.storage.delete(&path).await.unwrap();
    backup.storage.put_new(&path, bytes.split_off(1).into()).await.unwrap();
    assert_eq!(verify(&backup, Level::List, &data).await.result, Verdict::Damaged);
    backup.storage.delete(&path).await.unwrap();
    assert_eq!(verify(&backup, Level::List, &data).await.result, Verdict::Damaged);
}

#[tokio::test]
async fn the_parts_are_the_whole_and_a_part_looks_at_no_other() {
    let (backup, data) = world().await;
    backup.storage.delete(&layout::sst(DATA_DIR, SstId(5))).await.unwrap();
    let mut damaged = vec![];
    for part in ["1/3", "2/3", "3/3"] {
        let found = verify_part(&backup, Level::Objects, part.parse().unwrap(), &data).await;
        assert_eq!(found.coverage.to_string(), part);
        damaged.push(found.result == Verdict::Damaged);
    }
    assert_eq!(damaged, [false, false, true]);
}

#[tokio::test]
async fn a_place_that_is_not_there_is_not_verified() {
    let (backup, _) = world().await;
    let nowhere = StorageLocation::new("fs:///nowhere/at/all", DATA_DIR);
    let found = verify(&backup, Level::Objects, &nowhere).await;
    assert_eq!(found.result, Verdict::CouldNotVerify);
    assert!(found.to_string().starts_with("could not verify: "), "{found}");
    assert_eq!(verify(&backup, Level::Meta, &nowhere).await.result, Verdict::Ok);
}

#[tokio::test]
async fn what_is_where_the_snapshot_says_can_be_restored() {
    let (backup, data) = world().await;
    let elsewhere = StorageLocation::new(backup.storage.url().to_string(), "elsewhere");
    let check = Check { level: Level::Checksum, subset: Subset::ALL };
    let look = async |at| {
        let found = verify_snapshot(&backup, SnapshotId(1), check, at, NOW.to_owned(), QUIET).await;
        found.unwrap().result
    };
    assert_eq!(look(DataAt::Place(&elsewhere)).await, Verdict::Damaged);
    assert_eq!(look(DataAt::PlaceOrNamed(&elsewhere)).await, Verdict::Ok);
    assert_eq!(look(DataAt::Named).await, Verdict::Ok);
    backup.storage.delete(&layout::sst(DATA_DIR, SstId(5))).await.unwrap();
    for at in [DataAt::PlaceOrNamed(&elsewhere), DataAt::PlaceOrNamed(&data), DataAt::Named] {
        assert_eq!(look(at).await, Verdict::Damaged);
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_listed_is_an_error() {
    let (backup, data) = world().await;
    let check = Check { level: Level::List, subset: Subset::ALL };
    let at = NOW.to_owned();
    let found =
        verify_snapshot(&backup, SnapshotId(9), check, DataAt::Place(&data), at, QUIET).await;
    assert!(matches!(found, Err(BackupError::NotFound { .. })), "{found:?}");
}

#[test]
fn levels_and_parts_read_back_as_they_are_written() {
    for text in ["1/7", "7/7", "all"] {
        assert_eq!(text.parse::<Subset>().unwrap().to_string(), text);
    }
    for text in ["0/7", "8/7", "1/0", "1", "x/y", ""] {
        assert!(text.parse::<Subset>().is_err(), "{text}");
    }
    assert_eq!("checksum".parse(), Ok(Level::Checksum));
    assert!("all".parse::<Level>().is_err());
}
