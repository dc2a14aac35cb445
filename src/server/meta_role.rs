//! The meta role of this process: standby until it leads, leader until it is deposed, then standby again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use super::bound::Bound;
use super::{StartError, worker_info};
use crate::config::{MetaSettings, MetaStoreSetting, StoreSettings};
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::Role;
use tidemark_engine::meta::manager::{self, NewCluster};
use tidemark_engine::rpc::{self, LocalMeta};
use tidemark_ledger::epoch::SystemClock;
use tidemark_ledger::meta_store::MetaStore;
use tidemark_ledger::params::{self, ParamError, ParamSpec, Params};

/// Pause before a failed attempt to start the role is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Timeout for a stopping role to record how far its metadata is durable.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(2);

/// The running meta role.
#[derive(Debug)]
pub struct MetaRole {
    pub addr: SocketAddr,
    /// Connects to the role from inside this process.
    pub local: LocalMeta,
    stop: oneshot::Sender<()>,
    task: JoinHandle<StartError>,
}

/// One term as leader.
struct Term {
    store: Arc<dyn MetaStore>,
    node: Arc<MetaNode>,
    served: rpc::Served,
    maintenance: JoinSet<()>,
}

/// What every term starts from.
struct Candidate {
    settings: MetaSettings,
    addr: SocketAddr,
    local: LocalMeta,
    leading: watch::Sender<Option<Arc<MetaNode>>>,
}

impl MetaRole {
    /// Returns once this process leads. `leading` holds the node while it does, else `None`.
    pub async fn start(
        settings: MetaSettings,
        bound: Bound,
        leading: watch::Sender<Option<Arc<MetaNode>>>,
    ) -> Result<Self, StartError> {
        let addr = bound.addr;
        let candidate = Candidate { settings, addr, local: LocalMeta::default(), leading };
        let local = candidate.local.clone();
        let term = candidate.begin(bound).await?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(candidate.run(term, stopped));
        Ok(Self { addr, local, stop, task })
    }

    pub async fn stop(self) {
        // Fails if the role has already ended.
        let _ended = self.stop.send(());
        drop(self.task.await);
    }

    /// Resolves with the reason when the role ends on its own.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(error) => crate::cli::chain(&error),
            Err(error) => format!("the meta role failed: {error}"),
        }
    }
}

impl Candidate {
    /// Leads, term after term, until it is stopped. Returns why it cannot lead any more.
    async fn run(self, first: Term, mut stopped: oneshot::Receiver<()>) -> StartError {
        let mut term = first;
        loop {
            // Also resolves when the sender is dropped.
            let reason = tokio::select! {
                _ = &mut stopped => None,
                reason = term.ends(&self.settings.stores) => Some(reason),
            };
            self.leading.send_replace(None);
            term.end().await;
            let Some(reason) = reason else { return StartError::Stopped };
            warn!(%reason, "does not lead any more");
            term = tokio::select! {
                _ = &mut stopped => return StartError::Stopped,
                begun = self.begin_again() => match begun {
                    Ok(term) => term,
                    Err(error) => return error,
                },
            };
        }
    }

    async fn begin_again(&self) -> Result<Term, StartError> {
        loop {
            let bound = Bound::new("meta", &self.addr.to_string()).await?;
            match self.begin(bound).await {
                Ok(term) => return Ok(term),
                // Transient failures are retried.
                Err(error) if error.may_pass() => {
                    warn!(error = crate::cli::chain(&error), "could not stand by; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until this process may lead, then starts a term.
    async fn begin(&self, bound: Bound) -> Result<Term, StartError> {
        let stores = &self.settings.stores;
        let params = initial_params(stores)?;
        let store = stores.meta_store.open().await?;
        let name = self.settings.advertise_addr.clone().unwrap_or_else(|| self.addr.to_string());
        let (allow_unfenced, accept_loss_after) = (stores.allow_unfenced, stores.accept_loss_after);
        let leader = store.lead(&name).await?;
        let new = NewCluster { params, allow_unfenced, leader, accept_loss_after };
        match self.serve(&store, new, bound, name).await {
            Ok(term) => Ok(term),
            Err(error) => {
                store.resign().await;
                Err(error)
            }
        }
    }

    async fn serve(
        &self,
        store: &Arc<dyn MetaStore>,
        new: NewCluster,
        bound: Bound,
        name: String,
    ) -> Result<Term, StartError> {
        let clock = Arc::new(SystemClock);
        let manager = manager::open(Arc::clone(store), new, clock).await?;
        let info = worker_info(Role::Meta, name);
        let node = MetaNode::start(manager, self.settings.maintenance, info).await?;
        let node = Arc::new(node);
        let listen =
            |error: std::io::Error| StartError::listen("meta", &self.addr.to_string(), &error);
        let listener = bound.listen().map_err(listen)?;
        let served = rpc::serve(listener, &self.local, Arc::clone(&node)).map_err(listen)?;
        info!(target: "tidemark::life", addr = %self.addr, "leads");
        self.leading.send_replace(Some(Arc::clone(&node)));
        let maintenance = maintain(&node);
        Ok(Term { store: Arc::clone(store), node, served, maintenance })
    }
}

impl Term {
    /// Resolves with the reason when this process must stop leading.
    async fn ends(&mut self, stores: &StoreSettings) -> String {
        let manager = self.node.manager.clone();
        // The other stores are locked to this process; reopening one would learn nothing.
        let unsure = async {
            match stores.meta_store {
                MetaStoreSetting::Etcd(_) => manager.unsure().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = self.store.deposed() => reason,
            reason = self.served.ended() => reason,
            () = unsure => "it is not known whether the last commit happened".to_owned(),
        }
    }

    async fn end(mut self) {
        self.maintenance.shutdown().await;
        self.served.stop().await;
        // A storage that does not respond must not keep the role from ending.
        drop(tokio::time::timeout(PROMISE_TIMEOUT, self.node.manager.promise()).await);
        self.store.resign().await;
    }
}

/// Starts the maintenance tasks of the data directory.
fn maintain(node: &Arc<MetaNode>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(node).hold_backups());
    tasks.spawn(Arc::clone(node).scrub_forever());
    if node.settings().compaction {
        tasks.spawn(Arc::clone(node).compact_forever());
    }
    if node.settings().vacuum_interval_ms > 0 {
        tasks.spawn(Arc::clone(node).vacuum_forever());
    }
    tasks
}

/// Parameters of a new cluster: those of the settings, else the defaults.
fn initial_params(stores: &StoreSettings) -> Result<Params, ParamError> {
    let mut params = Params::default();
    for spec in params::PARAMS {
        if let Some(default) = spec.default {
            params.set(spec.name, default);
        }
    }
    let given = [
        (params::STATE_STORE, &stores.state_store),
        (params::DATA_DIRECTORY, &stores.data_directory),
        (params::BACKUP_STORAGE_URL, &stores.backup_storage_url),
        (params::BACKUP_STORAGE_DIRECTORY, &stores.backup_storage_directory),
    ];
    for (name, value) in given {
        params.set(name, &ParamSpec::find(name)?.parse(value)?);
    }
    Ok(params)
}
