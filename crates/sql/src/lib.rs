//! SQL over the PostgreSQL wire protocol.
//!
//! A statement is parsed once into one enum; one `match` in [`handlers`] finds its handler. Planning sees
//! nothing but a [`read_view::ReadView`]; commits go to the meta role through [`tidemark_engine::rpc`].

// The memory and threads that the frontend may use.
pub mod settings;
// SQL text to statements.
pub mod parser;
// Builds syntax trees.
mod trees;
// Rows that a statement computes once.
mod kept_rows;
// Rewrites a query between the parser and the query engine's planner.
pub mod rewrite;
// Decides the types of a query as PostgreSQL does.
mod resolve;
// The database as of one epoch, and where the views of all epochs come from.
pub mod read_view;
mod views;
// The writes of an open transaction.
pub mod pending;
// Sessions: their variables and state, all of them, and how their statements are cancelled and limited.
mod cancel;
pub mod limits;
mod session;
pub mod sessions;
mod variables;
// `pg_catalog`, `information_schema` and `rw_catalog` over a read view.
pub mod system_catalog;
// The query engine, and the states in which it plans statements.
mod engine;
mod planning_state;
// Plans and runs queries over a read view.
pub mod planner;
// Executes statements.
pub mod handlers;
// The PostgreSQL wire protocol.
pub mod wire;

use std::sync::Arc;

use crate::settings::Resources;
use tidemark_engine::rpc::{MetaClient, Replica};
use tidemark_engine::worker::Worker;
use tidemark_engine::worker::write_queue::WriteQueue;
use tidemark_ledger::sst_ids::SstIdPool;
use tidemark_ledger::storage::{BlockStore, Storage};
use tidemark_pg::error::SqlError;
use tidemark_pg::{DATABASE, memory, query_runtime};

/// The state that all connections share.
#[derive(Debug)]
pub struct Frontend {
    pub meta: Arc<MetaClient>,
    writes: WriteQueue,
    pub replica: Replica,
    engine: Arc<engine::Engine>,
    views: Arc<views::Views>,
    sst_ids: Arc<SstIdPool>,
    table_locks: handlers::TableLocks,
    pub sessions: Arc<sessions::Sessions>,
}

impl Frontend {
    pub async fn new(
        worker: Worker,
        storage: Storage,
        resources: &Resources,
    ) -> Result<Self, SqlError> {
        let cache = resources.block_cache(storage.url().is_far());
        let cluster = &worker.replica.state().cluster_id;
        let blocks = BlockStore::open(storage.object_store(), &cache, cluster).await;
        let blocks = blocks.map_err(|e| tidemark_ledger::meta_error::MetaError::storage(&e))?;
        let engine = engine::Engine::new(storage, blocks, DATABASE, resources)?;
        Ok(Self {
            meta: Arc::new(worker.client.clone()),
            replica: worker.replica.clone(),
            sst_ids: Arc::clone(&worker.sst_ids),
            writes: WriteQueue::start(worker.client.clone()),
            engine: Arc::new(engine),
            views: Arc::new(views::Views::new(Arc::new(worker))),
            table_locks: handlers::TableLocks::default(),
            sessions: Arc::default(),
        })
    }

    /// Most tokens of a query text.
    pub fn tokens_max(&self) -> usize {
        parser::tokens_max(self.memory_bytes())
    }

    /// Starts counting the memory of a new session.
    pub fn session_memory(&self) -> Arc<memory::SessionMemory> {
        memory::SessionMemory::new(&self.engine.budget)
    }

    /// Counts the memory for parsing a text until the returned value is dropped.
    pub fn hold_for_parsing(&self, text: &str) -> Result<memory::Held, SqlError> {
        memory::planning::hold_text(&self.engine.budget.begin(), text)
    }

    /// The threads on which statements run.
    pub fn queries(&self) -> &query_runtime::QueryRuntime {
        &self.engine.queries
    }

    /// The memory budget of all queries in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.engine.budget.bytes()
    }
}
