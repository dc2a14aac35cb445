//! A server: starts and stops the roles of this process.

mod bound;
mod meta_role;
mod monitor;
mod rehearsal;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use self::bound::Bound;
use self::meta_role::MetaRole;
use self::monitor::{Monitor, Watched};
pub use self::rehearsal::Rehearsal;
use crate::config::{self, CompactorSettings, FrontendSettings, Settings};
use tidemark_engine::compactor::Compactor;
use tidemark_engine::meta::command::{Role, WorkerInfo};
use tidemark_engine::meta::manager::OpenError;
use tidemark_engine::rpc::{MetaClient, Replica};
use tidemark_engine::worker::Worker;
use tidemark_ledger::epoch::{Clock as _, SystemClock};
use tidemark_ledger::error::HummockError;
use tidemark_ledger::lease::LeaseError;
use tidemark_ledger::meta_error::MetaError;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::meta_store::StoreError;
use tidemark_ledger::params::{self, ParamError};
use tidemark_ledger::storage::{Storage, StorageError};
use tidemark_ledger::storage_url::{self, StorageUrl};
use tidemark_pg::error::SqlError;
use tidemark_sql::Frontend;
use tidemark_sql::wire::{self, SqlServer};

/// Pause between attempts to find the meta role.
const META_PAUSE: Duration = Duration::from_millis(500);

/// A running server.
#[derive(Debug)]
pub struct Server {
    sql: Option<SqlServer>,
    replica: Arc<OnceLock<Replica>>,
    compactor: JoinSet<()>,
    meta: Option<MetaRole>,
    monitor: Option<Monitor>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {what} address {addr}: {reason}")]
    Listen { what: &'static str, addr: String, reason: String },
    #[error("the server is stopping")]
    Stopped,
    #[error(transparent)]
    Setting(#[from] ParamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl StartError {
    fn listen(what: &'static str, addr: &str, error: &std::io::Error) -> Self {
        Self::Listen { what, addr: addr.to_owned(), reason: error.to_string() }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { what, .. } => {
                let flag = match *what {
                    "meta" => "--meta-addr",
                    "monitor" => "--prometheus-listener-addr",
                    _ => "--listen-addr",
                };
                Some(format!("Stop what uses it, or choose another with {flag}."))
            }
            Self::Store(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            Self::Open(error) => error.hint(),
            Self::Meta(error) => error.hint.clone(),
            Self::Rpc(error) => error.hint(),
            Self::Setting(_) | Self::Sql(_) | Self::Stopped => None,
        }
    }

    /// Whether the cause may be transient, such as a store or a network that does not respond.
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) | Self::Open(OpenError::Store(error)) => {
                matches!(error, StoreError::Io { .. } | StoreError::Deposed { .. })
            }
            Self::Open(
                OpenError::Storage(error)
                | OpenError::Lease(LeaseError::Storage(error))
                | OpenError::Hummock(HummockError::Storage(error)),
            ) => matches!(error, StorageError::Io { .. }),
            // Another server has started to lead meanwhile.
            Self::Open(OpenError::Lease(LeaseError::Deposed { .. })) | Self::Meta(_) => true,
            _ => false,
        }
    }
}

/// Starts the roles of `settings`. Reserves all addresses first: if one is in use, nothing is touched.
pub async fn start(settings: Settings) -> Result<Server, StartError> {
    Box::pin(start_roles(settings)).await
}

async fn start_roles(settings: Settings) -> Result<Server, StartError> {
    let sql_bound = match &settings.frontend {
        Some(frontend) => Some(Bound::new("SQL", &frontend.listen_addr).await?),
        None => None,
    };
    let bound = match &settings.meta {
        Some(meta) => Some(Bound::new("meta", &meta.listen_addr).await?),
        None => None,
    };
    let leading = watch::Sender::new(None);
    let replica: Arc<OnceLock<Replica>> = Arc::default();
    let monitor = match &settings.monitor_addr {
        Some(addr) => {
            let watched = Watched {
                meta: settings.meta.is_some().then(|| leading.subscribe()),
                replica: Arc::clone(&replica),
                works: settings.frontend.is_some() || settings.compactor.is_some(),
                newest_snapshot_ms: Arc::default(),
            };
            let listener = listen("monitor", addr).await?;
            let served = Monitor::serve(listener, watched);
            Some(served.map_err(|error| StartError::listen("monitor", addr, &error))?)
        }
        None => None,
    };
    let meta = match settings.meta.clone().zip(bound) {
        Some((meta, bound)) => Some(MetaRole::start(meta, bound, leading).await?),
        None => None,
    };
    let mut server = Server { sql: None, replica, compactor: JoinSet::new(), meta, monitor };
    let client = async || server.client(settings.meta_addrs.as_deref()).await;
    let sql = match settings.frontend.as_ref().zip(sql_bound) {
        Some((frontend, bound)) => {
            Some(start_frontend(frontend, bound, client().await?, &server.replica).await?)
        }
        None => None,
    };
    let compactor = match &settings.compactor {
        Some(compactor) => {
            Some(start_compactor(compactor, client().await?, &server.replica).await?)
        }
        None => None,
    };
    server.sql = sql;
    server.compactor.extend(compactor.map(|compactor| compactor.run_forever()));
    Ok(server)
}

async fn start_frontend(
    settings: &FrontendSettings,
    bound: Bound,
    client: MetaClient,
    replica: &OnceLock<Replica>,
) -> Result<SqlServer, StartError> {
    let unlistened =
        |error: std::io::Error| StartError::listen("SQL", &settings.listen_addr, &error);
    let advertised = settings.advertise_addr.clone().unwrap_or_else(|| bound.addr.to_string());
    let worker = Worker::start(client, worker_info(Role::Frontend, advertised)).await?;
    replica.get_or_init(|| worker.replica.clone());
    let storage = state_store_of(&worker)?;
    let frontend = Frontend::new(worker, storage, &settings.resources).await?;
    let listener = bound.listen().map_err(unlistened)?;
    wire::serve(listener, Arc::new(frontend), &settings.connections).map_err(unlistened)
}

async fn start_compactor(
    settings: &CompactorSettings,
    client: MetaClient,
    replica: &OnceLock<Replica>,
) -> Result<Arc<Compactor>, StartError> {
    let worker = Worker::start(client, worker_info(Role::Compactor, String::new())).await?;
    replica.get_or_init(|| worker.replica.clone());
    let storage = state_store_of(&worker)?;
    Ok(Arc::new(Compactor::new(worker, storage, settings.memory_bytes)?))
}

/// Opens the state store that the cluster's parameters name.
fn state_store_of(worker: &Worker) -> Result<Storage, StartError> {
    let params = Arc::clone(&worker.replica.state().params);
    let url = storage_url::without_hummock(params.value(params::STATE_STORE));
    let url = StorageUrl::parse(url).map_err(StorageError::from)?;
    Ok(Storage::open_existing(&url)?)
}

/// What this process reports about itself to the meta role.
fn worker_info(role: Role, addr: String) -> WorkerInfo {
    let parallelism = u32::try_from(config::default_parallelism()).unwrap_or(u32::MAX);
    WorkerInfo {
        role,
        addr,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: SystemClock.now_ms(),
        parallelism,
        memory_bytes: config::memory_available_bytes(),
    }
}

impl Server {
    /// Connects to the meta role: the one of this process, or else a remote one, retrying until it is found.
    async fn client(&self, addrs: Option<&str>) -> Result<MetaClient, RpcError> {
        if let Some(meta) = &self.meta {
            return MetaClient::connect_local(&meta.local, &meta.addr.to_string()).await;
        }
        let addrs = addrs.unwrap_or(config::META_ADDR);
        let mut told = false;
        loop {
            match MetaClient::connect(addrs).await {
                Ok(client) => return Ok(client),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        info!(target: "tidemark::life", %error, "waiting for the meta role");
                    }
                    tokio::time::sleep(META_PAUSE).await;
                }
            }
        }
    }

    pub fn sql_addr(&self) -> Option<SocketAddr> {
        self.sql.as_ref().map(|sql| sql.addr)
    }

    pub fn meta_addr(&self) -> Option<SocketAddr> {
        self.meta.as_ref().map(|meta| meta.addr)
    }

    /// Address of the HTTP server for metrics.
    pub fn monitor_addr(&self) -> Option<SocketAddr> {
        self.monitor.as_ref().map(|monitor| monitor.addr)
    }

    /// Ends all connections, then stops the roles. Everything acknowledged is already durable.
    pub async fn stop(mut self) {
        if let Some(sql) = self.sql {
            sql.stop().await;
        }
        self.compactor.shutdown().await;
        if let Some(replica) = self.replica.get() {
            replica.unfollow();
        }
        if let Some(meta) = self.meta {
            meta.stop().await;
        }
    }

    /// Resolves with the reason when a role ends on its own.
    pub async fn failed(&mut self) -> String {
        let sql = async {
            match &mut self.sql {
                Some(sql) => sql.ended().await,
                None => std::future::pending().await,
            }
        };
        let meta = async {
            match &mut self.meta {
                Some(meta) => meta.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = sql => reason,
            reason = meta => reason,
        }
    }
}

async fn listen(what: &'static str, addr: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|error| StartError::listen(what, addr, &error))
}
