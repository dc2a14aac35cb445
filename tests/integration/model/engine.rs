//! The real engine on in-memory stores, driven by the steps of a program.

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemark_engine::meta::command::{BackupOptions, Pins, Role, WorkerInfo};
use tidemark_engine::meta::manager::NewCluster;
use tidemark_engine::meta::settings::MaintenanceSettings;
use tidemark_engine::meta::{MetaNode, manager};
use tidemark_ledger::backup::restore::{Overwrite, Request};
use tidemark_ledger::backup::{OpenLocation, SnapshotReader, restore};
use tidemark_ledger::catalog::Relation;
use tidemark_ledger::epoch::{Clock, Epoch, ManualClock};
use tidemark_ledger::meta_store::MemoryStore;
use tidemark_ledger::params::Params;
use tidemark_ledger::sst_ids::SstIdPool;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::{Storage, StorageLocation};
use tidemark_ledger::{layout, params};

use super::Step;
use super::dml::{Transaction, View, sorted};
use super::world::{self, History, SnapshotAt, World};

pub const DIRECTORY: &str = "data";
const BACKUP: &str = "backup";
const OTHER_BACKUP: &str = "other";
/// Later than the machine's clock, with which the stores date objects: vacuum considers them old.
const START_MS: u64 = 4_100_000_000_000;
pub const STORE: &str = "model://state";
const WORKER: &str = "model";

pub struct Engine {
    store: Arc<MemoryStore>,
    pub storage: Storage,
    clock: Arc<ManualClock>,
    pub node: Arc<MetaNode>,
    pub ids: Arc<SstIdPool>,
    pub context: SessionContext,
    /// A session that keeps reading, and what it saw.
    held: Option<(Arc<State>, Epoch, World)>,
    pub transaction: Option<Transaction>,
}

impl Engine {
    pub async fn start() -> Self {
        let (store, storage) = (Arc::new(MemoryStore::default()), Storage::in_memory());
        let clock = ManualClock::at_ms(START_MS);
        let (node, ids) = open(&store, &storage, &clock).await;
        let config = SessionConfig::new().with_target_partitions(1).with_collect_statistics(true);
        let context = SessionContext::new_with_config(config);
        let url = ObjectStoreUrl::parse(STORE).unwrap();
        context.register_object_store(url.as_ref(), storage.object_store());
        let engine =
            Self { store, storage, clock, node, ids, context, held: None, transaction: None };
        engine.report().await;
        engine
    }

    pub fn state(&self) -> Arc<State> {
        self.node.manager.state()
    }

    /// The oldest epoch that can be queried.
    pub fn first_epoch(&self) -> Epoch {
        self.state().version.safe_epoch
    }

    pub fn epoch(&self) -> Epoch {
        self.state().version.max_committed_epoch
    }

    fn backup_directory(&self) -> String {
        self.state().params.value(params::BACKUP_STORAGE_DIRECTORY).to_owned()
    }

    /// Reports like a frontend, which does so about once a second.
    async fn report(&self) {
        let state = self.state();
        let held = self.held.as_ref().map(|(state, _, _)| state.version.id);
        let read = self.transaction.as_ref().map(Transaction::version);
        let version = held.into_iter().chain(read).chain([state.version.id]).min().unwrap();
        let unfinished = self.ids.unfinished(state.next.sst);
        let worker = WORKER.to_owned();
        let info = info();
        let pins = Pins { worker, info, version, snapshots: vec![], unfinished };
        self.node.report(pins).await.unwrap();
    }

    /// Performs a step. Returns a description if the engine's state is wrong afterwards.
    pub async fn step(&mut self, step: &Step, history: &mut History) -> Option<String> {
        self.clock.advance_ms(10);
        match step {
            Step::CreateTable { keyed } => self.create_table(*keyed, history).await,
            Step::DropTable(table) => {
                let name = history.table(*table)?;
                self.drop_table(name, history).await;
            }
            Step::AddColumn { table, backfill } => {
                self.add_column(*table, backfill.map(i64::from), history).await;
            }
            Step::DropColumn { table, column } => {
                self.drop_column(*table, *column, history).await;
            }
            Step::RenameColumn { table, column } => {
                self.rename_column(*table, *column, history).await;
            }
            Step::WidenColumn { table, column } => {
                self.widen_column(*table, *column, history).await;
            }
            Step::RenameTable(table) => self.rename_table(*table, history).await,
            Step::Insert { .. } | Step::Delete { .. } | Step::Update { .. } | Step::Truncate(_) => {
                self.run(step, history).await;
            }
            Step::InTransaction(step) => return self.run_in_transaction(step, history).await,
            Step::EndTransaction { commit } => self.end_transaction(*commit, history).await,
            Step::Collide { table } => self.collide(*table, history).await,
            Step::WhileCompacting { write, turns } => {
                self.write_while_compacting(write, *turns, history).await;
            }
            Step::Compact => drop(self.node.compact_all(None).await.unwrap()),
            Step::Vacuum { any_age } => {
                // A reader of the previous version may need what the first vacuum forgets.
                for _ in 0..2 {
                    self.report().await;
                    drop(self.node.vacuum(any_age.then_some(0), false).await.unwrap());
                }
            }
            Step::Backup => {
                let entry = self.node.backup(BackupOptions::default()).await.unwrap();
                history.remember((self.backup_directory(), entry.info.id));
            }
            Step::DeleteSnapshot(index) => {
                // A snapshot at the current backup location.
                let here = self.backup_directory();
                let (_, id) =
                    snapshot(history, *index).filter(|(directory, _)| *directory == here)?;
                self.node.delete_snapshots(&[id]).await.unwrap();
                history.snapshots.remove(&(here, id));
            }
            Step::Retention { none } => {
                let value = if *none { "0" } else { "600000" };
                let name = params::TIME_TRAVEL_RETENTION_MS;
                self.node.alter_system(name, Some(value)).await.unwrap();
            }
            Step::MoveBackups { other } => {
                let value = if *other { OTHER_BACKUP } else { BACKUP };
                let name = params::BACKUP_STORAGE_DIRECTORY;
                self.node.alter_system(name, Some(value)).await.unwrap();
            }
            Step::Advance { seconds } => self.clock.advance_ms(u64::from(*seconds) * 1000),
            Step::ClockBack { seconds } => {
                self.clock.set_ms(self.clock.now_ms() - u64::from(*seconds) * 1000);
            }
            Step::Hold => {
                let (state, epoch) = (self.state(), self.epoch());
                self.held = Some((state, epoch, history.at(epoch).clone()));
            }
            Step::Release => self.held = None,
            Step::Restart => self.restart().await,
            Step::Restore(index) => {
                let at = snapshot(history, *index)?;
                self.restore(&at).await;
                history.go_back(&at);
            }
        }
        None
    }

    async fn restart(&mut self) {
        self.held = None;
        self.transaction = None;
        (self.node, self.ids) = open(&self.store, &self.storage, &self.clock).await;
        self.report().await;
    }

    async fn restore(&mut self, (directory, id): &SnapshotAt) {
        let url = self.storage.url().to_string();
        let request = Request {
            snapshot_id: *id,
            backup: StorageLocation::new(url.clone(), directory),
            hummock: StorageLocation::new(url, DIRECTORY),
            validate_integrity: true,
            now_ms: self.clock.now_ms(),
            overwrite: Overwrite::default(),
            copy_data: false,
            dry_run: false,
        };
        let target = Arc::new(MemoryStore::default());
        let plan = restore::plan(request, &*target).await.unwrap();
        restore::verify(&plan, &|_, _| {}).await.unwrap();
        restore::apply(&plan, &*target).await.unwrap();
        self.store = target;
        self.restart().await;
    }

    /// Compares the engine with the model at the current epoch, at some past epochs, and for the session that
    /// keeps reading.
    pub async fn differs(&self, history: &History, seed: usize) -> Option<String> {
        let state = self.state();
        state.version.check().unwrap();
        let now = state.version.max_committed_epoch;
        let safe = state.version.safe_epoch;
        let somewhere =
            Epoch::from_u64(safe.as_u64() + (now.as_u64() - safe.as_u64()) / (seed as u64 % 7 + 1));
        for epoch in [now, safe, somewhere] {
            let differs = self.compare(&state, epoch, history.at(epoch)).await;
            if differs.is_some() {
                return differs;
            }
        }
        if let Some((state, epoch, expected)) = &self.held {
            let differs = self.compare(state, *epoch, expected).await;
            return differs.map(|differs| format!("a session that reads on: {differs}"));
        }
        None
    }

    /// Compares every snapshot at each epoch with a change and at the epoch before it.
    pub async fn differs_anywhere(&self, history: &History) -> Option<String> {
        let url = self.storage.url().to_string();
        for ((directory, id), states) in &history.snapshots {
            let location = StorageLocation::new(url.clone(), directory);
            let location = OpenLocation::open(&location).unwrap();
            let path = layout::snapshot(directory, *id);
            let reader = SnapshotReader::open(&location.storage, &path, None).await.unwrap();
            let state = Arc::new(reader.state().await.unwrap());
            let (first, last) = (state.version.safe_epoch, state.version.max_committed_epoch);
            let changes = states.keys().filter(|epoch| first <= **epoch && **epoch <= last);
            let before = |epoch: &Epoch| Epoch::from_u64(epoch.as_u64() - 1);
            let around = changes.flat_map(|epoch| [before(epoch), *epoch]);
            for epoch in around.chain([first, last]).filter(|epoch| first <= *epoch) {
                let expected = world::at(states, epoch);
                if let Some(differs) = self.compare(&state, epoch, expected).await {
                    return Some(format!("snapshot {id}: {differs}"));
                }
            }
        }
        None
    }

    async fn compare(&self, state: &Arc<State>, epoch: Epoch, expected: &World) -> Option<String> {
        let found = self.world(&View::at(state, epoch)).await;
        let expected = sorted(expected);
        (found != expected)
            .then(|| format!("epoch {epoch} is\n  {found:?}\nand should be\n  {expected:?}"))
    }
}

async fn open(
    store: &Arc<MemoryStore>,
    storage: &Storage,
    clock: &Arc<ManualClock>,
) -> (Arc<MetaNode>, Arc<SstIdPool>) {
    let mut params = Params::default();
    let url = storage.url().to_string();
    params.set(params::STATE_STORE, &format!("hummock+{url}"));
    params.set(params::DATA_DIRECTORY, DIRECTORY);
    params.set(params::BACKUP_STORAGE_URL, &url);
    params.set(params::BACKUP_STORAGE_DIRECTORY, BACKUP);
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let manager =
        manager::open(Arc::clone(store) as _, NewCluster::new(params), clock).await.unwrap();
    let settings = MaintenanceSettings {
        compaction: false,
        vacuum_interval_ms: 0,
        min_sst_retention_ms: 600_000,
        ..MaintenanceSettings::default()
    };
    let node = Arc::new(MetaNode::start(manager, settings, info()).await.unwrap());
    let state = node.manager.state();
    let now_ms = node.manager.clock().monotonic_ms();
    node.workers.register(WORKER, state.version.id, state.next.sst, now_ms);
    let reserving = node.manager.clone();
    let ids = SstIdPool::start(move |count| {
        let manager = reserving.clone();
        Box::pin(async move { manager.reserve_ssts(count).await })
    });
    (node, ids.await)
}

fn info() -> WorkerInfo {
    WorkerInfo {
        role: Role::Meta,
        addr: String::new(),
        release: String::new(),
        started_ms: 0,
        parallelism: 1,
        memory_bytes: 0,
    }
}

pub fn relation(state: &State, epoch: Epoch, name: &str) -> Arc<Relation> {
    Arc::clone(state.catalog.at(epoch).relation("public", name).unwrap())
}

fn snapshot(history: &History, index: u8) -> Option<SnapshotAt> {
    let all: Vec<_> = history.snapshots.keys().cloned().collect();
    (!all.is_empty()).then(|| all[usize::from(index) % all.len()].clone())
}
