//! A cluster restored for inspection: one process, no maintenance, and data files that are read where
//! they are and never written.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{StartError, listen, worker_info};
use crate::config;
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::Role;
use tidemark_engine::meta::manager::{self, NewCluster};
use tidemark_engine::meta::settings::MaintenanceSettings;
use tidemark_engine::rpc::{self, LocalMeta, MetaClient, Replica};
use tidemark_engine::worker::Worker;
use tidemark_ledger::epoch::SystemClock;
use tidemark_ledger::meta_store::MetaStore;
use tidemark_ledger::params::{self, ParamSpec, Params};
use tidemark_ledger::storage::{Storage, StorageLocation};
use tidemark_sql::Frontend;
use tidemark_sql::settings::{ConnectionSettings, Resources};
use tidemark_sql::wire::{self, SqlServer};

const ADDR: &str = "127.0.0.1:0";
const MEMORY_BYTES: usize = 1 << 30;
const META_CACHE_BYTES: usize = 64 << 20;

/// The running roles.
#[derive(Debug)]
pub struct Rehearsal {
    sql: SqlServer,
    replica: Replica,
    meta: rpc::Served,
}

impl Rehearsal {
    /// Starts on free loopback ports. `location` takes its own writes; `data` holds the data files.
    pub async fn start(
        store: Arc<dyn MetaStore>,
        location: &StorageLocation,
        data: Storage,
    ) -> Result<Self, StartError> {
        let sql_listener = listen("SQL", ADDR).await?;
        let meta_listener = listen("meta", ADDR).await?;
        let mut params = Params::default();
        params.set(params::STATE_STORE, &format!("hummock+{}", location.url));
        let directory = ParamSpec::find(params::DATA_DIRECTORY)?.parse(&location.directory)?;
        params.set(params::DATA_DIRECTORY, &directory);
        let manager = manager::open(store, NewCluster::new(params), Arc::new(SystemClock)).await?;
        let idle = MaintenanceSettings { compaction: false, ..MaintenanceSettings::default() };
        let info = worker_info(Role::Meta, ADDR.to_owned());
        let node = Arc::new(MetaNode::start(manager, idle, info).await?);
        let local = LocalMeta::default();
        let unlistened = |what| move |error: std::io::Error| StartError::listen(what, ADDR, &error);
        let meta = rpc::serve(meta_listener, &local, node).map_err(unlistened("meta"))?;
        let client = MetaClient::connect_local(&local, ADDR).await?;
        let worker = Worker::start(client, worker_info(Role::Frontend, ADDR.to_owned())).await?;
        let replica = worker.replica.clone();
        let frontend = Frontend::new(worker, data, &resources()).await?;
        let sql = wire::serve(sql_listener, Arc::new(frontend), &ConnectionSettings::default());
        let sql = sql.map_err(unlistened("SQL"))?;
        Ok(Self { sql, replica, meta })
    }

    pub fn sql_addr(&self) -> SocketAddr {
        self.sql.addr
    }

    pub async fn stop(self) {
        self.sql.stop().await;
        self.replica.unfollow();
        self.meta.stop().await;
    }
}

/// Enough for a few queries of one user.
fn resources() -> Resources {
    Resources {
        memory_bytes: MEMORY_BYTES,
        parallelism: config::default_parallelism(),
        meta_cache_bytes: META_CACHE_BYTES,
        block_cache_bytes: None,
        file_cache: None,
    }
}
