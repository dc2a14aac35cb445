//! A compactor: does the real work; its requests and responses go over the link.

use std::sync::Arc;

use super::frontend::Follower;
use super::link::{Link, through};
use tidemark_engine::compaction::{Executor, Inputs, Task};
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::{Committed, Compaction, Role};
use tidemark_engine::meta::compaction::{CompactionReport, Versions, run_task};
use tidemark_ledger::ambient;
use tidemark_ledger::ambient::simulated::Process;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::state::State;
use tidemark_ledger::storage::Storage;

/// Memory for the sorting of one compaction.
const MEMORY_BYTES: usize = 64 << 20;

/// A worker that compacts.
#[derive(Debug)]
pub struct Compactor {
    pub follower: Follower,
    storage: Storage,
    executor: Executor,
}

impl Compactor {
    pub async fn start(
        process: &Arc<Process>,
        link: &Arc<Link>,
        storage: &Storage,
    ) -> Result<Self, MetaError> {
        let follower = Follower::start(process, link, Role::Compactor).await?;
        let executor = Executor::new(storage, MEMORY_BYTES).map_err(|e| MetaError::storage(&e))?;
        Ok(Self { follower, storage: storage.clone(), executor })
    }

    /// Compacts a table, if there is work.
    pub async fn work(self: &Arc<Self>) -> Result<Option<CompactionReport>, MetaError> {
        self.follower.sync().await?;
        let name = self.follower.name();
        let claim = |node: Arc<MetaNode>| {
            let name = name.clone();
            async move { Ok(node.claim(&name)) }
        };
        let Some(claimed) = self.follower.link.call("claim", claim).await? else {
            return Ok(None);
        };
        let (this, table) = (Arc::clone(self), claimed.table_id);
        // A panic counts as an error of the compaction.
        let work = ambient::spawn(async move { this.compact(through(&claimed)).await });
        let done =
            work.await.map_err(|e| MetaError::new(ErrorKind::Storage, e.to_string())).flatten();
        let compacted = matches!(done, Ok(Some(_)));
        let release = |node: Arc<MetaNode>| {
            let name = name.clone();
            async move {
                node.release(&name, table, compacted);
                Ok(())
            }
        };
        self.follower.link.call("release", release).await?;
        done
    }

    async fn compact(&self, task: Task) -> Result<Option<CompactionReport>, MetaError> {
        let state = self.follower.sync().await?;
        if Inputs::of(&task, &state.version).is_none() {
            return Ok(None);
        }
        let ids = self.follower.ids.staging();
        run_task(self, &self.executor, &self.storage, &ids, &task).await
    }
}

impl Versions for Compactor {
    fn state(&self) -> Arc<State> {
        self.follower.state().expect("it has followed before it compacts")
    }

    async fn commit(&self, compaction: Compaction) -> Result<Committed, MetaError> {
        let name = self.follower.name();
        let commit = |node: Arc<MetaNode>| {
            let (name, compaction) = (name.clone(), through(&compaction));
            async move {
                let now_ms = node.manager.clock().now_ms();
                let born = compaction.born.iter().map(|sst| sst.id);
                node.workers.check_staged(&name, born, now_ms)?;
                node.manager.compact(compaction).await
            }
        };
        let outcome = self.follower.link.call("commit compaction", commit).await;
        if outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Conflict) {
            self.follower.sync().await?;
        }
        outcome
    }
}
