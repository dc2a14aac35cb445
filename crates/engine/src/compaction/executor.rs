//! Runs a task: reads the live rows of the inputs in key order and writes them to new files.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{AsArray as _, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef, UInt64Type};
use datafusion::catalog::TableProvider as _;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Moved, Task};
use crate::scan::{SstTable, StatisticsCache};
use crate::write::{self, rows_error};
use tidemark_ledger::catalog::Table;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::{ObjectId, SstId};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_ledger::sst::{SstInfo, Target};
use tidemark_ledger::storage::{BlockStore, Storage};
use tidemark_ledger::version::{FileEntry, LiveFile, Version};

const STATE_STORE_URL: &str = "tidemark://compaction";

/// Runs compactions within a memory limit.
#[derive(Debug)]
pub struct Executor {
    state: SessionState,
    store_url: ObjectStoreUrl,
    blocks: Arc<BlockStore>,
    statistics: Arc<StatisticsCache>,
}

/// The input files of a task, as of one version.
#[derive(Debug)]
pub struct Inputs {
    pub table_id: ObjectId,
    /// In order of id.
    pub files: Vec<Arc<FileEntry>>,
    /// The newest epoch of that version; rows alive at it are copied.
    pub base: Epoch,
}

impl Inputs {
    /// Returns `None` if one of the files is gone.
    pub fn of(task: &Task, version: &Version) -> Option<Self> {
        let file = |sst: &SstId| version.open_file(task.table_id, *sst).cloned();
        let files = task.inputs.iter().map(file).collect::<Option<_>>()?;
        Some(Self { table_id: task.table_id, files, base: version.max_committed_epoch })
    }
}

/// The result of a compaction: files that are not visible yet.
#[derive(Debug)]
pub struct Compacted {
    pub born: Vec<Arc<SstInfo>>,
    pub moved: Arc<Moved>,
}

impl Executor {
    /// Sorts that need more than `memory_bytes` spill to disk.
    pub fn new(storage: &Storage, memory_bytes: usize) -> Result<Self, HummockError> {
        let store_url = ObjectStoreUrl::parse(STATE_STORE_URL).map_err(rows_error)?;
        let pool = Arc::new(FairSpillPool::new(memory_bytes));
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(pool).build().map_err(rows_error)?;
        runtime.register_object_store(store_url.as_ref(), storage.object_store());
        let blocks = Arc::new(BlockStore::without_cache(storage.object_store()));
        // One partition, so that the rows of a file are read in the order of the file.
        let config = SessionConfig::new().with_target_partitions(1).with_collect_statistics(false);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            .build();
        Ok(Self { state, store_url, blocks, statistics: Arc::default() })
    }

    /// Copies the live rows of the inputs.
    pub async fn run(
        &self,
        inputs: &Inputs,
        table: &Arc<Table>,
        target: &Target<'_>,
    ) -> Result<Compacted, HummockError> {
        let moved = Moved::new(inputs.files.iter().map(|file| &file.sst));
        let moved = Arc::new(Mutex::new(moved));
        let live = inputs.files.iter().map(|file| file.live_at(inputs.base));
        let live: Vec<LiveFile> = live.filter(|file| file.live_rows() > 0).collect();
        let rows = self.rows(table, live, target.data_directory).await?;
        let rows = followed(rows, table_schema(table), Arc::clone(&moved));
        let born = write::write_sorted(target, inputs.table_id, table, rows).await?;
        let mut moved = std::mem::take(&mut *moved.lock().unwrap_or_else(PoisonError::into_inner));
        moved.close(&born);
        Ok(Compacted { born, moved: Arc::new(moved) })
    }

    /// Reads the rows of `files` with their row positions, in the order in which they are to be written.
    async fn rows(
        &self,
        table: &Arc<Table>,
        files: Vec<LiveFile>,
        data_directory: &str,
    ) -> Result<SendableRecordBatchStream, HummockError> {
        let (inline, objects): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.sst.inline.is_some());
        let mut parts = vec![];
        for file in objects {
            parts.push(self.scan(table, vec![file], data_directory).await?);
        }
        let keyed = !table.primary_key.is_empty();
        if !inline.is_empty() {
            let scan = self.scan(table, inline, data_directory).await?;
            let order = keyed.then(|| write::key_order(table, &scan.schema())).transpose()?;
            parts.push(match order {
                Some(order) => Arc::new(SortExec::new(order, scan)),
                None => scan,
            });
        }
        let context = self.state.task_ctx();
        if parts.len() < 2 {
            let Some(only) = parts.pop() else {
                let nothing = self.scan(table, vec![], data_directory).await?;
                return execute_stream(nothing, context).map_err(rows_error);
            };
            return execute_stream(only, context).map_err(rows_error);
        }
        if keyed {
            let order = write::key_order(table, &parts[0].schema())?;
            let merged =
                SortPreservingMergeExec::new(order, UnionExec::try_new(parts).map_err(rows_error)?);
            return merged.execute(0, context).map_err(rows_error);
        }
        let schema = parts[0].schema();
        let parts = stream::iter(parts).map(move |part| execute_stream(part, Arc::clone(&context)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, parts.try_flatten())))
    }

    async fn scan(
        &self,
        table: &Arc<Table>,
        files: Vec<LiveFile>,
        data_directory: &str,
    ) -> Result<Arc<dyn ExecutionPlan>, HummockError> {
        let (url, statistics) = (self.store_url.clone(), Arc::clone(&self.statistics));
        let (table, blocks) = (Arc::clone(table), &self.blocks);
        let scan = SstTable::new(table, files, url, blocks, data_directory, statistics);
        scan.with_row_positions().scan(&self.state, None, &[], None).await.map_err(rows_error)
    }
}

/// Removes the row positions from the rows and records them in `moved`.
fn followed(
    rows: SendableRecordBatchStream,
    schema: SchemaRef,
    moved: Arc<Mutex<Moved>>,
) -> SendableRecordBatchStream {
    let width = schema.fields().len();
    let to = Arc::clone(&schema);
    let rows = rows.and_then(move |batch| {
        let rows = follow(&batch, width, &to, &moved);
        async move { rows }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

fn follow(
    batch: &RecordBatch,
    width: usize,
    schema: &SchemaRef,
    moved: &Mutex<Moved>,
) -> Result<RecordBatch> {
    let files = batch.column(width).as_primitive::<UInt64Type>().values();
    let positions = batch.column(width + 1).as_primitive::<Int64Type>().values();
    let mut moved = moved.lock().unwrap_or_else(PoisonError::into_inner);
    for (file, position) in files.iter().zip(positions) {
        moved
            .push(SstId(*file), *position)
            .ok_or_else(|| exec_datafusion_err!("no row is at {position} of file {file}"))?;
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), batch.columns()[..width].to_vec())?)
}
