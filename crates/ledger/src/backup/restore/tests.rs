//! Tests that a restore brings everything back and uses no number twice, and changes nothing when it refuses.

use object_store::path::Path;
use sample::{CLUSTER_ID, DATA_DIR};

use super::*;
use crate::backup::{create_snapshot, sample};
use crate::id::{ObjectId, SstId, VersionId};
use crate::layout;
use crate::lease::{Incarnation, Lease, Promised, Reserved};
use crate::meta_store::{MemoryStore, Operation, SqliteStore, Txn};

const FIRST: Incarnation = Incarnation { number: 0, id: String::new() };
const QUIET: Progress<'_> = &|_, _| {};

/// A cluster with a snapshot, all in one memory store.
struct World {
    storage: Storage,
    state: State,
    backup: OpenLocation,
}

impl World {
    async fn new() -> Self {
        let storage = Storage::in_memory();
        let state = sample::stored(&storage).await;
        let backup = OpenLocation { storage: storage.clone(), directory: "backup".to_owned() };
        sample::claim(&backup, sample::HOLDER).await;
        let world = Self { storage, state, backup };
        world.take(1).await;
        world
    }

    async fn take(&self, id: u64) {
        let new = sample::new_snapshot(id, Some("nightly"));
        create_snapshot(&self.backup, &self.state, &new).await.unwrap();
    }

    fn request(&self, id: u64) -> Request {
        let url = self.storage.url().to_string();
        Request {
            snapshot_id: SnapshotId(id),
            backup: StorageLocation::new(url.clone(), "backup"),
            hummock: StorageLocation::new(url, DATA_DIR),
            validate_integrity: true,
            now_ms: self.state.version.max_committed_epoch.unix_ms() + 90_000,
            overwrite: Overwrite::default(),
            copy_data: false,
            dry_run: false,
        }
    }

    /// All stored objects, to check that nothing changed.
    async fn objects(&self) -> Vec<String> {
        let objects = self.storage.list(&Path::default()).await.unwrap();
        let mut names: Vec<_> =
            objects.iter().map(|o| format!("{} {:?}", o.location, o.e_tag)).collect();
        names.sort();
        names
    }

    async fn restore(
        &self,
        request: Request,
        target: &dyn MetaStore,
    ) -> Result<State, BackupError> {
        let plan = plan(request, target).await?;
        plan.check_target()?;
        copy(&plan, QUIET).await?;
        verify(&plan, QUIET).await?;
        apply(&plan, target).await?;
        Ok(started(target).await)
    }

    /// Asserts that a restore fails with this text and changes nothing.
    async fn refuses(&self, request: Request, text: &str) -> BackupError {
        let before = self.objects().await;
        let target = MemoryStore::new();
        let error = self.restore(request, &target).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(target.list("").await.unwrap(), []);
        assert_eq!(self.objects().await, before);
        error
    }
}

/// The state a server would start with.
async fn started(store: &dyn MetaStore) -> State {
    let pairs = store.list("").await.unwrap();
    let pointer = store.get(keys::VERSION_CHECKPOINT).await.unwrap().unwrap();
    let checkpoint = serde_json::from_slice(&pointer).unwrap();
    let state = State::decode(&pairs, Version::default()).unwrap();
    let storage = state.params.data_location().open_existing().unwrap();
    let version = checkpoint::read(&storage, &checkpoint).await.unwrap();
    State::decode(&pairs, version).unwrap()
}

#[tokio::test]
async fn a_restore_brings_everything_back() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new/meta.db");
    let sqlite = SqliteStore::open_target(file.to_str().unwrap()).await.unwrap();
    let stores: [&dyn MetaStore; 2] = [&MemoryStore::new(), &sqlite];
    for target in stores {
        let restored = world.restore(world.request(1), target).await.unwrap();
        let next = restored.next;
        let expected = State {
            revision: world.state.revision + 1,
            next,
            epoch_floor: world.state.version.max_committed_epoch,
            incarnation: restored.incarnation.clone(),
            ..world.state.clone()
        };
        assert_eq!(restored, expected);
        assert_eq!(restored.incarnation.number, 1);
        assert_eq!(next.snapshot, SnapshotId(2));
        assert_eq!(next.sst, SstId(6));
    }
}

#[tokio::test]
async fn ids_go_on_above_all_that_may_have_been_used() {
    let world = World::new().await;
    world.take(5).await;
    let mut lease =
        Lease::take(&world.storage, DATA_DIR, CLUSTER_ID, &FIRST, 0, Promised::default())
            .await
            .unwrap();
    let needed = Reserved {
        object: ObjectId(1000),
        sst: SstId(70_000),
        version: VersionId(500),
        ..Reserved::default()
    };
    lease.reserve(needed, Promised::default()).await.unwrap();
    let reserved = lease.reserved();
    let restored = world.restore(world.request(1), &MemoryStore::new()).await.unwrap();
    assert_eq!(restored.next.object, reserved.object);
    assert_eq!(restored.next.sst, reserved.sst);
    assert_eq!(restored.next.snapshot, SnapshotId(6));
    assert_eq!(restored.version.id, reserved.version);
    assert_eq!(restored.version.max_committed_epoch, world.state.version.max_committed_epoch);
    lease.check().await.unwrap();
}

#[tokio::test]
async fn without_a_lease_the_files_that_are_there_count() {
    let world = World::new().await;
    world.storage.put_new(&layout::sst(DATA_DIR, SstId(90)), "later".into()).await.unwrap();
    let restored = world.restore(world.request(1), &MemoryStore::new()).await.unwrap();
    assert_eq!(restored.next.sst, SstId(91));
}

#[tokio::test]
async fn restore_refuses_a_nonempty_store() {
    let world = World::new().await;
    let target = MemoryStore::new();
    let operation = Operation::Put { key: "other/1".to_owned(), value: "x".into() };
    target.commit(Txn { operations: vec![operation], ..Txn::default() }).await.unwrap();
    let before = world.objects().await;
    let error = world.restore(world.request(1), &target).await.unwrap_err();
    assert_eq!(error.to_string(), "Meta storage is not empty before being restored");
    assert!(error.hint().is_some());
    assert_eq!(target.list("").await.unwrap().len(), 1);
    assert_eq!(world.objects().await, before);
}

#[tokio::test]
async fn a_store_that_was_filled_meanwhile_stays_as_it_is() {
    let world = World::new().await;
    let target = MemoryStore::new();
    let (first, second) = (
        plan(world.request(1), &target).await.unwrap(),
        plan(world.request(1), &target).await.unwrap(),
    );
    apply(&first, &target).await.unwrap();
    let before = (target.list("").await.unwrap(), world.objects().await);
    let error = apply(&second, &target).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error:?}");
    assert_eq!((target.list("").await.unwrap(), world.objects().await), before);
}

#[tokio::test]
async fn an_unknown_id_is_refused_and_the_known_ones_are_named() {
    let world = World::new().await;
    let error = world.refuses(world.request(9), "snapshot id 9 not found").await;
    assert!(error.hint().unwrap().ends_with("are 1"), "{:?}", error.hint());
    let mut request = world.request(1);
    request.backup.directory = "nodir".to_owned();
    let error = world.refuses(request, "snapshot id 1 not found").await;
    assert!(error.hint().unwrap().contains("no meta snapshots"), "{:?}", error.hint());
}

#[tokio::test]
async fn other_storage_than_the_snapshots_is_refused() {
    let world = World::new().await;
    let mut request = world.request(1);
    request.hummock.url = "memory://elsewhere".to_owned();
    let url = world.storage.url();
    let text = format!("storage_url mismatch: {url} memory://elsewhere");
    world.refuses(request, &text).await;
    let mut request = world.request(1);
    request.hummock.directory = "hummock_002".to_owned();
    world.refuses(request, "storage_directory mismatch: hummock_001 hummock_002").await;
    let mut request = world.request(1);
    request.hummock.directory = format!("/{DATA_DIR}/");
    request.hummock.url = format!("hummock+{}", request.hummock.url);
    world.restore(request, &MemoryStore::new()).await.unwrap();
}

#[tokio::test]
async fn data_files_that_are_gone_or_damaged_are_named() {
    let world = World::new().await;
    let path = layout::sst(DATA_DIR, SstId(3));
    let content = world.storage.get(&path).await.unwrap();
    world.storage.delete(&path).await.unwrap();
    let missing = "referenced objects not found in object store: {3}";
    world.refuses(world.request(1), missing).await;
    world.storage.put_new(&path, content.slice(1..)).await.unwrap();
    world.refuses(world.request(1), "damaged: {3 (has 13 bytes").await;
    world.storage.delete(&path).await.unwrap();
    let mut flipped = content.to_vec();
    flipped[0] ^= 1;
    world.storage.put_new(&path, flipped.into()).await.unwrap();
    world.refuses(world.request(1), "3 (does not match its checksum)").await;
    let quick = Request { validate_integrity: false, ..world.request(1) };
    world.restore(quick, &MemoryStore::new()).await.unwrap();
}

#[tokio::test]
async fn a_data_directory_of_another_cluster_is_refused() {
    let world = World::new().await;
    Lease::take(&world.storage, DATA_DIR, "another", &FIRST, 0, Promised::default()).await.unwrap();
    world.refuses(world.request(1), "another cluster with id \"another\"").await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused() {
    let world = World::new().await;
    let path = layout::snapshot("backup", SnapshotId(1));
    let mut bytes = world.storage.get(&path).await.unwrap().to_vec();
    bytes[50] ^= 1;
    world.storage.delete(&path).await.unwrap();
    world.storage.put_new(&path, bytes.into()).await.unwrap();
    world.refuses(world.request(1), "/backup/1.snapshot is damaged").await;
}

#[tokio::test]
async fn a_plan_says_what_will_happen_and_does_nothing() {
    let world = World::new().await;
    world.take(2).await;
    let before = world.objects().await;
    let target = MemoryStore::new();
    let shown = plan(world.request(1), &target).await.unwrap().to_string();
    let facts = [
        "snapshot              1 in memory://",
        "taken at              2026-11-22T16:53:37.121Z (",
        "remarks               nightly",
        "tables                1 with 9 rows",
        "                      public.t (9 rows)",
        "data files            2 with 24 B in memory://",
        "(1 min 30 s ago)",
        "                      no later commit is known",
        "newest snapshot there 2, taken at",
        "target                memory (empty)",
        "ids continue at       object 8, data file 6, version 4, snapshot 3",
    ];
    for fact in facts {
        assert!(shown.contains(fact), "{fact:?} is not in\n{shown}");
    }
    assert_eq!(world.objects().await, before);
    assert_eq!(target.list("").await.unwrap(), []);
}

/// Copies the data of `world`, with its lease if it has one, to another store.
async fn copied_by_hand(world: &World) -> Storage {
    let elsewhere = Storage::in_memory();
    for object in world.storage.list(&layout::directory(DATA_DIR)).await.unwrap() {
        let content = world.storage.get(&object.location).await.unwrap();
        elsewhere.put_new(&object.location, content).await.unwrap();
    }
    elsewhere
}

fn moved(world: &World, to: &Storage) -> Request {
    let hummock = StorageLocation::new(to.url().to_string(), DATA_DIR);
    let overwrite = Overwrite { hummock: true, ..Overwrite::default() };
    Request { hummock, overwrite, ..world.request(1) }
}

#[tokio::test]
async fn an_overwritten_endpoint_is_where_the_restored_cluster_lives() {
    let world = World::new().await;
    let elsewhere = copied_by_hand(&world).await;
    let request = Request {
        overwrite: Overwrite {
            hummock: true,
            backup_url: Some("memory://other".to_owned()),
            backup_directory: Some("/kept/".to_owned()),
        },
        ..moved(&world, &elsewhere)
    };
    let restored = world.restore(request, &MemoryStore::new()).await.unwrap();
    let url = elsewhere.url().to_string();
    assert_eq!(restored.params.value("state_store"), format!("hummock+{url}"));
    assert_eq!(restored.params.backup_location(), StorageLocation::new("memory://other", "kept"));
    let bad = Overwrite { backup_url: Some("nonsense".to_owned()), ..Overwrite::default() };
    world.refuses(Request { overwrite: bad, ..world.request(1) }, "backup_storage_url").await;
    let only = Overwrite { backup_directory: Some("kept".to_owned()), ..Overwrite::default() };
    let request = Request { overwrite: only, ..world.request(1) };
    let restored = world.restore(request, &MemoryStore::new()).await.unwrap();
    assert_eq!(restored.params.backup_location().directory, "kept");
}

#[tokio::test]
async fn an_overwritten_endpoint_of_another_cluster_is_refused() {
    let world = World::new().await;
    let elsewhere = copied_by_hand(&world).await;
    Lease::take(&elsewhere, DATA_DIR, "another", &FIRST, 0, Promised::default()).await.unwrap();
    world.refuses(moved(&world, &elsewhere), "another cluster with id \"another\"").await;
}

#[tokio::test]
async fn a_location_without_a_lease_uses_no_number_of_a_later_snapshot() {
    let mut world = World::new().await;
    let elsewhere = copied_by_hand(&world).await;
    let mut change = world.state.change_at(Epoch::from_unix_ms(1_795_366_500_000));
    change.next = NextIds { object: ObjectId(50), sst: SstId(700), snapshot: SnapshotId(3) };
    world.state = world.state.apply(&change);
    world.take(2).await;
    let restored = world.restore(moved(&world, &elsewhere), &MemoryStore::new()).await.unwrap();
    assert_eq!((restored.next.object, restored.next.sst), (ObjectId(50), SstId(700)));
    assert_eq!(restored.epoch_floor, world.state.version.max_committed_epoch);
    assert_eq!(restored.version.id, VersionId(world.state.version.id.0 + 1));
}

#[tokio::test]
async fn data_is_copied_first_and_what_is_there_is_not_copied_again() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/state_store");
    let request = Request {
        hummock: StorageLocation::new(format!("fs://{}", root.display()), "elsewhere"),
        copy_data: true,
        ..world.request(1)
    };
    let dry = Request { dry_run: true, ..request.clone() };
    let shown = plan(dry, &MemoryStore::new()).await.unwrap();
    verify(&shown, QUIET).await.unwrap();
    let text = shown.to_string();
    assert!(text.contains("to be copied          2 with 24 B from memory://"), "{text}");
    assert!(!root.exists());

    let restored = world.restore(request.clone(), &MemoryStore::new()).await.unwrap();
    assert_eq!(restored.version.file_count(), world.state.version.file_count());
    assert_eq!(restored.params.value("data_directory"), "elsewhere");
    let again = plan(request.clone(), &MemoryStore::new()).await.unwrap();
    let files = again.copy.unwrap().files;
    assert_eq!((files.missing.len(), files.there), (0, 2));

    std::fs::write(root.join("elsewhere/3.data"), "not ours").unwrap();
    let error = plan(request, &MemoryStore::new()).await.unwrap_err().to_string();
    assert!(error.contains("has other files of the same names: {3}"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_mangled_is_not_copied() {
    let world = World::new().await;
    let path = layout::sst(DATA_DIR, SstId(3));
    let mut content = world.storage.get(&path).await.unwrap().to_vec();
    content[0] ^= 1;
    world.storage.delete(&path).await.unwrap();
    world.storage.put_new(&path, content.into()).await.unwrap();
    let elsewhere = Storage::in_memory();
    let request = Request { copy_data: true, ..moved(&world, &elsewhere) };
    let error = world.restore(request, &MemoryStore::new()).await.unwrap_err().to_string();
    assert!(error.contains("3.data does not match its checksum"), "{error}");
    assert!(elsewhere.get_opt(&path).await.unwrap().is_none());
}

#[tokio::test]
async fn a_plan_says_what_would_be_lost() {
    let mut world = World::new().await;
    let epoch = Epoch::from_unix_ms(1_795_366_500_000);
    let mut change = world.state.change_at(epoch);
    change.delta.died = vec![(ObjectId(7), SstId(5))];
    world.state = world.state.apply(&change);
    checkpoint::write(&world.storage, DATA_DIR, &world.state.version).await.unwrap();
    world.storage.put_new(&layout::sst(DATA_DIR, SstId(9)), "later".into()).await.unwrap();
    let newer = layout::checkpoint(DATA_DIR, VersionId(999), "ab");
    world.storage.put_new(&newer, "no checkpoint".into()).await.unwrap();

    let dry = Request { dry_run: true, ..world.request(1) };
    let plan = plan(dry, &MemoryStore::new()).await.unwrap();
    let text = plan.to_string();
    let facts = [
        "by checkpoint hummock_001/checkpoint/5-",
        "public.t: 9 rows instead of 8, 1 come back",
        "1 data files with 5 B that it does not name, last written ",
        "not read: hummock_001/checkpoint/999-ab.version (",
    ];
    for fact in facts {
        assert!(text.contains(fact), "{fact:?} is not in\n{text}");
    }
    assert_eq!(plan.version.id, VersionId(999));
    let json = plan.to_json();
    assert_eq!(json["loss"]["newest"]["epoch"], epoch.as_u64());
    assert_eq!(json["loss"]["tables"][0]["rows_newest"], 8);
    assert_eq!(json["target"]["holds"]["pairs"], 0);
}

#[tokio::test]
async fn a_plan_says_what_the_target_holds() {
    let world = World::new().await;
    let target = MemoryStore::new();
    world.restore(world.request(1), &target).await.unwrap();
    let dry = Request { dry_run: true, ..world.request(1) };
    let plan = plan(dry, &target).await.unwrap();
    let text = plan.to_string();
    let fact = format!("of cluster {CLUSTER_ID} with 1 tables, public.t)");
    assert!(text.contains(&fact), "{text}");
    assert!(matches!(plan.check_target(), Err(BackupError::NotEmpty { .. })));
}
