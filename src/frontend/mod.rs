//! SQL over the PostgreSQL wire.
//!
//! A statement is parsed once, into one enum; one `match` in [`handlers`] finds who runs it. All that
//! planning sees is a [`read_view::ReadView`]; commits go to the meta role through [`crate::rpc`].

mod catalog_provider;
mod engine;
pub mod error;
mod floats;
pub mod functions;
pub mod handlers;
mod overflow;
pub mod parser;
pub mod pending;
pub mod pgwire;
mod pins;
mod planner;
mod query_epoch;
mod query_runtime;
pub mod read_view;
pub mod rewrite;
mod session;
pub mod system_catalog;
pub mod text_input;
mod variables;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Resources;
use crate::hummock::SstIdPool;
use crate::rpc::{MetaClient, Replica, WriteQueue};
use crate::storage::{CachedStore, Storage};

/// The database there is, and the user it starts with.
pub const DATABASE: &str = "dev";
pub const USER: &str = "root";

/// How often the meta role is told what is in use.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub struct Frontend {
    pub meta: MetaClient,
    writes: WriteQueue,
    pub replica: Replica,
    engine: Arc<engine::Engine>,
    snapshots: query_epoch::SnapshotCache,
    sst_ids: Arc<SstIdPool>,
    pins: Arc<pins::Pins>,
    keyed_writes: handlers::KeyedWrites,
    _reporter: Reporter,
}

/// Ends the reports with the frontend.
#[derive(Debug)]
struct Reporter(tokio::task::AbortHandle);

impl Drop for Reporter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Frontend {
    pub async fn new(
        meta: MetaClient,
        replica: Replica,
        storage: Storage,
        resources: &Resources,
    ) -> Result<Self, error::SqlError> {
        let store = storage.object_store();
        let store = if resources.block_cache.is_off() {
            store
        } else {
            let cluster = &replica.state().cluster_id;
            let cached = CachedStore::open(store, &resources.block_cache, cluster).await;
            Arc::new(cached.map_err(|e| crate::meta::error::MetaError::storage(&e))?)
        };
        let engine = engine::Engine::new(storage, store, DATABASE, resources)?;
        let ids = meta.clone();
        let sst_ids = SstIdPool::start(move |count| {
            let meta = ids.clone();
            Box::pin(async move { Ok(meta.reserve_ssts(count).await?) })
        });
        let sst_ids = sst_ids.await.map_err(handlers::ids_error)?;
        let pins = Arc::new(pins::Pins::default());
        let reporter = tokio::spawn(report_forever(
            meta.clone(),
            replica.clone(),
            Arc::clone(&pins),
            Arc::clone(&sst_ids),
        ));
        Ok(Self {
            sst_ids,
            pins,
            _reporter: Reporter(reporter.abort_handle()),
            writes: WriteQueue::start(meta.clone()),
            meta,
            replica,
            engine: Arc::new(engine),
            snapshots: query_epoch::SnapshotCache::default(),
            keyed_writes: handlers::KeyedWrites::default(),
        })
    }
}

impl Frontend {
    /// The newest view, with a pin on what it needs.
    fn latest_view(&self) -> read_view::ReadView {
        let (state, pin) = self.pins.latest(&self.replica);
        read_view::ReadView { pin: Some(pin), ..read_view::ReadView::latest(&state) }
    }

    /// Tells the meta role now what is pinned.
    async fn report_pins(&self) -> Result<(), crate::rpc::RpcError> {
        let report = self.pins.report(self.meta.worker(), &self.replica, &self.sst_ids);
        self.meta.report(&report).await
    }
}

/// Tells the meta role again and again what is pinned here. Never returns.
async fn report_forever(
    meta: MetaClient,
    replica: Replica,
    pins: Arc<pins::Pins>,
    sst_ids: Arc<SstIdPool>,
) {
    loop {
        let report = pins.report(meta.worker(), &replica, &sst_ids);
        if let Err(error) = meta.report(&report).await {
            tracing::warn!(%error, "could not tell the meta role what is in use");
        }
        tokio::time::sleep(REPORT_PAUSE).await;
    }
}
