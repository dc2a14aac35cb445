//! Statements that the meta role executes: `BACKUP`, `DELETE META SNAPSHOTS`, `FLUSH`, `ALTER SYSTEM`.

use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{Outcome, Reply, schema_of};
use crate::Frontend;
use crate::session::Session;
use crate::system_catalog::MetaAnswers;
use tidemark_engine::meta::command::BackupOptions;
use tidemark_engine::meta::maintenance::SnapshotUsage;
use tidemark_engine::meta::workers::{PinnedVersion, WorkerNode};
use tidemark_engine::rpc::MetaClient;
use tidemark_ledger::backup::ReadManifest;
use tidemark_ledger::id::SnapshotId;
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::committing;

impl Frontend {
    /// `BACKUP`: creates a meta snapshot, and returns its id as one row.
    pub(super) async fn backup(
        &self,
        session: &Session,
        options: BackupOptions,
    ) -> Result<Reply, SqlError> {
        session.check_alone("BACKUP")?;
        let entry = self.meta.backup(options).await?;
        let id = i64::try_from(entry.id.0).unwrap_or(i64::MAX);
        let batch =
            RecordBatch::try_new(backup_schema(), vec![Arc::new(Int64Array::from(vec![id]))]);
        let batch = batch.map_err(datafusion::error::DataFusionError::from)?;
        Ok(Outcome::batch(batch, "BACKUP")?.into())
    }

    pub(super) async fn delete_snapshots(
        &self,
        session: &Session,
        ids: &[u64],
    ) -> Result<Reply, SqlError> {
        session.check_alone("DELETE META SNAPSHOTS")?;
        let ids = ids.iter().copied().map(SnapshotId).collect();
        committing(self.meta.delete_snapshots(ids)).await?;
        Ok(Outcome::done("DELETE_META_SNAPSHOTS").into())
    }

    /// `FLUSH`: waits until this session sees everything committed so far.
    pub(super) async fn flush(&self, session: &Session) -> Result<Reply, SqlError> {
        session.check_alone("FLUSH")?;
        let committed = self.meta.flush().await?;
        self.replica.at_revision(committed.revision).await;
        Ok(Outcome::done("FLUSH").into())
    }

    pub(super) async fn alter_system(
        &self,
        session: &Session,
        name: &str,
        value: Option<String>,
    ) -> Result<Reply, SqlError> {
        session.check_alone("ALTER SYSTEM")?;
        let committed = committing(self.meta.alter_system(name, value)).await?;
        self.replica.at_revision(committed.revision).await;
        Ok(Reply { outcome: Outcome::done("ALTER_SYSTEM"), notices: committed.notices })
    }
}

/// Schema of the one row that `BACKUP` returns.
pub fn backup_schema() -> SchemaRef {
    schema_of(vec![Field::new("snapshot_id", DataType::Int64, false)])
}

impl MetaAnswers for MetaClient {
    fn snapshots(&self) -> BoxFuture<'_, Result<ReadManifest, SqlError>> {
        async { Ok(self.list_snapshots().await?) }.boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<Vec<SnapshotUsage>, SqlError>> {
        async { Ok(self.snapshot_usage().await?) }.boxed()
    }

    fn worker_nodes(&self) -> BoxFuture<'_, Result<Vec<WorkerNode>, SqlError>> {
        async { Ok(MetaClient::worker_nodes(self).await?) }.boxed()
    }

    fn pinned_versions(&self) -> BoxFuture<'_, Result<Vec<PinnedVersion>, SqlError>> {
        async { Ok(MetaClient::pinned_versions(self).await?) }.boxed()
    }
}
