//! The standalone server: all roles in one process, talking to each other as if they were not.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::epoch::SystemClock;
use crate::frontend::Frontend;
use crate::frontend::error::SqlError;
use crate::frontend::pgwire::{self, SqlServer};
use crate::meta::MetaNode;
use crate::meta::error::MetaError;
use crate::meta::manager::{self, NewCluster, OpenError};
use crate::meta::store::StoreError;
use crate::params::{self, ParamError, ParamSpec, Params};
use crate::rpc::{self, MetaClient, Replica, RpcError};

/// A running server.
#[derive(Debug)]
pub struct Server {
    sql: SqlServer,
    meta: rpc::Served,
    maintenance: JoinSet<()>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {what} address {addr}: {reason}")]
    Listen { what: &'static str, addr: String, reason: String },
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
}

impl StartError {
    /// A way out, if there is one to tell.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { what, .. } => {
                let flag = if *what == "SQL" { "--listen-addr" } else { "--meta-addr" };
                Some(format!("Stop what uses it, or choose another with {flag}."))
            }
            Self::Store(StoreError::InUse { .. }) => {
                Some("Stop the other server, or start with another --store-directory.".to_owned())
            }
            Self::Open(error) => error.hint(),
            Self::Meta(error) => error.hint.clone(),
            Self::Rpc(error) => error.hint(),
            Self::Setting(_) | Self::Store(_) | Self::Sql(_) => None,
        }
    }
}

/// Starts every role. Nothing is touched unless both addresses can be had.
pub async fn start(settings: Settings) -> Result<Server, StartError> {
    let sql_listener = listen("SQL", &settings.listen_addr).await?;
    let meta_listener = listen("meta", &settings.meta_addr).await?;
    let params = initial_params(&settings)?;
    let store = settings.meta_store.open().await?;
    store.lead(&settings.meta_addr).await?;
    let manager = manager::open(store, NewCluster { params }, Arc::new(SystemClock)).await?;
    let storage = manager.state_store().clone();
    let unlistened = |reason: std::io::Error| StartError::Listen {
        what: "meta",
        addr: settings.meta_addr.clone(),
        reason: reason.to_string(),
    };
    let node = Arc::new(MetaNode::start(manager, settings.maintenance).await?);
    let meta = rpc::serve(meta_listener, Arc::clone(&node)).map_err(unlistened)?;
    let maintenance = maintain(&node);
    let client = MetaClient::connect_local(&meta).await?.as_worker();
    let replica = Replica::start(client.clone()).await?;
    let frontend = Frontend::new(client, replica, storage, &settings.resources).await?;
    let sql =
        pgwire::serve(sql_listener, Arc::new(frontend)).map_err(|reason| StartError::Listen {
            what: "SQL",
            addr: settings.listen_addr.clone(),
            reason: reason.to_string(),
        })?;
    Ok(Server { sql, meta, maintenance })
}

impl Server {
    pub fn sql_addr(&self) -> SocketAddr {
        self.sql.addr
    }

    pub fn meta_addr(&self) -> SocketAddr {
        self.meta.addr
    }

    /// Ends all connections, then the roles behind them. What was acknowledged is durable already.
    pub async fn stop(mut self) {
        self.sql.stop().await;
        self.maintenance.shutdown().await;
        self.meta.stop().await;
    }

    /// Resolves, with the reason, when a role ends by itself.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            reason = self.sql.ended() => reason,
            reason = self.meta.ended() => reason,
        }
    }
}

/// Starts what keeps the data directory in shape.
fn maintain(node: &Arc<MetaNode>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if node.settings().compaction {
        tasks.spawn(Arc::clone(node).compact_forever());
    }
    if node.settings().vacuum_interval_ms > 0 {
        tasks.spawn(Arc::clone(node).vacuum_forever());
    }
    tasks
}

async fn listen(what: &'static str, addr: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|error| StartError::Listen {
        what,
        addr: addr.to_owned(),
        reason: error.to_string(),
    })
}

/// What a new cluster starts with: the settings where there are some, else the defaults.
fn initial_params(settings: &Settings) -> Result<Params, ParamError> {
    let mut params = Params::default();
    for spec in params::PARAMS {
        if let Some(default) = spec.default {
            params.set(spec.name, default);
        }
    }
    let given = [
        (params::STATE_STORE, &settings.state_store),
        (params::DATA_DIRECTORY, &settings.data_directory),
        (params::BACKUP_STORAGE_URL, &settings.backup_storage_url),
        (params::BACKUP_STORAGE_DIRECTORY, &settings.backup_storage_directory),
    ];
    for (name, value) in given {
        params.set(name, &ParamSpec::find(name)?.parse(value)?);
    }
    Ok(params)
}
