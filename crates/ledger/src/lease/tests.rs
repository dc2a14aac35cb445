//! A directory belongs to one cluster, one life of it and one server, and no number is used twice.

use std::sync::Arc;

use super::*;
use crate::epoch::{ManualClock, Timeline};

const NOTHING: Promised = Promised { revision: 0, epoch: Epoch::ZERO };

static FIRST: Incarnation = Incarnation { number: 0, id: String::new() };

fn needed(sst: u64, epoch_ms: u64) -> Reserved {
    let epoch = Epoch::from_unix_ms(1_700_000_000_000 + epoch_ms);
    Reserved { sst: SstId(sst), epoch, ..Reserved::default() }
}

/// The keeper of a new lease, with epochs `ahead_ms` milliseconds ahead of the clock.
async fn keeper(storage: &Storage, ahead_ms: u64) -> LeaseKeeper {
    let clock = ManualClock::at_ms(1_700_000_000_000);
    let timeline = Arc::new(Timeline::starting_after(clock, needed(0, ahead_ms).epoch));
    let tenure = Tenure::begin(storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    LeaseKeeper::new(tenure, timeline)
}

#[tokio::test]
async fn a_second_cluster_does_not_get_the_directory() {
    let storage = Storage::in_memory();
    Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    let error = Lease::take(&storage, "data", "two", &FIRST, 0, NOTHING).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "data directory is already used by another cluster with id \"one\""
    );
    assert!(error.hint().is_some());
    Lease::take(&storage, "other", "two", &FIRST, 0, NOTHING).await.unwrap();
}

#[tokio::test]
async fn whoever_takes_it_deposes_the_one_before() {
    let storage = Storage::in_memory();
    let mut first = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    first.reserve(needed(5, 0), NOTHING).await.unwrap();
    let mut second = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    assert_eq!((first.generation(), second.generation()), (1, 2));
    assert_eq!(second.reserved(), first.reserved());
    assert!(second.begun_at().is_nothing());
    first.reserve(needed(5, 0), NOTHING).await.unwrap(); // reserved already: nothing is written
    let error = first.reserve(needed(100_000, 0), NOTHING).await.unwrap_err();
    assert_eq!(error.to_string(), "this server lost the data directory to generation 2");
    assert!(first.check().await.is_err());
    second.reserve(needed(100_000, 0), NOTHING).await.unwrap();
    second.check().await.unwrap();
}

#[tokio::test]
async fn who_led_earlier_does_not_take_it_from_who_leads() {
    let storage = Storage::in_memory();
    let take =
        async |life, leader| Lease::take(&storage, "data", "one", life, leader, NOTHING).await;
    let mut leads = take(&FIRST, 20).await.unwrap();
    let error = take(&FIRST, 10).await.unwrap_err();
    assert!(matches!(error, LeaseError::Deposed { generation: 1 }), "{error:?}");
    leads.check().await.unwrap();
    take(&FIRST, 20).await.unwrap();
    // A restore starts on another meta store, whose leader numbers are unrelated.
    take(&FIRST.next(), 3).await.unwrap();
}

#[tokio::test]
async fn reservations_go_a_block_further_and_never_back() {
    let storage = Storage::in_memory();
    let mut lease = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    lease.reserve(needed(5, 0), NOTHING).await.unwrap();
    let reserved = lease.reserved();
    assert_eq!(reserved.sst, SstId(10_005));
    assert_eq!(reserved.epoch, needed(0, 10_000).epoch);
    assert_eq!(reserved.object, ObjectId(0));
    lease.reserve(needed(10_005, 9_999), NOTHING).await.unwrap();
    assert_eq!(lease.reserved(), reserved);
    lease.reserve(needed(1, 10_001), NOTHING).await.unwrap();
    assert_eq!(lease.reserved().sst, reserved.sst);
    assert!(lease.reserved().epoch > reserved.epoch);
    let written = read(&storage, "data").await.unwrap().unwrap();
    assert_eq!(written.reserved, lease.reserved());
}

#[tokio::test]
async fn of_two_that_start_at_once_one_is_left() {
    let storage = Storage::in_memory();
    let takes = (0..6).map(|_| Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING));
    let mut leases: Vec<_> =
        futures::future::join_all(takes).await.into_iter().map(Result::unwrap).collect();
    let mut held = 0;
    for lease in &mut leases {
        held += usize::from(lease.check().await.is_ok());
    }
    assert_eq!(held, 1);
}

#[tokio::test]
async fn an_earlier_life_never_gets_the_directory_back() {
    let storage = Storage::in_memory();
    let mut old = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    old.reserve(needed(7, 0), NOTHING).await.unwrap();
    let (one, other) = (FIRST.next(), FIRST.next());
    let mut restored = Lease::take(&storage, "data", "one", &one, 0, NOTHING).await.unwrap();
    assert_eq!(restored.begun_at(), old.reserved());
    let error = old.check().await.unwrap_err();
    assert!(error.to_string().contains("restored into another meta store"), "{error}");
    for life in [&FIRST, &other] {
        let error = Lease::take(&storage, "data", "one", life, 0, NOTHING).await.unwrap_err();
        assert!(matches!(error, LeaseError::Superseded { number: 1 }), "{error:?}");
    }
    restored.check().await.unwrap();
    restored.reserve(needed(70, 0), NOTHING).await.unwrap();
    let again = Lease::take(&storage, "data", "one", &one, 0, NOTHING).await.unwrap();
    assert_eq!(again.begun_at(), old.reserved());
    Lease::take(&storage, "data", "one", &one.next(), 0, NOTHING).await.unwrap();
}

#[tokio::test]
async fn format_1_reads_forever() {
    let record = LeaseRecord {
        generation: 3,
        reserved: needed(10_005, 10_000),
        ..LeaseRecord::first("5ac8f7e2-0000-4000-8000-000000000001")
    };
    let written = crate::fixtures::read_or_update("lease-v1.json", || record.to_bytes());
    let storage = Storage::in_memory();
    storage.put_new(&layout::lease("data"), written.into()).await.unwrap();
    assert_eq!(read(&storage, "data").await.unwrap(), Some(record));
    assert_eq!(read(&storage, "none").await.unwrap(), None);
}

#[tokio::test]
async fn format_1_with_backup_locations_reads_forever() {
    let known = |url: &str, directory: &str, manifest_id| KnownLocation {
        location: StorageLocation::new(url, directory),
        manifest_id,
    };
    let locations =
        [known("fs:///var/lib/tidemark/state_store", "backup", 0), known("memory", "elsewhere", 0)];
    let record = LeaseRecord {
        backup_locations: locations.into(),
        ..LeaseRecord::first("5ac8f7e2-0000-4000-8000-000000000001")
    };
    let name = "lease-v1-locations.json";
    let written = crate::fixtures::read_or_update(name, || record.to_bytes());
    let storage = Storage::in_memory();
    storage.put_new(&layout::lease("data"), written.into()).await.unwrap();
    assert_eq!(read(&storage, "data").await.unwrap(), Some(record.clone()));
    let record = LeaseRecord {
        leader: 77,
        incarnation: Incarnation { number: 2, id: "a life".to_owned() },
        begun_at: needed(10_005, 10_000),
        backup_locations: [known("s3://backups", "backup", 9)].into(),
        ..record
    };
    let name = "lease-v1-life.json";
    let written = crate::fixtures::read_or_update(name, || record.to_bytes());
    storage.put_new(&layout::lease("life"), written.into()).await.unwrap();
    assert_eq!(read(&storage, "life").await.unwrap(), Some(record));
}

#[tokio::test]
async fn format_1_with_a_promise_reads_forever() {
    let record = LeaseRecord {
        promised: Some(Promised { revision: 33, epoch: needed(0, 7).epoch }),
        reserved: needed(10_005, 10_000),
        ..LeaseRecord::first("5ac8f7e2-0000-4000-8000-000000000001")
    };
    let name = "lease-v1-promised.json";
    let written = crate::fixtures::read_or_update(name, || record.to_bytes());
    let storage = Storage::in_memory();
    storage.put_new(&layout::lease("data"), written.into()).await.unwrap();
    assert_eq!(read(&storage, "data").await.unwrap(), Some(record));
}

#[tokio::test]
async fn what_was_promised_is_kept_in_one_life_and_forgotten_in_the_next() {
    let storage = Storage::in_memory();
    let end = |revision| Promised { revision, epoch: needed(0, revision).epoch };
    let take = async |life: &Incarnation, revision| {
        Lease::take(&storage, "data", "one", life, 0, end(revision)).await
    };
    let mut lease = take(&FIRST, 5).await.unwrap();
    assert_eq!(lease.promised(), end(5));
    lease.reserve(needed(5, 0), end(7)).await.unwrap();
    assert_eq!(lease.promised(), end(7));
    // Nothing is written for numbers that are reserved already, and a promise never goes back.
    lease.reserve(needed(5, 0), end(9)).await.unwrap();
    assert_eq!(lease.promised(), end(7));
    lease.promise(end(8)).await.unwrap();
    lease.promise(end(6)).await.unwrap();
    for revision in [0, 5, 7] {
        let error = take(&FIRST, revision).await.unwrap_err();
        let LeaseError::Behind { promised, found } = error else { panic!("{error:?}") };
        assert_eq!((promised, found), (end(8), end(revision)));
    }
    lease.check().await.unwrap();
    take(&FIRST, 8).await.unwrap();
    assert_eq!(take(&FIRST.next(), 2).await.unwrap().promised(), end(2));
}

#[tokio::test]
async fn no_damaged_lease_is_believed() {
    let storage = Storage::in_memory();
    let end = Promised { revision: 5, epoch: needed(0, 0).epoch };
    let mut lease = Lease::take(&storage, "data", "one", &FIRST.next(), 3, end).await.unwrap();
    lease.reserve(needed(5, 0), end).await.unwrap();
    let location = StorageLocation::new("memory", "backup");
    lease.note_backup_location(KnownLocation { location, manifest_id: 3 }).await.unwrap();
    let path = layout::lease("data");
    let whole = storage.get(&path).await.unwrap();
    let refused = async |bytes: Vec<u8>, damage: &str| {
        let storage = Storage::in_memory();
        storage.put_new(&path, bytes.into()).await.unwrap();
        let Err(error) = read(&storage, "data").await else { panic!("{damage} was believed") };
        assert!(error.to_string().contains("lease.json is damaged"), "{damage}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("delete it, but only if")));
    };
    for bit in 0..8 * whole.len() {
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(flipped, &format!("bit {bit}")).await;
    }
    for length in 0..whole.len() {
        refused(whole[..length].to_vec(), &format!("cut to {length} bytes")).await;
        let mut zeroed = whole.to_vec();
        zeroed[length..].fill(0);
        refused(zeroed, &format!("zeroed from {length}")).await;
    }
}

#[tokio::test]
async fn backup_locations_are_known_until_they_are_forgotten() {
    let storage = Storage::in_memory();
    let mut lease = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    let location = StorageLocation::new("memory", "backup");
    let known = |manifest_id| KnownLocation { location: location.clone(), manifest_id };
    for (noted, expected) in [(0, 0), (3, 3), (0, 3), (2, 3), (4, 4)] {
        lease.note_backup_location(known(noted)).await.unwrap();
        assert_eq!(lease.record.backup_locations, [known(expected)].into());
    }
    lease.forget_backup_location(&location).await.unwrap();
    assert!(read(&storage, "data").await.unwrap().unwrap().backup_locations.is_empty());
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let storage = Storage::in_memory();
    let newer = LeaseRecord { format: 2, ..LeaseRecord::first("one") };
    storage.put_new(&layout::lease("data"), newer.to_bytes()).await.unwrap();
    let error = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap_err();
    assert!(error.to_string().contains("format 2"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("use a newer release"));
}

#[tokio::test]
async fn numbers_are_reserved_before_they_are_needed() {
    let storage = Storage::in_memory();
    let keeper = keeper(&storage, 0).await;
    let stored = async || read(&storage, "data").await.unwrap().unwrap().reserved;
    keeper.reserve(needed(5, 0), NOTHING).await.unwrap();
    // The other numbers are not reserved yet.
    keeper.reserve(needed(5, 0), NOTHING).await.unwrap();
    while stored().await.version == VersionId(0) {
        tokio::task::yield_now().await;
    }
    let first = stored().await;
    // Enough are left.
    keeper.reserve(needed(5_004, 4_000), NOTHING).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(stored().await, first);
    // Few are left: this call does not wait, and the next one finds more.
    keeper.reserve(needed(5_006, 4_000), NOTHING).await.unwrap();
    while stored().await == first {
        tokio::task::yield_now().await;
    }
    assert_eq!(stored().await.sst, SstId(5_006 + 5_000 + 10_000));
    let other = Lease::take(&storage, "data", "one", &FIRST, 0, NOTHING).await.unwrap();
    keeper.reserve(needed(20_006, 0), NOTHING).await.unwrap();
    let error = keeper.reserve(needed(20_007, 0), NOTHING).await.unwrap_err();
    assert!(matches!(error, LeaseError::Deposed { .. }), "{error:?}");
    assert_eq!(stored().await, other.reserved());
}

/// Each of several restores in a row once put epochs ten seconds further ahead of the clock.
#[tokio::test]
async fn where_epochs_are_ahead_of_the_clock_few_more_are_reserved() {
    for (ahead_ms, block_ms) in [(0, 10_000), (60_000, 1_000)] {
        let storage = Storage::in_memory();
        let (keeper, newest) = (keeper(&storage, ahead_ms).await, needed(5, ahead_ms));
        keeper.reserve(newest, NOTHING).await.unwrap();
        let reserved = keeper.look().await.unwrap().reserved.epoch;
        assert_eq!(reserved.unix_ms() - newest.epoch.unix_ms(), block_ms);
    }
}
