//! A cluster on faulty stores, with a model of what must, must not and may have happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::Chaos;
use super::meta_store::{FaultyMeta, Shared};
use super::object_store::FaultyObjects;
use crate::meta::MetaNode;
use crate::meta::command::{CatalogCommand, Committed, CreateTable, NewColumn, Role, WorkerInfo};
use crate::meta::manager::{self, NewCluster};
use crate::meta::settings::MaintenanceSettings;
use tidemark_ledger::backup::OpenLocation;
use tidemark_ledger::catalog::{ColumnType, Relation};
use tidemark_ledger::epoch::{Clock, Epoch, ManualClock, SystemClock};
use tidemark_ledger::id::{SnapshotId, SstId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError, chain};
use tidemark_ledger::meta_store::MetaStore;
use tidemark_ledger::params::{self, Params};
use tidemark_ledger::state::State;
use tidemark_ledger::storage::{Storage, StorageLocation};
use tidemark_ledger::version::Version;

pub const DATA_DIR: &str = "hummock_001";
pub const TABLE: &str = "t";
/// Backup directories: the initial one, and the one that backups are moved to.
pub const BACKUP_DIRECTORIES: [&str; 2] = ["backup", "elsewhere"];
/// Rows per file.
pub const ROWS: u32 = 8;
/// How far the clock starts ahead of the real one, so that no object counts as young.
const AHEAD_MS: u64 = 86_400_000;

/// Whether something happened, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Yes,
    No,
    Maybe,
}

impl Happened {
    pub fn by<T>(outcome: &Result<T, MetaError>) -> Self {
        match outcome {
            Ok(_) => Self::Yes,
            Err(error) if error.kind == ErrorKind::Unknown => Self::Maybe,
            Err(_) => Self::No,
        }
    }

    /// The outcome once it has been checked.
    pub fn found(found: bool) -> Self {
        if found { Self::Yes } else { Self::No }
    }
}

/// A commit of rows: files that are born and rows that die, all or none.
#[derive(Clone, Debug)]
pub struct Fact {
    pub what: String,
    pub born: Vec<SstId>,
    pub dead: Vec<(SstId, u32)>,
    pub happened: Happened,
}

impl Fact {
    /// Whether the newest epoch of this version has it. An error if that has only a part of it.
    pub fn found_in(&self, version: &Version, moved: &Moved) -> Result<bool, String> {
        let now = |sst: &SstId| moved.now(version, *sst);
        let born = self.born.iter().map(|sst| version.has_file(now(sst)));
        let dead = self.dead.iter().map(|(sst, row)| is_dead(version, now(sst), *row));
        let found: BTreeSet<bool> = born.chain(dead).collect();
        match found.len() {
            1 => Ok(found.contains(&true)),
            _ => Err(format!("{}: a part of it happened", self.what)),
        }
    }
}

/// Which file was to replace which, row for row.
#[derive(Debug, Default)]
pub struct Moved(BTreeMap<SstId, Vec<SstId>>);

impl Moved {
    pub fn note(&mut self, from: SstId, to: SstId) {
        self.0.entry(from).or_default().push(to);
    }

    /// The file that holds the rows of `sst` in this version.
    pub fn now(&self, version: &Version, sst: SstId) -> SstId {
        let mut reached = vec![sst];
        let mut at = 0;
        // The files in between may have been forgotten.
        while let Some(from) = reached.get(at) {
            reached.extend(self.0.get(from).into_iter().flatten().copied().collect::<Vec<_>>());
            at += 1;
        }
        let there = reached.into_iter().filter(|sst| version.has_file(*sst));
        there.max().unwrap_or(sst)
    }
}

fn is_dead(version: &Version, sst: SstId, row: u32) -> bool {
    let file = version.entries_of(sst).next();
    let file = file.map(|file| file.live_at(version.max_committed_epoch));
    file.and_then(|file| file.dead).is_some_and(|dead| dead.contains(row))
}

/// A meta snapshot, and whether its location should list it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub listed: Happened,
    /// What it holds at least; `None` if its backup was never acknowledged.
    pub holds: Option<Holds>,
}

/// What certainly existed when a backup began.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// Indexes into [`Model::facts`].
    pub facts: Vec<usize>,
    pub tables: Vec<String>,
}

/// The expected state.
#[derive(Debug, Default)]
pub struct Model {
    pub facts: Vec<Fact>,
    pub moved: Moved,
    /// Tables other than [`TABLE`] that were created, by name, and whether they exist.
    pub tables: BTreeMap<String, Happened>,
    /// The possible values of each parameter.
    pub params: BTreeMap<&'static str, Vec<String>>,
    pub snapshots: BTreeMap<(String, SnapshotId), Snapshot>,
    /// Number of backups that may have been taken, by location.
    pub maybe_taken: BTreeMap<String, usize>,
    /// Every file id that was ever assigned.
    pub used: BTreeSet<SstId>,
    /// The newest acknowledged epoch.
    pub newest: Epoch,
    /// Rows that no request has tried to delete.
    pub untouched: Vec<(SstId, u32)>,
}

impl Model {
    /// What a backup that begins now must hold.
    pub fn holds(&self) -> Holds {
        let facts = self.facts.iter().enumerate();
        let facts = facts.filter(|(_, fact)| fact.happened == Happened::Yes).map(|(at, _)| at);
        let tables = self.tables.iter().filter(|(_, there)| **there == Happened::Yes);
        let tables = tables.map(|(name, _)| name.clone()).collect();
        Holds { facts: facts.collect(), tables }
    }
}

/// A server and its meta store.
pub type Server = (Arc<MetaNode>, Arc<Shared>);

pub struct World {
    pub chaos: Arc<Chaos>,
    pub clock: Arc<ManualClock>,
    pub params: Params,
    pub meta: Arc<Shared>,
    pub fenced: bool,
    /// The server that was started last, if it started.
    pub node: Option<Arc<MetaNode>>,
    /// Servers that must not do anything any more.
    pub old: Vec<Server>,
    /// A server of the previous life, which continues until the next one has begun.
    pub before: Option<Server>,
    pub model: Model,
    stores: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        for name in &self.stores {
            Storage::set_memory(name, None);
        }
    }
}

impl World {
    /// A cluster with an empty table, started without faults.
    pub async fn new(seed: u64, per_mille: u64, apart: bool, fenced: bool) -> Result<Self, String> {
        let clock = ManualClock::at_ms(SystemClock.now_ms() + AHEAD_MS);
        let chaos = Chaos::new(seed, per_mille, Arc::clone(&clock));
        let mut stores = vec![];
        let mut store = |of: &str| {
            let name = format!("{of}-{}", uuid::Uuid::new_v4().simple());
            let (inner, chaos) = (Arc::new(InMemory::new()), Arc::clone(&chaos));
            let store: Arc<dyn ObjectStore> = Arc::new(FaultyObjects { inner, chaos });
            Storage::set_memory(&name, Some(store));
            let url = format!("memory://{name}");
            stores.push(name);
            url
        };
        let state_store = store("state");
        let backups = if apart { store("backups") } else { state_store.clone() };
        let mut params = Params::default();
        params.set(params::STATE_STORE, &format!("hummock+{state_store}"));
        params.set(params::DATA_DIRECTORY, DATA_DIR);
        params.set(params::BACKUP_STORAGE_URL, &backups);
        params.set(params::BACKUP_STORAGE_DIRECTORY, BACKUP_DIRECTORIES[0]);
        params.set(params::TIME_TRAVEL_RETENTION_MS, "600000");
        let mut world = Self {
            chaos,
            clock,
            params,
            meta: Shared::new(fenced),
            fenced,
            node: None,
            old: vec![],
            before: None,
            model: Model::default(),
            stores,
        };
        world.model.params = BTreeMap::from([
            (params::BACKUP_STORAGE_DIRECTORY, vec![BACKUP_DIRECTORIES[0].to_owned()]),
            (params::TIME_TRAVEL_RETENTION_MS, vec!["600000".to_owned()]),
        ]);
        let node = world.opened(&world.meta).await?;
        create_table(&node, TABLE).await.map_err(|e| e.to_string())?;
        world.node = Some(node);
        Ok(world)
    }

    /// Starts a server on this store, as one that starts to lead.
    pub async fn opened(&self, meta: &Arc<Shared>) -> Result<Arc<MetaNode>, String> {
        let store = FaultyMeta::lead(meta, &self.chaos) as Arc<dyn MetaStore>;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let opened = manager::open(store, NewCluster::new(self.params.clone()), clock).await;
        let manager = opened.map_err(|e| chain(&e))?;
        let settings = MaintenanceSettings { min_sst_retention_ms: 0, ..Default::default() };
        let info = WorkerInfo {
            role: Role::Meta,
            addr: String::new(),
            release: String::new(),
            started_ms: self.clock.now_ms(),
            parallelism: 1,
            memory_bytes: 1 << 30,
        };
        let node = MetaNode::start(manager, settings, info).await.map_err(|e| chain(&e))?;
        let node = Arc::new(node);
        Arc::clone(&node).hold_backups().await;
        Ok(node)
    }

    /// Opens a directory of the backup storage, or the data directory.
    pub fn open_directory(&self, directory: &str) -> Result<OpenLocation, String> {
        let url = match directory {
            DATA_DIR => self.params.data_location().url,
            _ => self.params.value(params::BACKUP_STORAGE_URL).to_owned(),
        };
        let location = StorageLocation::new(url, directory);
        OpenLocation::open_existing(&location).map_err(|e| chain(&e))
    }

    /// The current backup directory, as the server sees it.
    pub fn current_backup_directory(node: &MetaNode) -> String {
        node.manager.state().params.value(params::BACKUP_STORAGE_DIRECTORY).to_owned()
    }

    /// Replaces the node. From then on the previous one must not do anything.
    pub fn replace_node(&mut self, node: Arc<MetaNode>) {
        let deposed = self.node.replace(node).map(|node| (node, Arc::clone(&self.meta)));
        self.old.extend(deposed.into_iter().chain(self.before.take()));
        // Keeps the newest three.
        let surplus = self.old.len().saturating_sub(3);
        self.old.drain(..surplus);
    }
}

pub async fn create_table(node: &MetaNode, name: &str) -> Result<Committed, MetaError> {
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
    node.manager.change_catalog(CatalogCommand::CreateTable(create)).await
}

/// Whether the newest epoch of this state has a table of this name.
pub fn has_table(state: &State, name: &str) -> bool {
    let catalog = state.catalog.at(state.version.max_committed_epoch);
    catalog.relation("public", name).is_some()
}

/// The table, as the server defines it now.
pub fn relation(node: &MetaNode) -> Arc<Relation> {
    let state = node.manager.state();
    let catalog = state.catalog.at(state.version.max_committed_epoch);
    let relation = catalog.relation("public", TABLE);
    Arc::clone(relation.expect("the table is made with the cluster and never dropped"))
}
