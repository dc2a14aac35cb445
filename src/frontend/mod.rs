//! SQL over the PostgreSQL wire.
//!
//! A statement is parsed once, into one enum; one `match` in [`handlers`] finds who runs it. All that
//! planning sees is a [`read_view::ReadView`]; commits go to the meta role through [`crate::rpc`].

mod catalog_provider;
mod engine;
pub mod error;
pub mod functions;
pub mod handlers;
mod overflow;
pub mod parser;
pub mod pgwire;
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

use crate::hummock::write::SstIds;
use crate::id::SstId;
use crate::rpc::{MetaClient, Replica};
use crate::storage::Storage;

/// The database there is, and the user it starts with.
pub const DATABASE: &str = "dev";
pub const USER: &str = "root";

/// File ids asked for at a time.
const SST_IDS_AT_ONCE: u32 = 64;

/// What all connections share.
#[derive(Debug)]
pub struct Frontend {
    pub meta: MetaClient,
    pub replica: Replica,
    engine: Arc<engine::Engine>,
    snapshots: query_epoch::SnapshotCache,
    sst_ids: SstIdPool,
    keyed_writes: handlers::KeyedWrites,
}

impl Frontend {
    pub fn new(
        meta: MetaClient,
        replica: Replica,
        storage: Storage,
        memory_bytes: usize,
        parallelism: usize,
    ) -> Result<Self, error::SqlError> {
        let engine = engine::Engine::new(storage, DATABASE, memory_bytes, parallelism)?;
        Ok(Self {
            sst_ids: SstIdPool { meta: meta.clone(), left: tokio::sync::Mutex::new((0, 0)) },
            meta,
            replica,
            engine: Arc::new(engine),
            snapshots: query_epoch::SnapshotCache::default(),
            keyed_writes: handlers::KeyedWrites::default(),
        })
    }
}

/// File ids reserved by the meta role and not used yet: next and end.
#[derive(Debug)]
struct SstIdPool {
    meta: MetaClient,
    left: tokio::sync::Mutex<(u64, u64)>,
}

#[async_trait::async_trait]
impl SstIds for SstIdPool {
    async fn next(&self) -> Result<SstId, Box<dyn std::error::Error + Send + Sync>> {
        let mut left = self.left.lock().await;
        if left.0 == left.1 {
            let first = self.meta.reserve_ssts(SST_IDS_AT_ONCE).await?.0;
            *left = (first, first + u64::from(SST_IDS_AT_ONCE));
        }
        left.0 += 1;
        Ok(SstId(left.0 - 1))
    }
}
