//! The compactor role: claims tables from the meta role and compacts them. Any number of compactors may run.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::compaction::{Executor, Inputs, Task};
use crate::meta::command::{Committed, Compaction};
use crate::meta::compaction::{COMPACTION_PAUSE, Versions, run_apart, run_task};
use crate::worker::Worker;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::state::State;
use tidemark_ledger::storage::Storage;

/// How long to wait for a change to reach this replica.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker that compacts.
#[derive(Debug)]
pub struct Compactor {
    worker: Worker,
    storage: Storage,
    executor: Executor,
}

impl Compactor {
    /// Sorts that need more than `memory_bytes` spill to disk.
    pub fn new(worker: Worker, storage: Storage, memory_bytes: usize) -> Result<Self, MetaError> {
        let executor = Executor::new(&storage, memory_bytes).map_err(|e| MetaError::storage(&e))?;
        Ok(Self { worker, storage, executor })
    }

    /// Claims and runs tasks as long as there are any. Never returns.
    pub async fn run_forever(self: Arc<Self>) {
        let mut lost = false;
        loop {
            match self.worker.client.claim_compaction().await {
                Ok(Some(task)) => self.run(task).await,
                Ok(None) => {
                    lost = false;
                    tokio::time::sleep(COMPACTION_PAUSE).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut lost, true) {
                        warn!(%error, "could not ask for work; asking again");
                    }
                    tokio::time::sleep(COMPACTION_PAUSE).await;
                }
            }
        }
    }

    async fn run(self: &Arc<Self>, task: Task) {
        let (this, table) = (Arc::clone(self), task.table_id);
        let compacted = run_apart(table, async move { this.compact(task).await }).await;
        if let Err(error) = self.worker.client.release_compaction(table, compacted).await {
            warn!(%table, %error, "could not give a table back; it is free once this worker is given up");
        }
    }

    /// Returns whether the compaction was committed.
    async fn compact(&self, task: Task) -> Result<bool, MetaError> {
        // The commits that wrote the inputs may not have reached this replica yet.
        let known = |state: &State| Inputs::of(&task, &state.version).map(drop);
        if self.worker.replica.wait_for(CHANGE_TIMEOUT, known).await.is_none() {
            return Ok(false);
        }
        let ids = self.worker.sst_ids.staging();
        let report = run_task(self, &self.executor, &self.storage, &ids, &task).await?;
        Ok(report.is_some())
    }
}

impl Versions for Compactor {
    fn state(&self) -> Arc<State> {
        self.worker.replica.state()
    }

    async fn commit(&self, compaction: Compaction) -> Result<Committed, MetaError> {
        let base = compaction.base_epoch;
        let outcome = self.worker.client.commit_compaction(&compaction).await;
        let error = match outcome {
            Ok(committed) => return Ok(committed),
            Err(RpcError::Refused(error)) => error,
            Err(other) => return Err(MetaError::new(ErrorKind::Storage, other.to_string())),
        };
        if error.kind == ErrorKind::Conflict {
            // The change that caused the conflict may not have reached this replica yet.
            let newer = |state: &State| (state.version.max_committed_epoch > base).then_some(());
            self.worker.replica.wait_for(CHANGE_TIMEOUT, newer).await;
        }
        Err(error)
    }
}
