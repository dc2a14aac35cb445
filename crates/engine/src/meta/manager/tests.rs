//! The manager against in-memory stores: what is stored is what is published, at every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use roaring::RoaringBitmap;

mod damage;

use super::*;
use crate::meta::command::{AlterStep, CreateTable, DeadRows, NewColumn, RelationKind, TableWrite};
use tidemark_ledger::catalog::ColumnType;
use tidemark_ledger::epoch::{Epoch, ManualClock};
use tidemark_ledger::id::VersionId;
use tidemark_ledger::keys;
use tidemark_ledger::meta_store::{MemoryStore, MetaStore, Pair, StoreError, Txn};
use tidemark_ledger::params::{self, Params};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::state::decode_value;
use tidemark_ledger::state::seal::Seal;
use tidemark_ledger::storage::Checksum;
use tidemark_ledger::version::{Version, VersionDelta};

const NOW_MS: u64 = 1_700_000_000_000;

struct Cluster {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    params: Params,
    manager: Manager,
}

impl Cluster {
    async fn start(name: &str) -> Self {
        let mut params = Params::default();
        params.set(params::STATE_STORE, &format!("hummock+memory://{name}"));
        params.set(params::DATA_DIRECTORY, "hummock_001");
        let (store, clock) = (Arc::new(MemoryStore::new()), ManualClock::at_ms(NOW_MS));
        let manager = opened(&store, &clock, &params).await;
        Self { store, clock, params, manager }
    }

    /// Opens another manager on the same stores, as after a crash.
    async fn restart(&mut self) {
        self.manager = opened(&self.store, &self.clock, &self.params).await;
    }

    /// The invariant of the meta store: its pairs encode the published state.
    async fn check(&self) {
        let pairs = self.store.list("").await.unwrap();
        Seal::verify(&pairs).unwrap();
        let state = self.manager.state();
        let (version, rest): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|pair| pair.key.starts_with(keys::VERSION_PREFIX));
        assert_eq!(rest, state.encode_without_version());
        let mut replayed = Version::default();
        for pair in version {
            if pair.key == keys::VERSION_CHECKPOINT {
                let checkpoint = decode_value(&pair).unwrap();
                let read =
                    tidemark_ledger::checkpoint::read(self.manager.state_store(), &checkpoint);
                replayed = read.await.unwrap();
            } else if pair.key != keys::SEAL {
                replayed = replayed.apply(&decode_value::<VersionDelta>(&pair).unwrap());
            }
        }
        assert_eq!(replayed, *state.version);
        replayed.check().unwrap();
    }

    async fn create(&self, name: &str) -> ObjectId {
        let column = NewColumn {
            name: "a".to_owned(),
            column_type: ColumnType::Integer,
            not_null: false,
            default: None,
            backfill: None,
        };
        let create = CreateTable {
            schema: "public".to_owned(),
            name: name.to_owned(),
            columns: vec![column],
            primary_key: vec![],
            if_not_exists: false,
            id: None,
            rows: vec![],
        };
        self.manager.change_catalog(CatalogCommand::CreateTable(create)).await.unwrap();
        self.latest(name).unwrap().id
    }

    fn latest(&self, name: &str) -> Option<Arc<tidemark_ledger::catalog::Relation>> {
        let state = self.manager.state();
        let catalog = state.catalog.at(state.version.max_committed_epoch);
        catalog.relation("public", name).cloned()
    }

    fn write_to(&self, name: &str) -> TableWrite {
        TableWrite::to(&self.latest(name).unwrap())
    }

    async fn commit(&self, table: TableWrite) -> Result<Committed, MetaError> {
        let base_epoch = self.manager.state().version.max_committed_epoch;
        self.manager.write(Write { base_epoch, tables: vec![table] }, vec![]).await
    }

    async fn insert(&self, name: &str, rows: u32) -> SstId {
        let id = self.manager.reserve_ssts(1).await.unwrap();
        let mut write = self.write_to(name);
        write.born = vec![Arc::new(SstInfo {
            id,
            written_for: write.table_id,
            rows: u64::from(rows),
            size_bytes: 1,
            row_group_rows: vec![rows],
            sha256: Checksum::default(),
            block_sums: None,
            columns: Arc::default(),
            keys: None,
            inline: None,
        })];
        self.commit(write).await.unwrap();
        id
    }

    async fn kill(&self, name: &str, sst_id: SstId, row: u32) -> Result<Committed, MetaError> {
        let mut write = self.write_to(name);
        let positions = Arc::new(RoaringBitmap::from_iter([row]));
        write.dead_rows = vec![DeadRows { sst_id, positions }];
        self.commit(write).await
    }

    fn rows(&self, table: ObjectId, epoch: Epoch) -> u64 {
        self.manager.state().version.rows_at(table, epoch)
    }
}

async fn opened(store: &Arc<MemoryStore>, clock: &Arc<ManualClock>, params: &Params) -> Manager {
    let store: Arc<dyn MetaStore> = Arc::clone(store) as Arc<dyn MetaStore>;
    let new = NewCluster::new(params.clone());
    open(store, new, Arc::clone(clock) as Arc<dyn Clock>).await.unwrap()
}

#[tokio::test]
async fn the_store_holds_the_encoded_state_at_every_step() {
    let mut cluster = Cluster::start("every_step").await;
    cluster.check().await;
    let table = cluster.create("t").await;
    cluster.check().await;
    let file = cluster.insert("t", 10).await;
    cluster.check().await;
    let before = cluster.manager.state().version.max_committed_epoch;
    cluster.clock.advance_ms(5);
    cluster.kill("t", file, 3).await.unwrap();
    cluster.check().await;
    let rename = CatalogCommand::AlterTable {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        if_exists: false,
        step: AlterStep::RenameTo { name: "u".to_owned() },
    };
    cluster.manager.change_catalog(rename).await.unwrap();
    cluster.check().await;
    let name = params::TIME_TRAVEL_RETENTION_MS.to_owned();
    cluster.manager.set_param(name, "700000".to_owned()).await.unwrap();
    cluster.check().await;
    let published = cluster.manager.state();
    cluster.restart().await;
    assert_eq!(*cluster.manager.state(), *published);
    let drop = CatalogCommand::DropRelation {
        kind: RelationKind::Table,
        schema: "public".to_owned(),
        name: "u".to_owned(),
        if_exists: false,
        cascade: false,
    };
    cluster.manager.change_catalog(drop).await.unwrap();
    cluster.check().await;
    assert_eq!(cluster.rows(table, before), 10);
    assert_eq!(cluster.rows(table, published.version.max_committed_epoch), 9);
    assert!(cluster.latest("u").is_none());
}

#[tokio::test]
async fn epochs_rise_over_restarts_and_clock_steps_backwards() {
    let mut cluster = Cluster::start("clock_steps").await;
    let mut last = cluster.manager.flush().await.unwrap().epoch;
    for now_ms in [NOW_MS, NOW_MS - 3_600_000, NOW_MS + 5, NOW_MS - 1] {
        cluster.clock.set_ms(now_ms);
        cluster.restart().await;
        let next = cluster.manager.flush().await.unwrap().epoch;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
}

#[tokio::test]
async fn a_deposed_manager_stops_writing() {
    let mut cluster = Cluster::start("deposed").await;
    let old = cluster.manager.clone();
    cluster.restart().await;
    cluster.create("t").await;
    let error = old.flush().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Deposed, "{error}");
    cluster.check().await;
}

/// A store in which a commit panics once the flag is set.
#[derive(Debug)]
struct Panicking(Arc<MemoryStore>, AtomicBool);

#[async_trait::async_trait]
impl MetaStore for Panicking {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        self.0.list(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<(), StoreError> {
        assert!(!self.1.load(Ordering::Relaxed), "a commit is to panic");
        self.0.commit(txn).await
    }

    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError> {
        self.0.fill(pairs).await
    }
}

#[tokio::test]
async fn a_panic_of_the_one_that_commits_is_noticed() {
    let mut cluster = Cluster::start("panic").await;
    cluster.create("t").await;
    let store = Arc::new(Panicking(Arc::clone(&cluster.store), AtomicBool::new(false)));
    let shared = Arc::clone(&store) as Arc<dyn MetaStore>;
    let clock = Arc::clone(&cluster.clock) as Arc<dyn Clock>;
    let manager = open(shared, NewCluster::new(cluster.params.clone()), clock).await.unwrap();
    manager.flush().await.unwrap();
    assert!(manager.is_writable());
    store.1.store(true, Ordering::Relaxed);
    assert_eq!(manager.flush().await.unwrap_err().kind, ErrorKind::Unknown);
    // The leader learns of it, and opens the store again.
    manager.unsure().await;
    assert!(!manager.is_writable());
    cluster.restart().await;
    cluster.manager.flush().await.unwrap();
    cluster.check().await;
}

#[tokio::test]
async fn of_two_that_kill_one_row_the_second_is_told() {
    let cluster = Cluster::start("conflict").await;
    cluster.create("t").await;
    let file = cluster.insert("t", 10).await;
    let (first, second) = tokio::join!(cluster.kill("t", file, 1), cluster.kill("t", file, 1));
    let lost = [first.is_err(), second.is_err()].into_iter().filter(|lost| *lost).count();
    assert_eq!(lost, 1);
    cluster.check().await;
}

#[tokio::test]
async fn checkpoints_replace_deltas_and_history_past_retention_is_forgotten() {
    let mut cluster = Cluster::start("checkpoints").await;
    cluster.create("t").await;
    let file = cluster.insert("t", 10).await;
    let mut write = cluster.write_to("t");
    write.truncate = true;
    cluster.commit(write).await.unwrap();
    cluster.clock.advance_ms(3_600_000);
    for _ in 0..1001 {
        cluster.manager.flush().await.unwrap();
    }
    // The checkpoint is written concurrently; each of these commits gives it a turn.
    let deltas = async |cluster: &Cluster| {
        cluster.store.list(keys::VERSION_DELTA_PREFIX).await.unwrap().len()
    };
    let mut turns = 0;
    while deltas(&cluster).await > 900 {
        turns += 1;
        assert!(turns < 10_000, "no checkpoint was adopted");
        cluster.manager.flush().await.unwrap();
    }
    cluster.check().await;
    let version = Arc::clone(&cluster.manager.state().version);
    assert!(version.id > VersionId(1000));
    assert!(!version.has_file(file), "it died an hour before the safe epoch");
    cluster.restart().await;
    cluster.check().await;
}

#[tokio::test]
async fn flush_in_a_loop_pushes_no_epoch_ahead_of_the_clock() {
    let cluster = Cluster::start("flush_loop").await;
    let mut last = Epoch::ZERO;
    for _ in 0..500 {
        let next = cluster.manager.flush().await.unwrap().epoch;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    assert_eq!(last.unix_ms(), NOW_MS);
}

#[tokio::test]
async fn a_jump_of_the_clock_that_is_taken_back_leaves_no_trace() {
    let cluster = Cluster::start("short_jump").await;
    let before = cluster.manager.flush().await.unwrap().epoch;
    cluster.clock.set_ms(NOW_MS + 86_400_000);
    cluster.clock.advance_ms(10_000);
    let meanwhile = cluster.manager.flush().await.unwrap().epoch;
    cluster.clock.set_ms(NOW_MS + 10_000);
    let after = cluster.manager.flush().await.unwrap().epoch;
    assert!(before < meanwhile && meanwhile < after);
    assert_eq!(after.unix_ms(), NOW_MS + 10_000);
}
