//! The simulated cluster: its stores, its processes, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::chaos::{Chaos, Without};
use super::compactor::Compactor;
use super::files::{Files, KEY, TAG, TEXT};
use super::frontend::Frontend;
use super::link::{Link, Server};
use super::meta_store::{Commit, FaultyMeta, Shared};
use super::model::{Model, Table};
use super::server::{SimClock, start};
use super::stores::FaultyObjects;
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::{CatalogCommand, CreateTable, NewColumn};
use tidemark_ledger::ambient;
use tidemark_ledger::ambient::simulated::{Process, Times};
use tidemark_ledger::backup::OpenLocation;
use tidemark_ledger::backup::restore::{self, Overwrite};
use tidemark_ledger::catalog::{ColumnType, PUBLIC};
use tidemark_ledger::epoch::Clock as _;
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::{ErrorKind, MetaError, chain};
use tidemark_ledger::meta_store::Pair;
use tidemark_ledger::params::{self, Params};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::storage::{Storage, StorageLocation};

pub const DATA_DIR: &str = "hummock_001";
/// The table whose files identify writes.
pub const JOURNAL: &str = "journal";
/// The other tables of a new cluster, and whether they have a primary key.
pub const TABLES: [(&str, bool); 4] = [("a", true), ("b", true), ("c", false), ("d", true)];
/// Backup directories: the initial one, and the one that backups are moved to.
pub const BACKUP_DIRECTORIES: [&str; 2] = ["backup", "elsewhere"];
/// Faults per thousand calls; each program uses one of these rates.
const RATES: [u64; 4] = [0, 10, 40, 120];
/// Virtual time after which something counts as hanging.
pub const HANGS: Duration = Duration::from_secs(2 * 3600);

/// A snapshot that was compared with what it must hold.
#[derive(Debug)]
pub struct Snapshot {
    pub files: Vec<Arc<SstInfo>>,
    /// The commits that it holds.
    pub commits: Vec<Commit>,
}

/// An earlier state of the meta store.
#[derive(Debug)]
pub struct Memory {
    pub pairs: Vec<Pair>,
    pub at_ms: u64,
}

pub struct World {
    pub chaos: Arc<Chaos>,
    pub params: Params,
    pub meta: Arc<Shared>,
    pub link: Arc<Link>,
    pub clock: Arc<SimClock>,
    /// Servers that must not do anything any more.
    pub zombies: Vec<Server>,
    pub frontends: Vec<Arc<Frontend>>,
    pub compactors: Vec<Arc<Compactor>>,
    pub model: Arc<Mutex<Model>>,
    pub files: Files,
    pub snapshots: BTreeMap<(String, SnapshotId), Snapshot>,
    pub must_be_listed: BTreeSet<(String, SnapshotId)>,
    pub memory: Option<Memory>,
    /// Number of replies before the last restore, which are not binding any more.
    pub told_before: usize,
    /// Number of comparisons of a table at an epoch.
    pub compared: u64,
    storage: Storage,
    stores: Vec<String>,
    fenced: bool,
    rows_max: u64,
    processes: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        for name in &self.stores {
            Storage::set_memory(name, None);
        }
    }
}

impl World {
    /// A cluster without tables whose processes are still to be started. No other cluster of this name
    /// may exist, since its stores are named after it.
    pub fn new(name: &str, times: &Arc<Times>, without: Without) -> Result<Self, String> {
        let per_mille = RATES[usize::try_from(times.below(4)).expect("small")];
        let chaos = Chaos::new(Arc::clone(times), per_mille, without);
        let (apart, fenced) = (chaos.one_in(2), chaos.one_in(2));
        let rows_max = if chaos.one_in(2) { 12 } else { 1 << 20 };
        let mut stores = vec![];
        let mut store = |of: &str| {
            let (name, inner) = (format!("{name}-{of}"), Arc::new(InMemory::new()));
            let chaos = Arc::clone(&chaos);
            let store = Arc::new(FaultyObjects { inner: Arc::clone(&inner), chaos });
            Storage::set_memory(&name, Some(store as Arc<dyn ObjectStore>));
            let url = format!("memory://{name}");
            stores.push(name);
            (url, inner)
        };
        let (data_url, data) = store("data");
        let backup_url = if apart { store("backups").0 } else { data_url.clone() };
        let mut params = Params::default();
        params.set(params::STATE_STORE, &format!("hummock+{data_url}"));
        params.set(params::DATA_DIRECTORY, DATA_DIR);
        params.set(params::BACKUP_STORAGE_URL, &backup_url);
        params.set(params::BACKUP_STORAGE_DIRECTORY, BACKUP_DIRECTORIES[0]);
        params.set(params::TIME_TRAVEL_RETENTION_MS, "600000");
        let storage = params.data_location().open().map_err(|e| chain(&e))?;
        Ok(Self {
            meta: Shared::new(&chaos, fenced, vec![]),
            link: Link::new(&chaos),
            clock: SimClock::new(times),
            zombies: vec![],
            frontends: vec![],
            compactors: vec![],
            model: Arc::default(),
            files: Files::of(data),
            snapshots: BTreeMap::new(),
            must_be_listed: BTreeSet::new(),
            memory: None,
            told_before: 0,
            compared: 0,
            chaos,
            params,
            storage,
            stores,
            fenced,
            rows_max,
            processes: 0,
        })
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

    pub fn process(&mut self, what: &str) -> Arc<Process> {
        self.processes += 1;
        Process::new(format!("{what} {}", self.processes))
    }

    /// Starts a meta server. The previous one is deposed, if it still runs.
    pub async fn start_server(&mut self) -> Result<(), String> {
        let process = self.process("meta");
        let (meta, params) = (Arc::clone(&self.meta), self.params.clone());
        let (clock, rows_max, begun) =
            (Arc::clone(&self.clock), self.rows_max, Arc::clone(&process));
        let starting = async move { start(&begun, &meta, &params, &clock, rows_max).await };
        let started = self.in_process(&process, starting).await?;
        let server = match started {
            Some(Ok(server)) => server,
            Some(Err(why)) => {
                process.kill();
                return Err(why);
            }
            None => return Err("it ended while it started".to_owned()),
        };
        self.zombies.extend(self.link.server());
        let surplus = self.zombies.len().saturating_sub(2);
        self.zombies.drain(..surplus);
        self.link.set(Some(server));
        self.chaos.event("a server leads");
        self.chaos.count("done: starts of a server");
        Ok(())
    }

    /// Runs something until it is done or its process has ended (`None`). A panic or a hang is an error.
    pub async fn in_process<T: Send + 'static>(
        &self,
        process: &Arc<Process>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Option<T>, String> {
        let task = tokio::spawn(process.run(work));
        let over = async {
            tokio::select! {
                biased;
                done = task => done.map(Some).map_err(|e| e.to_string()),
                () = process.died() => Ok(None),
            }
        };
        let ended = ambient::simulated::within(HANGS, over).await;
        ended.unwrap_or_else(|| Err(format!("{} hangs", process.name)))
    }

    /// Starts what is not running, as far as this is possible now.
    pub async fn mend(&mut self) -> Result<(), String> {
        if self.link.server().is_none()
            && let Err(why) = Box::pin(self.start_server()).await
        {
            self.chaos.event("a server does not start");
            self.chaos.note(&why);
        }
        self.frontends.retain(|frontend| !frontend.follower.process.is_dead());
        self.compactors.retain(|compactor| !compactor.follower.process.is_dead());
        while self.frontends.len() < 2 {
            let process = self.process("frontend");
            let (link, storage) = (Arc::clone(&self.link), self.storage.clone());
            let (model, of) = (Arc::clone(&self.model), Arc::clone(&process));
            let start = async move { Frontend::start(&of, &link, &storage, &model).await };
            let Some(Ok(frontend)) = self.in_process(&process, start).await? else { break };
            self.frontends.push(Arc::new(frontend));
        }
        while self.compactors.len() < 2 {
            let process = self.process("compactor");
            let (link, storage) = (Arc::clone(&self.link), self.storage.clone());
            let of = Arc::clone(&process);
            let start = async move { Compactor::start(&of, &link, &storage).await };
            let Some(Ok(compactor)) = self.in_process(&process, start).await? else { break };
            self.compactors.push(Arc::new(compactor));
        }
        Ok(())
    }

    fn lock_model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a table.
    pub async fn create_table(&self, name: &str, keyed: bool) -> Result<(), MetaError> {
        let create = create(name, keyed);
        let ask = |node: Arc<MetaNode>| {
            let create = create.clone();
            async move { node.manager.change_catalog(create).await }
        };
        let made = self.link.call("create table", ask).await?;
        let server = self
            .link
            .server()
            .ok_or_else(|| MetaError::new(ErrorKind::Storage, "the meta role is gone"))?;
        let catalog = server.node.manager.state().catalog.at(made.epoch);
        let id = catalog.relation(PUBLIC, name).map(|relation| relation.id);
        let id = id.ok_or_else(|| {
            MetaError::new(ErrorKind::Internal, format!("table {name} was made, and is not there"))
        })?;
        let (name, made) = (name.to_owned(), made.epoch);
        let table = Table { id, name: name.clone(), made, dropped: None, may_be_dropped: false };
        self.lock_model().tables.insert(name, table);
        Ok(())
    }

    /// Restores a snapshot into an empty store, which becomes the meta store.
    pub async fn restore(&mut self, directory: &str, id: SnapshotId) -> Result<bool, String> {
        let Some(snapshot) = self.snapshots.get(&(directory.to_owned(), id)) else {
            return Ok(false);
        };
        let commits = snapshot.commits.clone();
        let target = Shared::new(&self.chaos, self.fenced, commits.clone());
        let client = FaultyMeta::lead(&target);
        let request = restore::Request {
            snapshot_id: id,
            backup: StorageLocation::new(self.params.value(params::BACKUP_STORAGE_URL), directory),
            hummock: self.params.data_location(),
            validate_integrity: self.chaos.one_in(2),
            now_ms: self.clock.now_ms(),
            overwrite: Overwrite::default(),
            copy_data: false,
            dry_run: false,
        };
        let process = self.process("restore");
        let restoring = async move {
            let plan = restore::plan(request, &*client).await?;
            plan.check_target()?;
            restore::copy(&plan, &|_, _| {}).await?;
            restore::verify(&plan, &|_, _| {}).await?;
            restore::apply(&plan, &*client).await
        };
        match self.in_process(&process, Box::pin(restoring)).await? {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.chaos.event(&format!("restore of {id} fails"));
                self.chaos.note(&chain(&error));
                return Ok(false);
            }
            None => return Ok(false),
        }
        self.chaos.event(&format!("snapshot {id} in {directory} is restored"));
        self.chaos.count("done: restores");
        // Compares what the previous life has listed until now with its own commits.
        self.check_snapshots().await?;
        self.meta = target;
        self.memory = None;
        if let Some(server) = self.link.server() {
            self.zombies.push(server);
        }
        self.link.set(None);
        for frontend in std::mem::take(&mut self.frontends) {
            frontend.follower.process.kill();
        }
        for compactor in std::mem::take(&mut self.compactors) {
            compactor.follower.process.kill();
        }
        let newest = commits.last().map(|commit| commit.epoch).unwrap_or_default();
        let mut model = self.lock_model();
        model.go_back(newest);
        let told = model.told.len();
        drop(model);
        self.told_before = told;
        Ok(true)
    }
}

fn create(name: &str, keyed: bool) -> CatalogCommand {
    let column = |name: &str, column_type, not_null| NewColumn {
        name: name.to_owned(),
        column_type,
        not_null,
        default: None,
        backfill: None,
    };
    CatalogCommand::CreateTable(CreateTable {
        schema: PUBLIC.to_owned(),
        name: name.to_owned(),
        columns: vec![
            column(KEY, ColumnType::Integer, true),
            column(TAG, ColumnType::BigInt, true),
            column(TEXT, ColumnType::Text, true),
        ],
        primary_key: if keyed { vec![KEY.to_owned()] } else { vec![] },
        if_not_exists: false,
        id: None,
        rows: vec![],
    })
}
