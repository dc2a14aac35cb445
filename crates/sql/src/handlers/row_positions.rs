//! Row positions: a file and a row number inside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;

use tidemark_engine::meta::command::DeadRows;
use tidemark_ledger::id::SstId;
use tidemark_pg::error::SqlError;

/// Number of columns of the row position, which come first in queries for rows to be changed.
pub const POSITION_COLUMNS: usize = 2;

/// Row positions by file.
#[derive(Debug, Default)]
pub struct RowPositions(BTreeMap<SstId, RoaringBitmap>);

impl RowPositions {
    /// Adds a row position; returns whether it is new.
    pub fn insert(&mut self, file: u64, position: i64) -> Result<bool, SqlError> {
        let position = u32::try_from(position)
            .map_err(|_| SqlError::internal(format!("no row is at position {position}")))?;
        Ok(self.0.entry(SstId(file)).or_default().insert(position))
    }

    /// Adds the row positions in the columns `file` and `position` of a batch.
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

    /// Adds the row positions in the first two columns of `batch`; returns the rows whose position is new.
    pub fn insert_fresh(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let files = batch.column(0).as_primitive::<UInt64Type>().values();
        let positions = batch.column(1).as_primitive::<Int64Type>().values();
        let pairs = files.iter().zip(positions);
        let new = pairs.map(|(file, position)| self.insert(*file, *position));
        let new = BooleanArray::from(new.collect::<Result<Vec<bool>, _>>()?);
        Ok(filter_record_batch(batch, &new).map_err(DataFusionError::from)?)
    }

    /// Number of row positions.
    pub fn len(&self) -> u64 {
        self.0.values().map(RoaringBitmap::len).sum()
    }

    /// Whether it contains every position in `rows`.
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

/// Collects a stream of (file, position).
pub async fn collect_positions(
    mut rows: SendableRecordBatchStream,
) -> Result<RowPositions, SqlError> {
    let mut positions = RowPositions::default();
    while let Some(batch) = rows.try_next().await? {
        positions.insert_batch(&batch, 0, 1)?;
    }
    Ok(positions)
}
