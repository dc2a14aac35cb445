//! Finds the old rows of new keys, at a cost that depends on the number of keys, not on the size of the
//! table.
//!
//! A few keys are looked up one by one: key ranges exclude most files; statistics, page index and Bloom
//! filters exclude most pages of the others. Many keys are joined.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::common::{Column, ParamValues, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{JoinType, LogicalPlanBuilder};
use datafusion::prelude::{Expr, ident, lit};
use roaring::RoaringBitmap;
use sha2::{Digest as _, Sha256};

use super::row_positions::collect_positions;
use crate::planner::Planner;
use tidemark_engine::meta::command::{DeadRows, WrittenKeys};
use tidemark_engine::scan::{DataFiles, FILE_COLUMN, POSITION_COLUMN, SoughtKeys};
use tidemark_ledger::catalog::{Relation, Table};
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::params;
use tidemark_ledger::sst::{Keys, SstInfo};
use tidemark_ledger::version::LiveFile;
use tidemark_pg::error::SqlError;

/// The keys of staged rows if they are few enough to be looked up one by one.
pub struct FewKeys {
    rows: RecordBatch,
    /// Encoded keys, sorted.
    keys: Vec<Bytes>,
}

/// Returns the keys of staged files in the form that the meta role checks.
pub fn written_keys(table: &Table, few: Option<&FewKeys>) -> WrittenKeys {
    // The hash must be the same in every build, as other processes compare with it.
    let hash = |key: &Bytes| {
        let digest = Sha256::digest(key);
        u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
    };
    match few {
        _ if table.primary_key.is_empty() => WrittenKeys::None,
        None => WrittenKeys::Any,
        Some(few) => WrittenKeys::of(few.keys.iter().map(hash).collect()),
    }
}

/// Returns the row positions of rows whose key is among the keys of the staged files.
pub async fn overwritten(
    planner: &Planner,
    relation: &Relation,
    table: &Table,
    files: &[Arc<SstInfo>],
    few: Option<&FewKeys>,
) -> Result<Vec<DeadRows>, SqlError> {
    if let Some(few) = few {
        return look_up(planner, relation.id, table, few).await;
    }
    let live = planner.files_of(relation.id);
    if live.is_empty() {
        return Ok(vec![]);
    }
    join(planner, table, live, files).await
}

impl FewKeys {
    /// The distinct keys of the rows. `None` if the rows are not in memory or the table has no key.
    pub fn of(table: &Table, rows: Option<&RecordBatch>) -> Option<Self> {
        let rows = rows.filter(|_| !table.primary_key.is_empty())?;
        let keys = Keys::of(table, rows)?;
        let keys = (0..rows.num_rows()).map(|row| keys.row(row).map(Bytes::from));
        let mut keys = keys.collect::<Option<Vec<Bytes>>>()?;
        keys.sort_unstable();
        Some(Self { rows: rows.clone(), keys })
    }
}

async fn look_up(
    planner: &Planner,
    table_id: ObjectId,
    table: &Table,
    few: &FewKeys,
) -> Result<Vec<DeadRows>, SqlError> {
    let candidates = planner.files_with_keys(table_id, &few.keys).into_iter();
    let (inline, objects): (Vec<_>, Vec<_>) =
        candidates.partition(|file| file.sst.inline.is_some());
    let mut found = vec![];
    let mut others = objects;
    for file in inline {
        match inline_positions(table, &file, few)? {
            Some(dead) => found.extend(dead),
            None => others.push(file),
        }
    }
    let others = may_hold_keys(planner, table, others, few).await?;
    if !others.is_empty() {
        found.extend(filtered(planner, table, others, few).await?);
    }
    Ok(found)
}

/// Returns the files of a table that may contain one of the keys.
pub async fn files_holding(
    planner: &Planner,
    table_id: ObjectId,
    table: &Table,
    few: &FewKeys,
) -> Result<Vec<LiveFile>, SqlError> {
    let files = planner.files_with_keys(table_id, &few.keys);
    may_hold_keys(planner, table, files, few).await
}

/// Keeps the files whose Bloom filters do not exclude all keys.
async fn may_hold_keys(
    planner: &Planner,
    table: &Table,
    files: Vec<LiveFile>,
    few: &FewKeys,
) -> Result<Vec<LiveFile>, SqlError> {
    let columns = table.columns.iter().zip(few.rows.columns());
    let key = columns.filter(|(column, _)| table.primary_key.contains(&column.id));
    let sought = SoughtKeys::new(key.map(|(column, values)| (column.id, values)));
    let engine = &planner.engine;
    let directory = planner.view.params.value(params::DATA_DIRECTORY);
    let blocks = Arc::clone(&engine.blocks);
    let data_files = DataFiles::new(blocks, &engine.tasks.runtime_env(), directory);
    Ok(engine.key_filters.holding(&data_files, files, &sought).await?)
}

/// Finds the rows with these keys in an inline file. `None` if the file is not inline or its keys cannot be
/// decoded.
fn inline_positions(
    table: &Table,
    file: &LiveFile,
    few: &FewKeys,
) -> Result<Option<Option<DeadRows>>, SqlError> {
    let Some(rows) = file.inline_rows() else { return Ok(None) };
    let rows = rows.map_err(datafusion::error::DataFusionError::from)?;
    let columns = table.key_columns().map(|key| {
        let index = file.sst.columns.iter().position(|column| column.id == key.id)?;
        cast(rows.column(index), &key.column_type.arrow_type()).ok()
    });
    let Some(columns) = columns.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let Some(keys) = Keys::of_columns(&columns) else { return Ok(None) };
    let is_wanted = |key: Vec<u8>| few.keys.binary_search_by(|k| k.as_ref().cmp(&key)).is_ok();
    let is_alive = |row: u32| file.dead.as_ref().is_none_or(|dead| !dead.contains(row));
    let rows = u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
    let positions: RoaringBitmap = (0..rows)
        .filter(|row| is_alive(*row))
        .filter(|row| keys.row(*row as usize).is_some_and(is_wanted))
        .collect();
    let dead = DeadRows { sst_id: file.sst.id, positions: Arc::new(positions) };
    Ok(Some((!dead.positions.is_empty()).then_some(dead)))
}

/// Finds the row positions of a few keys with a filter that prunes.
async fn filtered(
    planner: &Planner,
    table: &Table,
    files: Vec<LiveFile>,
    few: &FewKeys,
) -> Result<Vec<DeadRows>, SqlError> {
    let value = |index: usize, row: usize| ScalarValue::try_from_array(few.rows.column(index), row);
    let indices = table
        .primary_key
        .iter()
        .filter_map(|id| table.columns.iter().position(|column| column.id == *id));
    let indices: Vec<usize> = indices.collect();
    let rows = 0..few.rows.num_rows();
    let predicate = match indices.as_slice() {
        [index] => {
            let values = rows.map(|row| value(*index, row).map(lit));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            Some(ident(&table.columns[*index].name).in_list(values, false))
        }
        indices => {
            let equal = |row: usize| -> Result<Option<Expr>, SqlError> {
                let columns = indices.iter().map(|index| {
                    let column = ident(&table.columns[*index].name);
                    Ok(column.eq(lit(value(*index, row)?)))
                });
                Ok(conjunction(columns.collect::<Result<Vec<_>, SqlError>>()?))
            };
            let each = rows.map(equal).collect::<Result<Vec<_>, _>>()?;
            disjunction(each.into_iter().flatten())
        }
    };
    let predicate = predicate.ok_or_else(|| SqlError::internal("a key without columns"))?;
    let old = provider_as_source(Arc::new(planner.scan_files(table, files).with_row_positions()));
    let plan = LogicalPlanBuilder::scan("old", old, None)?
        .filter(predicate)?
        .project([ident(FILE_COLUMN), ident(POSITION_COLUMN)])?
        .build()?;
    let rows = planner.execute(planner.state(), plan, ParamValues::List(vec![])).await?;
    Ok(collect_positions(rows).await?.into_dead_rows())
}

/// Finds the row positions of the keys of the staged files with a join.
async fn join(
    planner: &Planner,
    table: &Table,
    live: Vec<LiveFile>,
    files: &[Arc<SstInfo>],
) -> Result<Vec<DeadRows>, SqlError> {
    let staged: Vec<LiveFile> = files.iter().map(LiveFile::staged).collect();
    let keys: Vec<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    let of_keys = || keys.iter().map(|key| ident(*key));
    let columns = |side: &str| -> Vec<Column> {
        keys.iter().map(|key| Column::new(Some(side), *key)).collect()
    };
    let old = provider_as_source(Arc::new(planner.scan_files(table, live).with_row_positions()));
    let old = LogicalPlanBuilder::scan("old", old, None)?
        .project(of_keys().chain([ident(FILE_COLUMN), ident(POSITION_COLUMN)]))?;
    let new = provider_as_source(Arc::new(planner.scan_files(table, staged)));
    let new = LogicalPlanBuilder::scan("new", new, None)?.project(of_keys())?.build()?;
    let plan = old
        .join(new, JoinType::LeftSemi, (columns("old"), columns("new")), None)?
        .project([ident(FILE_COLUMN), ident(POSITION_COLUMN)])?
        .build()?;
    let rows = planner.execute(planner.state(), plan, ParamValues::List(vec![])).await?;
    Ok(collect_positions(rows).await?.into_dead_rows())
}
