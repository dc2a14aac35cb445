//! Planner statistics of a data file: the row count, and minimum, maximum and nulls of its columns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::ParquetMetaData;

use super::data_file::DataFile;
use tidemark_ledger::catalog::{ColumnType, Table};
use tidemark_ledger::id::{ColumnId, SstId};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::sst::schema::{file_schema, table_schema};

/// Number of files whose statistics are kept; the cache is cleared when it is full.
const FILES_MAX: usize = 20_000;

/// The ids and types of a table's columns, as which a file is read.
pub type SeenAs = Arc<[(ColumnId, ColumnType)]>;

type Key = (SstId, SeenAs);

pub fn seen_as(table: &Table) -> SeenAs {
    table.columns.iter().map(|column| (column.id, column.column_type.clone())).collect()
}

/// Statistics of files, read once from their footers. Files never change, so no entry goes stale.
#[derive(Debug, Default)]
pub struct StatisticsCache(Mutex<HashMap<Key, Arc<Statistics>>>);

impl StatisticsCache {
    fn lookup(&self, key: &Key) -> Option<Arc<Statistics>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn insert(&self, key: Key, statistics: Arc<Statistics>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FILES_MAX {
            known.clear();
        }
        known.insert(key, statistics);
    }
}

/// Statistics of a file without dead rows, in the order of the table's columns.
pub async fn of_file(
    cache: &StatisticsCache,
    file: &DataFile,
    table: &Table,
    seen_as: &SeenAs,
) -> Result<Arc<Statistics>> {
    let sst = &*file.sst;
    let key = (sst.id, Arc::clone(seen_as));
    if let Some(known) = cache.lookup(&key) {
        return Ok(known);
    }
    let statistics = if same_names(sst, table) {
        let metadata = file.footer(true).await?;
        if same_types(&metadata, table)? {
            DFParquetMetadata::statistics_from_parquet_metadata(&metadata, &table_schema(table))?
        } else {
            row_count_only(sst, table)
        }
    } else {
        row_count_only(sst, table)
    };
    let statistics = Arc::new(statistics);
    cache.insert(key, Arc::clone(&statistics));
    Ok(statistics)
}

/// Whether the file has every column of the table under its current name. Footer statistics are found
/// by name, so they can be trusted only then.
fn same_names(sst: &SstInfo, table: &Table) -> bool {
    table.columns.iter().all(|column| {
        sst.columns.iter().any(|stored| stored.id == column.id && stored.name == column.name)
    })
}

/// Whether the file has every column with its current type. Footer statistics are of the old type.
fn same_types(metadata: &ParquetMetaData, table: &Table) -> Result<bool> {
    let file = metadata.file_metadata();
    let stored = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let now = file_schema(table);
    let same = |field: &FieldRef| {
        let found = stored.fields().iter().find(|f| f.name() == field.name());
        found.is_some_and(|found| found.data_type() == field.data_type())
    };
    Ok(now.fields().iter().all(same))
}

fn row_count_only(sst: &SstInfo, table: &Table) -> Statistics {
    let mut statistics = Statistics::new_unknown(&table_schema(table));
    if let Ok(rows) = usize::try_from(sst.rows) {
        statistics.num_rows = Precision::Exact(rows);
    }
    statistics
}
