//! Stages rows as files, and commits writes.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;

use crate::Frontend;
use crate::planner::Planner;
use tidemark_engine::meta::command::{TableWrite, Write};
use tidemark_engine::write::{self, Written};
use tidemark_ledger::catalog::Table;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::params;
use tidemark_ledger::sst::{INLINE_BYTES_TOTAL, SstInfo, Target};
use tidemark_ledger::sst_ids::Staging;
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::committing;

/// Rows that were written but not committed. Vacuum keeps the files while this is held.
#[derive(Debug)]
pub struct Staged {
    pub files: Vec<Arc<SstInfo>>,
    /// Number of rows that arrived, including those whose key came again.
    pub rows: u64,
    /// The rows themselves, one per key, if they are few.
    pub few: Option<RecordBatch>,
    ids: Arc<Staging>,
}

impl Staged {
    /// Returns the guard to hold until the files are committed or dropped.
    pub fn ids(&self) -> Arc<Staging> {
        Arc::clone(&self.ids)
    }
}

impl Frontend {
    /// Stages rows of the table's schema.
    pub(super) async fn stage(
        &self,
        planner: &Planner,
        table_id: ObjectId,
        table: &Arc<Table>,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged, SqlError> {
        let ids = self.sst_ids.staging();
        let params = &planner.view.params;
        let target = Target {
            storage: &self.engine.storage,
            data_directory: params.value(params::DATA_DIRECTORY),
            ids: &ids,
            sst_bytes_target: params.sst_bytes_target(),
            inline: planner.view.version.inline_bytes < INLINE_BYTES_TOTAL,
        };
        let staged = write::write_rows(&target, table_id, table, rows, &self.engine.tasks).await;
        let Written { files, arrived, few } = staged.map_err(hummock_error)?;
        Ok(Staged { files, rows: arrived, few, ids: Arc::new(ids) })
    }

    /// Commits, and waits until this session sees the result. In a transaction, only adds the writes to it.
    pub(super) async fn commit(
        &self,
        planner: &Planner,
        tables: Vec<TableWrite>,
        staged: Vec<Arc<Staging>>,
    ) -> Result<(), RpcError> {
        if let Some(pending) = &planner.pending {
            pending.add(tables, staged);
            return Ok(());
        }
        self.commit_at(planner.view.epoch, tables, staged).await
    }

    /// Commits writes that were computed as of `base_epoch`.
    pub(super) async fn commit_at(
        &self,
        base_epoch: Epoch,
        tables: Vec<TableWrite>,
        staged: Vec<Arc<Staging>>,
    ) -> Result<(), RpcError> {
        let write = self.writes.commit(Write { base_epoch, tables }, staged);
        let committed = committing(write).await?;
        self.replica.at_revision(committed.revision).await;
        Ok(())
    }
}

/// Maps an error of the storage layer. An error raised by a query or a check is returned unchanged.
fn hummock_error(error: HummockError) -> SqlError {
    match error {
        HummockError::Rows(source) => match source.downcast::<DataFusionError>() {
            Ok(error) => (*error).into(),
            Err(other) => SqlError::internal(other.to_string()),
        },
        HummockError::Ids(source) => ids_error(source),
        other => tidemark_ledger::meta_error::MetaError::storage(&other).into(),
    }
}

/// Maps an error of reserving file ids.
fn ids_error(source: Box<dyn std::error::Error + Send + Sync>) -> SqlError {
    match source.downcast::<RpcError>() {
        Ok(rpc) => (*rpc).into(),
        Err(other) => SqlError::internal(other.to_string()),
    }
}
