//! A meta server as a process of the simulation, with a clock that jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::link::Server;
use super::meta_store::{FaultyMeta, Shared};
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::{Role, WorkerInfo};
use tidemark_engine::meta::manager::{self, NewCluster};
use tidemark_engine::meta::settings::MaintenanceSettings;
use tidemark_ledger::ambient::simulated::{Process, Times};
use tidemark_ledger::epoch::Clock;
use tidemark_ledger::meta_error::chain;
use tidemark_ledger::meta_store::MetaStore;
use tidemark_ledger::params::Params;

/// Unix time in ms at which virtual time begins.
const BEGIN_MS: u64 = 1_900_000_000_000;

/// The clock of the meta server's machine.
#[derive(Debug)]
pub struct SimClock {
    times: Arc<Times>,
    /// How far it is off, in ms.
    off_ms: AtomicI64,
    latest_ms: AtomicU64,
}

impl SimClock {
    pub fn new(times: &Arc<Times>) -> Arc<Self> {
        let (off_ms, latest_ms) = (AtomicI64::new(0), AtomicU64::new(0));
        Arc::new(Self { times: Arc::clone(times), off_ms, latest_ms })
    }

    pub fn jump(&self, ms: i64) {
        self.off_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the clock past the latest time that it has shown.
    pub fn set_right(&self) {
        let behind = self.latest_ms.load(Ordering::SeqCst).saturating_sub(self.now_ms());
        self.jump(i64::try_from(behind).expect("clocks jump by days") + 1);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let right_ms = BEGIN_MS + self.times.now_ms();
        let now_ms = right_ms.saturating_add_signed(self.off_ms.load(Ordering::SeqCst));
        self.latest_ms.fetch_max(now_ms, Ordering::SeqCst);
        now_ms
    }

    fn monotonic_ms(&self) -> u64 {
        self.times.now_ms()
    }
}

/// What a worker reports about itself.
pub fn info(role: Role) -> WorkerInfo {
    WorkerInfo {
        role,
        addr: String::new(),
        release: String::new(),
        started_ms: BEGIN_MS,
        parallelism: 1,
        memory_bytes: 1 << 30,
    }
}

/// Starts a server on this store, as one that starts to lead.
pub async fn start(
    process: &Arc<Process>,
    meta: &Arc<Shared>,
    params: &Params,
    clock: &Arc<SimClock>,
    rows_max: u64,
) -> Result<Server, String> {
    let store = FaultyMeta::lead(meta) as Arc<dyn MetaStore>;
    let cluster = NewCluster::new(params.clone());
    let opened = manager::open(store, cluster, Arc::clone(clock) as Arc<dyn Clock>).await;
    let manager = opened.map_err(|e| chain(&e))?;
    let settings = MaintenanceSettings {
        min_sst_retention_ms: 0,
        compaction_rows_max: rows_max,
        compaction_memory_bytes: 64 << 20,
        ..Default::default()
    };
    let started = MetaNode::start(manager, settings, info(Role::Meta)).await;
    let node = Arc::new(started.map_err(|e| chain(&e))?);
    Arc::clone(&node).hold_backups().await;
    Ok(Server { process: Arc::clone(process), node, meta: Arc::clone(meta) })
}
