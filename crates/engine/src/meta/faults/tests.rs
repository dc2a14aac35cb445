//! Tests: the random programs, and the bugs they stand for, each by its name.

use std::sync::Arc;

use super::Fate;
use super::programs::run;
use super::steps::Ask;
use super::world::{BACKUP_DIRECTORIES, DATA_DIR, World, relation};
use crate::meta::MetaNode;
use crate::meta::command::{BackupOptions, TableWrite, Write};
use tidemark_ledger::epoch::Clock as _;
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::meta_store::{MetaStore as _, Txn};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::state::seal::Seal;
use tidemark_ledger::state::{json_pair, put};
use tidemark_ledger::storage::StorageLocation;
use tidemark_ledger::{keys, lease, params};

/// Number of programs that run by default.
const PROGRAMS: u64 = 300;
/// Number of programs on a meta store that lies: at least one of them must be detected.
const LIARS: u64 = 30;
const MANIFEST: &str = "manifest.json";
const LEASE: &str = "lease.json";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs each program in its own runtime, so that no task of one continues in the next.
fn outcome_of(seed: u64, lies: bool) -> Result<(), String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime can be made");
    runtime.block_on(Box::pin(run(seed, lies)))
}

#[test]
fn whatever_fails_and_whenever_nothing_acknowledged_is_lost_and_nothing_refused_is_done() {
    let seeds = match number("TIDEMARK_FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEMARK_FAULT_PROGRAMS").unwrap_or(PROGRAMS),
    };
    for seed in seeds {
        if let Err(what) = outcome_of(seed, false) {
            panic!("{what}\n  TIDEMARK_FAULT_SEED={seed} runs it again");
        }
    }
}

#[test]
fn a_meta_store_that_lies_is_found_out() {
    let found = (0..LIARS).filter_map(|seed| outcome_of(seed, true).err());
    let found: Vec<_> = found.collect();
    let lost = found.iter().filter(|what| what.contains(", acknowledged, is not in")).count();
    assert!(lost > 0, "{found:?}");
}

/// A cluster with two files, whose stores fail only as scripted.
async fn quiet() -> (World, Arc<MetaNode>) {
    let mut world = World::new(0, 0, true, true).await.unwrap();
    let node = Arc::clone(world.node.as_ref().unwrap());
    asked(&mut world, &node, Ask::Insert { files: 2 }).await.unwrap();
    (world, node)
}

/// Sends a request, then checks everything before and after the requests in flight arrive.
async fn asked(world: &mut World, node: &Arc<MetaNode>, ask: Ask) -> Result<(), MetaError> {
    let told = world.ask(node, &ask).await.unwrap();
    let error = told.error().cloned();
    world.learn_told(told).unwrap();
    world.check().await.unwrap_or_else(|e| panic!("{}\n{e}", world.chaos.trace()));
    world.chaos.drain().await;
    world.check().await.unwrap_or_else(|e| panic!("{}\n{e}", world.chaos.trace()));
    assert!(world.chaos.is_played(), "not all came that was scripted\n{}", world.chaos.trace());
    error.map_or(Ok(()), Err)
}

const BACKUP: Ask = Ask::Backup { copy_data: false };

#[tokio::test]
async fn a_backup_whose_entry_arrives_late_keeps_its_object_or_is_never_listed() {
    let (mut world, node) = quiet().await;
    world.chaos.script("put", MANIFEST, Fate::Later);
    let error = asked(&mut world, &node, BACKUP).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
    assert!(node.list_snapshots().await.unwrap().snapshot_metadata.is_empty());
}

#[tokio::test]
async fn a_backup_that_was_listed_all_the_same_succeeds() {
    for fate in [Fate::After, Fate::Retried] {
        let (mut world, node) = quiet().await;
        world.chaos.script("put", MANIFEST, fate);
        asked(&mut world, &node, BACKUP).await.unwrap();
        assert_eq!(node.list_snapshots().await.unwrap().snapshot_metadata.len(), 1);
    }
}

#[tokio::test]
async fn a_backup_of_which_it_is_not_known_whether_it_is_listed_says_so() {
    for fate in [Fate::After, Fate::Later] {
        let (mut world, node) = quiet().await;
        world.chaos.script("put", MANIFEST, fate);
        world.chaos.script("put", MANIFEST, Fate::Before);
        let error = asked(&mut world, &node, BACKUP).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
        assert!(error.message.contains("not known"), "{error}");
        assert_eq!(node.list_snapshots().await.unwrap().snapshot_metadata.len(), 1);
    }
}

/// A server with a BACKUP in flight whose manifest entry will be the only one to name a file.
async fn backup_on_its_way() -> (World, Arc<MetaNode>) {
    let (mut world, node) = quiet().await;
    let mut write = TableWrite::to(&relation(&node));
    write.truncate = true;
    let base_epoch = node.manager.state().version.max_committed_epoch;
    node.manager.write(Write { base_epoch, tables: vec![write] }, vec![]).await.unwrap();
    world.model.facts.clear();
    world.clock.advance_ms(599_500);
    world.chaos.script("put", MANIFEST, Fate::Later);
    world.chaos.script("put", MANIFEST, Fate::Before);
    let told = world.ask(&node, &BACKUP).await.unwrap();
    assert_eq!(told.error().unwrap().kind, ErrorKind::Unknown);
    world.learn_told(told).unwrap();
    // The truncated files are past retention now, and the entry has not arrived yet.
    world.clock.advance_ms(800);
    (world, node)
}

async fn vacuums_and_all_is_there(world: &mut World, node: &MetaNode) {
    let plan = node.vacuum(Some(0), false).await.unwrap();
    assert!(plan.garbage.len() >= 2, "{plan:?}");
    world.chaos.drain().await;
    world.check().await.unwrap_or_else(|e| panic!("{}\n{e}", world.chaos.trace()));
}

async fn moves_backups(world: &mut World, node: &MetaNode) {
    let (name, value) = (params::BACKUP_STORAGE_DIRECTORY, BACKUP_DIRECTORIES[1].to_owned());
    let told = world.ask(node, &Ask::Alter { name, value }).await.unwrap();
    assert!(told.error().is_none(), "{:?}", told.error());
    world.learn_told(told).unwrap();
}

#[tokio::test]
async fn a_vacuum_keeps_late_entries_out_before_it_looks() {
    let (mut world, node) = backup_on_its_way().await;
    vacuums_and_all_is_there(&mut world, &node).await;
}

#[tokio::test]
async fn a_vacuum_keeps_late_entries_out_of_the_location_before() {
    let (mut world, node) = backup_on_its_way().await;
    moves_backups(&mut world, &node).await;
    vacuums_and_all_is_there(&mut world, &node).await;
}

#[tokio::test]
async fn a_vacuum_keeps_late_entries_of_the_server_before_out() {
    let (mut world, _node) = backup_on_its_way().await;
    // The next server fails to become the holder when it starts to lead, and then the location changes.
    world.chaos.script("get", MANIFEST, Fate::Before);
    let next = world.opened(&Arc::clone(&world.meta)).await.unwrap();
    assert!(world.chaos.is_played());
    world.replace_node(Arc::clone(&next));
    moves_backups(&mut world, &next).await;
    vacuums_and_all_is_there(&mut world, &next).await;
}

#[tokio::test]
async fn a_location_of_which_it_is_not_known_whether_it_is_forgotten_is_said_so() {
    let (mut world, node) = quiet().await;
    moves_backups(&mut world, &node).await;
    let url = world.params.value(params::BACKUP_STORAGE_URL);
    let location = StorageLocation::new(url, BACKUP_DIRECTORIES[0]);
    world.chaos.script("put", LEASE, Fate::After);
    let error = node.forget_location(location).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
}

#[tokio::test]
async fn a_deletion_that_happened_all_the_same_succeeds() {
    for fate in [Fate::After, Fate::Retried] {
        let (mut world, node) = quiet().await;
        asked(&mut world, &node, BACKUP).await.unwrap();
        world.chaos.script("put", MANIFEST, fate);
        let ids = vec![SnapshotId(1)];
        asked(&mut world, &node, Ask::DeleteSnapshots { ids }).await.unwrap();
        assert!(node.list_snapshots().await.unwrap().snapshot_metadata.is_empty());
    }
}

#[tokio::test]
async fn a_deletion_that_failed_does_not_happen_later() {
    let (mut world, node) = quiet().await;
    asked(&mut world, &node, BACKUP).await.unwrap();
    world.chaos.script("put", MANIFEST, Fate::Later);
    let ids = vec![SnapshotId(1)];
    let error = asked(&mut world, &node, Ask::DeleteSnapshots { ids }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
    assert_eq!(node.list_snapshots().await.unwrap().snapshot_metadata.len(), 1);
}

#[tokio::test]
async fn a_deletion_of_which_nothing_is_known_says_so() {
    let (mut world, node) = quiet().await;
    asked(&mut world, &node, BACKUP).await.unwrap();
    world.chaos.script("put", MANIFEST, Fate::Later);
    world.chaos.script("put", MANIFEST, Fate::Before);
    let ids = vec![SnapshotId(1)];
    let error = asked(&mut world, &node, Ask::DeleteSnapshots { ids }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
}

#[tokio::test]
async fn a_snapshot_is_deleted_when_its_object_stays_behind() {
    let (mut world, node) = quiet().await;
    asked(&mut world, &node, Ask::Backup { copy_data: true }).await.unwrap();
    world.chaos.script("delete", "1.snapshot", Fate::Before);
    let ids = vec![SnapshotId(1)];
    asked(&mut world, &node, Ask::DeleteSnapshots { ids }).await.unwrap();
    asked(&mut world, &node, BACKUP).await.unwrap();
    assert_eq!(node.list_snapshots().await.unwrap().snapshot_metadata[0].info.id, SnapshotId(2));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_known_or_ends_the_writes() {
    let (mut world, node) = quiet().await;
    let insert = || Ask::Insert { files: 1 };
    world.chaos.script("commit", keys::REVISION, Fate::After);
    asked(&mut world, &node, insert()).await.unwrap();
    world.chaos.script("commit", keys::REVISION, Fate::Before);
    let error = asked(&mut world, &node, insert()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage, "{error}");
    world.chaos.script("commit", keys::REVISION, Fate::Later);
    world.chaos.script("get a key", keys::REVISION, Fate::Before);
    let error = asked(&mut world, &node, insert()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
    let error = asked(&mut world, &node, insert()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Deposed, "{error}");
    world.check().await.unwrap();
}

/// Two servers on one store without a leader: both count the same revisions.
#[tokio::test]
async fn a_commit_of_another_server_is_not_taken_for_ones_own() {
    let (mut world, node) = quiet().await;
    let next = node.manager.state().revision + 1;
    let seal = Seal::verify(&world.meta.store.list("").await.unwrap()).unwrap();
    let mut operations = vec![put(json_pair(keys::REVISION.to_owned(), &next))];
    drop(seal.seal(&mut operations, next));
    world.meta.store.commit(Txn { preconditions: vec![], operations }).await.unwrap();
    world.chaos.script("commit", keys::REVISION, Fate::Before);
    let error = asked(&mut world, &node, Ask::Insert { files: 1 }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
}

#[tokio::test]
async fn a_lease_that_does_not_answer_is_waited_for_ten_seconds() {
    for later in [false, true] {
        let (mut world, node) = quiet().await;
        world.clock.advance_ms(60_000);
        world.chaos.script("put", LEASE, Fate::Hang { later });
        let error = asked(&mut world, &node, Ask::Insert { files: 1 }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Storage, "{error}");
        assert!(error.message.contains("no answer within 10 seconds"), "{error}");
        asked(&mut world, &node, Ask::Insert { files: 1 }).await.unwrap();
    }
}

/// A checkpoint that seemed adopted but was not once left deltas behind that no start could read.
#[tokio::test]
async fn a_checkpoint_is_adopted_only_when_the_store_says_so() {
    let (mut world, node) = quiet().await;
    world.chaos.script("commit", keys::VERSION_CHECKPOINT, Fate::Before);
    for round in 0..2400 {
        node.manager.flush().await.unwrap();
        if round % 300 == 0 {
            world.check().await.unwrap();
        }
    }
    assert!(world.chaos.is_played(), "no checkpoint was written");
    world.check().await.unwrap();
    let node = world.opened(&Arc::clone(&world.meta)).await.unwrap();
    world.replace_node(node);
    world.check().await.unwrap();
}

/// The first start of a restored cluster once failed after it had taken the data directory; the next
/// start then used numbers that the previous life had used.
#[tokio::test]
async fn a_first_start_that_fails_with_the_lease_taken_is_made_up_for_by_the_next() {
    let (mut world, node) = quiet().await;
    node.backup(BackupOptions::default()).await.unwrap();
    assert!(world.restore(BACKUP_DIRECTORIES[0], SnapshotId(1)).await.unwrap());
    // The previous life continues after the restore was planned.
    world.clock.advance_ms(3_600_000);
    let last = node.manager.flush().await.unwrap();
    world.clock.set_ms(last.epoch.unix_ms() - 3_600_000);
    world.chaos.script("commit", keys::EPOCH_FLOOR, Fate::Before);
    let meta = Arc::clone(&world.meta);
    world.opened(&meta).await.unwrap_err();
    assert!(world.chaos.is_played());
    let data = world.open_directory(DATA_DIR).unwrap();
    let begun_at = lease::read(&data.storage, &data.directory).await.unwrap().unwrap().begun_at;
    assert!(begun_at.epoch > last.epoch);
    for _ in 0..2 {
        let restored = world.opened(&meta).await.unwrap();
        assert!(restored.manager.flush().await.unwrap().epoch > begun_at.epoch);
        assert!(restored.manager.state().next.sst >= begun_at.sst);
    }
    assert_eq!(node.manager.standing().await.unwrap_err().kind, ErrorKind::Deposed);
    assert_eq!(node.manager.flush().await.unwrap_err().kind, ErrorKind::Deposed);
}

const DAY_MS: u64 = 86_400_000;

/// Kills all rows. Returns the number of objects that a vacuum deletes 21 minutes later, about twice
/// the retention time.
async fn killed_and_reclaimed(world: &World, node: &MetaNode) -> usize {
    let mut write = TableWrite::to(&relation(node));
    write.truncate = true;
    let base_epoch = node.manager.state().version.max_committed_epoch;
    node.manager.write(Write { base_epoch, tables: vec![write] }, vec![]).await.unwrap();
    for _ in 0..21 {
        world.clock.advance_ms(60_000);
        node.manager.flush().await.unwrap();
    }
    node.vacuum(Some(0), false).await.unwrap().garbage.len()
}

/// The clock once jumped a day ahead and back, and nothing was reclaimed for a day.
#[tokio::test]
async fn a_clock_that_was_a_day_ahead_stops_neither_commits_nor_reclamation() {
    let (mut world, node) = quiet().await;
    world.clock.set_ms(world.clock.now_ms() + DAY_MS);
    // Long enough for the jump to be believed.
    for _ in 0..5 {
        world.clock.advance_ms(60_000);
        asked(&mut world, &node, Ask::Insert { files: 1 }).await.unwrap();
    }
    world.clock.set_ms(world.clock.now_ms() - DAY_MS);
    let ahead = node.manager.flush().await.unwrap().epoch.unix_ms();
    assert!(ahead > world.clock.now_ms() + DAY_MS / 2, "the jump was not followed");
    assert!(killed_and_reclaimed(&world, &node).await >= 7);
    let later = node.manager.flush().await.unwrap().epoch.unix_ms();
    assert!(later > ahead && later - ahead < 21 * 60_000, "it comes nearer to the clock");
}

/// Workers were once taken for silent when the clock of the meta role jumped.
#[tokio::test]
async fn a_jump_of_the_clock_gives_no_worker_up() {
    let (world, node) = quiet().await;
    drop(node.follow("writer"));
    let state = node.manager.state();
    let file = state.version.all_files().next().unwrap();
    let staged = SstInfo { id: state.next.sst, ..SstInfo::clone(&file.sst) };
    let mut write = TableWrite::to(&relation(&node));
    write.born.push(Arc::new(staged));
    world.clock.set_ms(world.clock.now_ms() + DAY_MS);
    let base_epoch = state.version.max_committed_epoch;
    node.write("writer", Write { base_epoch, tables: vec![write] }, vec![]).await.unwrap();
}
