//! Committing staged rows: old rows of the same keys die, conflicts are retried.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;

use super::keys::{self, FewKeys};
use crate::catalog::{Relation, Table};
use crate::epoch::Epoch;
use crate::frontend::Frontend;
use crate::frontend::error::SqlError;
use crate::frontend::pgwire::sqlstate::SqlState;
use crate::frontend::planner::Planner;
use crate::frontend::query_runtime::committing;
use crate::frontend::read_view::ReadView;
use crate::hummock::sst::INLINE_BYTES_TOTAL;
use crate::hummock::sst::SstInfo;
use crate::hummock::write::{self, Target, Written};
use crate::hummock::{HummockError, Staging};
use crate::id::{ObjectId, SstId};
use crate::meta::command::{DeadRows, TableWrite, Write, WrittenKeys};
use crate::meta::error::ErrorKind;
use crate::params;
use crate::rpc::RpcError;

/// The places come first in the rows of a query for rows to be changed.
pub const PLACE_COLUMNS: usize = 2;

/// How often a statement that lost a race is tried again.
const ATTEMPTS_MAX: usize = 16;

/// Writers of one table that read before they write take turns here, so that they do not make each
/// other start over: those that look up keys always, others once they lost a race.
#[derive(Debug, Default)]
pub struct KeyedWrites(Mutex<HashMap<ObjectId, Arc<tokio::sync::Mutex<()>>>>);

impl KeyedWrites {
    pub(super) fn turn(&self, table: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn nobody holds or waits for is known only here.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(table).or_default())
    }
}

/// Places of rows, by file.
#[derive(Debug, Default)]
pub struct Places(BTreeMap<SstId, RoaringBitmap>);

impl Places {
    /// Adds a place; whether it is new.
    pub fn insert(&mut self, file: u64, position: i64) -> Result<bool, SqlError> {
        let position = u32::try_from(position)
            .map_err(|_| SqlError::internal(format!("no row is at position {position}")))?;
        Ok(self.0.entry(SstId(file)).or_default().insert(position))
    }

    /// Adds the places in the columns at `file` and `position` of a batch.
    pub fn insert_batch(
        &mut self,
        batch: &RecordBatch,
        file: usize,
        position: usize,
    ) -> Result<(), SqlError> {
        let files = batch.column(file).as_primitive::<UInt64Type>().values();
        let positions = batch.column(position).as_primitive::<Int64Type>().values();
        for (file, position) in files.iter().zip(positions) {
            self.insert(*file, *position)?;
        }
        Ok(())
    }

    /// The rows of `batch`, which begin with their place, whose place is new.
    pub fn insert_fresh(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let files = batch.column(0).as_primitive::<UInt64Type>().values();
        let positions = batch.column(1).as_primitive::<Int64Type>().values();
        let pairs = files.iter().zip(positions);
        let new = pairs.map(|(file, position)| self.insert(*file, *position));
        let new = BooleanArray::from(new.collect::<Result<Vec<bool>, _>>()?);
        Ok(filter_record_batch(batch, &new).map_err(DataFusionError::from)?)
    }

    pub fn len(&self) -> u64 {
        self.0.values().map(RoaringBitmap::len).sum()
    }

    /// Whether every one of `rows` is among these places.
    pub fn contain_all(&self, rows: &[DeadRows]) -> bool {
        rows.iter().all(|dead| {
            self.0.get(&dead.sst_id).is_some_and(|known| dead.positions.is_subset(known))
        })
    }

    pub fn into_dead_rows(self) -> Vec<DeadRows> {
        let rows = self.0.into_iter();
        rows.map(|(sst_id, rows)| DeadRows { sst_id, positions: Arc::new(rows) }).collect()
    }
}

/// Rows written and not committed. Vacuum leaves the files alone while this is held.
#[derive(Debug)]
pub struct Staged {
    pub files: Vec<Arc<SstInfo>>,
    /// How many rows came, those with a key that came again included.
    pub rows: u64,
    /// The rows themselves, each key once, where they are few.
    pub few: Option<RecordBatch>,
    ids: Arc<Staging>,
}

impl Staged {
    /// What is held until the files are committed or given up.
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

    /// Commits staged rows: rows of the table that have one of their keys die in the same epoch.
    pub(super) async fn commit_rows(
        &self,
        planner: &Planner,
        relation: &Relation,
        staged: &Staged,
    ) -> Result<(), SqlError> {
        let files = &staged.files;
        if files.is_empty() {
            return Ok(());
        }
        let Some(table) = relation.as_table() else {
            return Err(SqlError::internal("a view takes no rows"));
        };
        let keyed = !table.primary_key.is_empty();
        let few = FewKeys::of(table, staged.few.as_ref());
        let keys = keys::written_keys(table, few.as_ref());
        let turn = self.keyed_writes.turn(relation.id);
        // Who writes a few keys meets nobody most of the time, and then shares a commit with others.
        let alone = keys == WrittenKeys::Any && planner.pending.is_none();
        let mut held = if alone { Some(turn.lock().await) } else { None };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let planner = self.planner_now(planner);
            let mut write = TableWrite::to(relation);
            write.keys = keys.clone();
            write.born = files.clone();
            if keyed {
                write.dead_rows =
                    keys::overwritten(&planner, relation, table, files, few.as_ref()).await?;
            }
            match self.commit(&planner, vec![write], vec![staged.ids()]).await {
                Err(RpcError::Refused(refused))
                    if refused.kind == ErrorKind::Conflict
                        && attempts < ATTEMPTS_MAX
                        && self.still_defined(relation) =>
                {
                    self.catch_up().await?;
                    if held.is_none() && keyed {
                        held = Some(turn.lock().await);
                    }
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Commits, and waits until this session sees it. In a transaction, its own statements see it, and
    /// its end commits it.
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

    /// Commits what was decided as of `base_epoch`.
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

    /// The same planner over the newest view; in a transaction, over that of the transaction.
    pub(super) fn planner_now(&self, planner: &Planner) -> Planner {
        match planner.pending {
            Some(_) => planner.clone(),
            None => Planner { view: self.latest_view(), ..planner.clone() },
        }
    }

    /// Decides what comes after an attempt at a statement that lost a race: `None` is another one.
    pub(super) async fn settle<T>(
        &self,
        attempt: usize,
        outcome: Result<T, SqlError>,
    ) -> Option<Result<T, SqlError>> {
        match outcome {
            Err(error)
                if error.sqlstate == SqlState::SERIALIZATION_FAILURE && attempt < ATTEMPTS_MAX =>
            {
                self.catch_up().await.err().map(Err)
            }
            outcome => Some(outcome),
        }
    }

    /// Waits until the replica has everything committed so far: what won the race is in it.
    async fn catch_up(&self) -> Result<(), SqlError> {
        let committed = self.meta.flush().await?;
        self.replica.at_revision(committed.revision).await;
        Ok(())
    }

    fn still_defined(&self, relation: &Relation) -> bool {
        let latest = ReadView::latest(&self.replica.state());
        let now = latest.catalog.relation_by_id(relation.id);
        now.is_some_and(|now| now.lifetime.born == relation.lifetime.born)
    }
}

/// The places in a stream of (file, position).
pub async fn collect_places(mut rows: SendableRecordBatchStream) -> Result<Places, SqlError> {
    let mut places = Places::default();
    while let Some(batch) = rows.try_next().await? {
        places.insert_batch(&batch, 0, 1)?;
    }
    Ok(places)
}

/// A failure below, as clients see it. What a query or a check raised passes through.
fn hummock_error(error: HummockError) -> SqlError {
    match error {
        HummockError::Rows(error) => error.into(),
        HummockError::Ids(source) => ids_error(source),
        other => crate::meta::error::MetaError::storage(&other).into(),
    }
}

/// Why no file ids could be had.
fn ids_error(source: Box<dyn std::error::Error + Send + Sync>) -> SqlError {
    match source.downcast::<RpcError>() {
        Ok(rpc) => (*rpc).into(),
        Err(other) => SqlError::internal(other.to_string()),
    }
}

/// What the meta role refused, as clients see it.
impl From<crate::meta::error::MetaError> for SqlError {
    fn from(error: crate::meta::error::MetaError) -> Self {
        let mut sql = Self::new(SqlState::of_meta(error.kind), error.message);
        sql.detail = error.detail;
        sql.hint = error.hint;
        sql
    }
}
