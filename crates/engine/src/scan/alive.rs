//! Filters out the dead rows of files.
//!
//! Measured (`docs/architecture.md`): dead row groups and long dead runs are cheapest to skip in the
//! reader's access plan, scattered dead rows in a filter on the row's position, which costs next to
//! nothing where nothing is dead.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray as _, BooleanArray};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer};
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_err};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::logical_expr::ColumnarValue;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_expr::PhysicalExpr;
use roaring::RoaringBitmap;

use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::version::LiveFile;

/// Minimum length of a run of dead rows that the reader skips. About a page.
const RUN_ROWS: u32 = 8192;

/// What the reader skips: dead row groups, and dead runs of whole blocks of [`RUN_ROWS`].
pub fn access_plan(sst: &SstInfo, dead: &RoaringBitmap) -> ParquetAccessPlan {
    let mut start = 0;
    let groups = sst.row_group_rows.iter().map(|rows| {
        let access = row_group_access(dead, start, *rows);
        start += rows;
        access
    });
    ParquetAccessPlan::new(groups.collect())
}

fn row_group_access(dead: &RoaringBitmap, start: u32, rows: u32) -> RowGroupAccess {
    let end = start + rows;
    if dead.range_cardinality(start..end) == u64::from(rows) {
        return RowGroupAccess::Skip;
    }
    let mut selectors: Vec<RowSelector> = vec![];
    let mut at = start;
    while at < end {
        let block_end = end.min(at.saturating_add(RUN_ROWS));
        let length = block_end - at;
        let skip = dead.range_cardinality(at..block_end) == u64::from(length);
        match selectors.last_mut() {
            Some(last) if last.skip == skip => last.row_count += length as usize,
            _ => selectors.push(RowSelector { row_count: length as usize, skip }),
        }
        at = block_end;
    }
    if selectors.iter().any(|selector| selector.skip) {
        RowGroupAccess::Selection(RowSelection::from(selectors))
    } else {
        RowGroupAccess::Scan
    }
}

/// A predicate that is true if the row at (file, position) is alive.
#[derive(Debug, Clone)]
pub struct Alive {
    file: Arc<dyn PhysicalExpr>,
    position: Arc<dyn PhysicalExpr>,
    /// The dead rows of each file.
    dead: Arc<HashMap<u64, Arc<RoaringBitmap>>>,
}

impl Alive {
    /// `file` yields the id of the file (u64), `position` the position of the row in it (i64).
    pub fn new(
        file: Arc<dyn PhysicalExpr>,
        position: Arc<dyn PhysicalExpr>,
        files: &[LiveFile],
    ) -> Self {
        let dead =
            files.iter().filter_map(|file| Some((file.sst.id.0, Arc::clone(file.dead.as_ref()?))));
        Self { file, position, dead: Arc::new(dead.collect()) }
    }

    fn dead_in(&self, file: u64) -> Result<&RoaringBitmap> {
        match self.dead.get(&file) {
            Some(dead) => Ok(dead),
            None => exec_err!("file {file} is not part of this scan"),
        }
    }
}

/// Which of the `rows` rows from `first` on are alive. The cost depends on these rows, not on the file.
fn alive_from(first: u32, rows: usize, dead: &RoaringBitmap) -> BooleanBuffer {
    let end = u64::from(first) + rows as u64;
    let mut words = vec![u64::MAX; rows.div_ceil(64)];
    for position in dead.range(first..).take_while(|position| u64::from(*position) < end) {
        let at = (position - first) as usize;
        words[at / 64] &= !(1 << (at % 64));
    }
    BooleanBuffer::new(Buffer::from_vec(words), 0, rows)
}

impl fmt::Display for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alive({}, {})", self.file, self.position)
    }
}

impl PartialEq for Alive {
    fn eq(&self, other: &Self) -> bool {
        self.file.eq(&other.file)
            && self.position.eq(&other.position)
            && Arc::ptr_eq(&self.dead, &other.dead)
    }
}

impl Eq for Alive {}

impl Hash for Alive {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file.hash(state);
        self.position.hash(state);
    }
}

impl PhysicalExpr for Alive {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let files = self.file.evaluate(batch)?.into_array(batch.num_rows())?;
        let positions = self.position.evaluate(batch)?.into_array(batch.num_rows())?;
        let files = files.as_primitive::<UInt64Type>().values();
        let positions = positions.as_primitive::<Int64Type>().values();
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Ok(ColumnarValue::Array(Arc::new(BooleanArray::new_null(0))));
        };
        let row_number = |position: i64| u32::try_from(position).unwrap_or(u32::MAX);
        let one_file = files.iter().all(|file| *file == files[0]);
        let run = last - first == i64::try_from(positions.len() - 1).unwrap_or(-1)
            && positions.is_sorted();
        let mask = if one_file && run {
            alive_from(row_number(*first), positions.len(), self.dead_in(files[0])?)
        } else {
            let rows = files.iter().zip(positions);
            rows.map(|(file, position)| Ok(!self.dead_in(*file)?.contains(row_number(*position))))
                .collect::<Result<Vec<bool>>>()?
                .into()
        };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(mask, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.file, &self.position]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [file, position] = children.as_slice() else {
            return exec_err!("alive takes two arguments");
        };
        Ok(Arc::new(Self {
            file: Arc::clone(file),
            position: Arc::clone(position),
            dead: Arc::clone(&self.dead),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_alive_where_none_is_dead() {
        let dead: RoaringBitmap = [0, 63, 64, 65, 200, 70_000].into_iter().collect();
        for (first, rows) in [(0, 0), (0, 1), (0, 64), (1, 64), (60, 200), (65_000, 8192), (199, 1)]
        {
            let bits = alive_from(first, rows, &dead);
            let expected = (first..).take(rows).map(|row| !dead.contains(row));
            assert_eq!(bits, expected.collect(), "{rows} from {first}");
        }
    }

    #[test]
    fn dead_groups_and_long_dead_runs_are_not_read() {
        let dead: RoaringBitmap = (0..10_000).chain(20_000..20_100).collect();
        let group = |start, rows| row_group_access(&dead, start, rows);
        assert_eq!(group(0, 10_000), RowGroupAccess::Skip);
        assert_eq!(group(10_000, 10_000), RowGroupAccess::Scan);
        assert_eq!(group(20_000, 1_000), RowGroupAccess::Scan);
        let RowGroupAccess::Selection(selection) = group(0, 20_000) else { panic!() };
        assert_eq!(selection.row_count(), 20_000 - RUN_ROWS as usize);
    }
}
