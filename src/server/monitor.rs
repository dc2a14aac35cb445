//! HTTP endpoints of this process: `/metrics` for Prometheus, `/health` (the process is up) and
//! `/ready` (it can do its work).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::get;
use chrono::DateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::Role;
use tidemark_engine::rpc::Replica;
use tidemark_ledger::metrics;
use tidemark_ledger::state::State;

/// How long listing the snapshots may delay a response.
const LISTING_TIMEOUT: Duration = Duration::from_secs(3);

/// The HTTP server. It stops when this value is dropped.
#[derive(Debug)]
pub struct Monitor {
    pub addr: SocketAddr,
    _serving: JoinSet<()>,
}

/// What the endpoints report on.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The node while this process leads. `None` if the process has no meta role.
    pub meta: Option<watch::Receiver<Option<Arc<MetaNode>>>>,
    /// The replica of a worker, once the worker has started.
    pub replica: Arc<OnceLock<Replica>>,
    /// Whether this process runs a worker: a frontend or a compactor.
    pub works: bool,
    /// Unix time, in ms, of the newest snapshot in the last successful listing.
    pub newest_snapshot_ms: Arc<Mutex<Option<i64>>>,
}

impl Monitor {
    pub fn serve(listener: TcpListener, watched: Watched) -> std::io::Result<Self> {
        let addr = listener.local_addr()?;
        let routes = Router::new()
            .route("/metrics", get(metrics_text))
            .route("/health", get(async || "up\n"))
            .route("/ready", get(ready))
            .with_state(watched);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::warn!(%error, "the monitor ended");
            }
        });
        Ok(Self { addr, _serving: serving })
    }
}

async fn ready(Shared(watched): Shared<Watched>) -> (StatusCode, &'static str) {
    if let Some(meta) = &watched.meta
        && meta.borrow().is_none()
    {
        return (StatusCode::SERVICE_UNAVAILABLE, "standing by\n");
    }
    match watched.replica.get() {
        Some(replica) if !replica.is_followed() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the meta role is lost\n")
        }
        None if watched.works => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        _ => (StatusCode::OK, "ready\n"),
    }
}

async fn metrics_text(Shared(watched): Shared<Watched>) -> String {
    let node = watched.meta.as_ref().and_then(|meta| meta.borrow().clone());
    if watched.meta.is_some() {
        metrics::LEADING.set(i64::from(node.is_some()));
    }
    if let Some(replica) = watched.replica.get() {
        metrics::META_CONNECTED.set(i64::from(replica.is_followed()));
        of_state(&replica.state());
    }
    match node {
        Some(node) => {
            of_state(&node.manager.state());
            of_node(&node, &watched.newest_snapshot_ms).await;
        }
        // Values left from an earlier term as leader would be stale.
        None if watched.meta.is_some() => {
            metrics::WRITABLE.set(0);
            metrics::WORKERS.reset();
            metrics::SNAPSHOTS.set(0);
            metrics::SNAPSHOT_AGE_SECONDS.set(f64::NAN);
        }
        None => {}
    }
    metrics::text()
}

fn of_state(state: &State) {
    let version = &state.version;
    metrics::COMMITTED_EPOCH.set(signed(version.max_committed_epoch.as_u64()));
    metrics::SAFE_EPOCH.set(signed(version.safe_epoch.as_u64()));
    let sizes = version.data_files().map(|sst| sst.size_bytes);
    let (files, bytes) = sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
    metrics::DATA_FILES.set(signed(files));
    metrics::DATA_BYTES.set(signed(bytes));
}

async fn of_node(node: &MetaNode, newest_snapshot_ms: &Mutex<Option<i64>>) {
    metrics::WRITABLE.set(i64::from(node.manager.is_writable()));
    let nodes = node.worker_nodes();
    for (role, name) in
        [(Role::Meta, "meta"), (Role::Frontend, "frontend"), (Role::Compactor, "compactor")]
    {
        let count = nodes.iter().filter(|node| node.info.role == role).count();
        metrics::WORKERS.with_label_values(&[name]).set(signed(count as u64));
    }
    let listed = tokio::time::timeout(LISTING_TIMEOUT, node.list_snapshots()).await;
    let is_up = matches!(listed, Ok(Ok(_)));
    metrics::BACKUP_STORAGE_UP.set(i64::from(is_up));
    // The snapshot keeps ageing while its storage is unavailable.
    let mut newest = *newest_snapshot_ms.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(Ok(listed)) = listed {
        let snapshots = &listed.snapshot_metadata;
        metrics::SNAPSHOTS.set(signed(snapshots.len() as u64));
        let taken =
            snapshots.iter().filter_map(|s| DateTime::parse_from_rfc3339(&s.info.created_at).ok());
        newest = taken.map(|time| time.timestamp_millis()).max();
        *newest_snapshot_ms.lock().unwrap_or_else(PoisonError::into_inner) = newest;
    }
    let now_ms = signed(node.manager.clock().now_ms());
    let age = newest.map_or(f64::INFINITY, |ms| {
        Duration::from_millis((now_ms - ms).max(0).unsigned_abs()).as_secs_f64()
    });
    metrics::SNAPSHOT_AGE_SECONDS.set(age);
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
