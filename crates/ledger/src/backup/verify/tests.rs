//! Tests that each level finds its kind of damage and records it, and that what cannot be checked is never
//! good.

use std::collections::BTreeSet;
use std::sync::Mutex;

use sample::DATA_DIR;

use super::*;
use crate::backup::manifest::Manifest;
use crate::backup::{create_snapshot, sample};
use crate::id::SstId;
use crate::storage::Storage;

const QUIET: Report<'_> = &|_| {};
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
    look(backup, 1, Check { level, subset }, DataAt::Location(data)).await.unwrap()
}

async fn look(
    backup: &OpenLocation,
    id: u64,
    check: Check,
    data: DataAt<'_>,
) -> Result<Verification, BackupError> {
    let request = Request { ids: Some(vec![SnapshotId(id)]), check, restart: false };
    let mut found = super::verify(backup, &request, data, || NOW.to_owned(), QUIET).await?;
    assert_eq!(found.len(), 1);
    Ok(found.remove(0).verification)
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
async fn a_location_that_is_not_there_is_not_verified() {
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
    let look = async |at| look(&backup, 1, check, at).await.unwrap().result;
    assert_eq!(look(DataAt::Location(&elsewhere)).await, Verdict::Damaged);
    assert_eq!(look(DataAt::LocationOrNamed(&elsewhere)).await, Verdict::Ok);
    assert_eq!(look(DataAt::Named).await, Verdict::Ok);
    backup.storage.delete(&layout::sst(DATA_DIR, SstId(5))).await.unwrap();
    for at in [DataAt::LocationOrNamed(&elsewhere), DataAt::LocationOrNamed(&data), DataAt::Named] {
        assert_eq!(look(at).await, Verdict::Damaged);
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_listed_is_an_error() {
    let (backup, data) = world().await;
    let check = Check { level: Level::List, subset: Subset::ALL };
    let found = look(&backup, 9, check, DataAt::Location(&data)).await;
    assert!(matches!(found, Err(BackupError::UnknownSnapshots { .. })), "{found:?}");
}

/// A cluster with this number of snapshots.
async fn world_of(snapshots: u64) -> (OpenLocation, StorageLocation) {
    let (backup, data) = world().await;
    let state = sample::stored_again(&backup.storage);
    for id in 2..=snapshots {
        create_snapshot(&backup, &state, &sample::new_snapshot(id, None)).await.unwrap();
    }
    (backup, data)
}

const ALL: Request = Request {
    ids: None,
    check: Check { level: Level::Objects, subset: Subset::ALL },
    restart: false,
};

/// Verifies all snapshots; crashes once `crash_after` of them were reported.
async fn run(
    backup: &OpenLocation,
    data: &StorageLocation,
    request: &Request,
    at: &str,
    crash_after: Option<usize>,
) -> Vec<Event> {
    let (events, crash) = (Mutex::new(vec![]), tokio::sync::Notify::new());
    let report = |event| {
        let mut events = events.lock().unwrap();
        events.push(event);
        let count = events.iter().filter(|event| matches!(event, Event::Verified(_))).count();
        if crash_after.is_some_and(|limit| count >= limit) {
            crash.notify_one();
        }
    };
    let now = || at.to_owned();
    tokio::select! {
        biased;
        () = crash.notified() => {}
        found = super::verify(backup, request, DataAt::Location(data), now, &report) => {
            assert_eq!(crash_after, None, "it was to crash");
            let told = events.lock().unwrap().clone();
            let is_told = |found: &Verified| told.contains(&Event::Verified(found.clone()));
            assert!(found.unwrap().iter().all(is_told));
        }
    }
    events.into_inner().unwrap()
}

fn verified(events: &[Event]) -> Vec<Verified> {
    let found = events.iter().filter_map(|event| match event {
        Event::Verified(found) => Some(found.clone()),
        _ => None,
    });
    found.collect()
}

#[tokio::test]
async fn a_run_that_was_interrupted_goes_on_with_what_was_not_looked_at() {
    let (backup, data) = world_of(120).await;
    let (first, second) = ("2026-11-30T08:00:00.000Z", "2026-11-30T09:00:00.000Z");
    let events = run(&backup, &data, &ALL, first, Some(50)).await;
    assert_eq!(events[0], Event::Begun { snapshots: 120, resumed: None });
    let written = Manifest::read(&backup).await.unwrap();
    assert_eq!(written.verification_run.unwrap().begun_at, first);

    let events = run(&backup, &data, &ALL, second, None).await;
    let resumed = Some(first.to_owned());
    assert_eq!(events[0], Event::Begun { snapshots: 120, resumed });
    let found = verified(&events);
    assert_eq!(found.iter().map(|f| f.snapshot_id).collect::<BTreeSet<_>>().len(), 120);
    let earlier = found.iter().filter(|found| found.verification.verified_at == first).count();
    assert!((50..120).contains(&earlier), "{earlier}");
    assert!(found.iter().all(|found| found.verification.result == Verdict::Ok));
    assert_eq!(Manifest::read(&backup).await.unwrap().verification_run, None);

    // A finished run is not continued.
    let events = run(&backup, &data, &ALL, second, None).await;
    assert_eq!(events[0], Event::Begun { snapshots: 120, resumed: None });
}

#[tokio::test]
async fn another_check_and_a_restart_go_on_with_nothing() {
    let (backup, data) = world_of(60).await;
    run(&backup, &data, &ALL, NOW, Some(50)).await;
    let check = Check { level: Level::Checksum, ..ALL.check };
    for request in [Request { check, ..ALL }, Request { restart: true, ..ALL }] {
        let events = run(&backup, &data, &request, NOW, None).await;
        assert_eq!(events[0], Event::Begun { snapshots: 60, resumed: None });
    }
}

#[tokio::test]
async fn a_run_writes_the_manifest_a_few_times_only() {
    let (backup, data) = world_of(120).await;
    let before = Manifest::read(&backup).await.unwrap().manifest_id;
    run(&backup, &data, &ALL, NOW, None).await;
    let after = Manifest::read(&backup).await.unwrap().manifest_id;
    assert!(after - before < 20, "{}", after - before);
}

#[tokio::test]
async fn a_file_of_many_snapshots_is_read_once() {
    let (backup, data) = world_of(60).await;
    let check = Check { level: Level::Checksum, ..ALL.check };
    let events = run(&backup, &data, &Request { check, ..ALL }, NOW, None).await;
    let reads = events.iter().filter(|e| matches!(e, Event::Files { total: 1.., .. })).count();
    // The sizes of two files for each snapshot, and their checksums once.
    assert_eq!(reads, 60 * 2 + 2);
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
