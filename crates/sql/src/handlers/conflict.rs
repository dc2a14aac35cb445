//! `INSERT … ON CONFLICT`: inserts rows with new keys; rows whose key exists are skipped or update the
//! existing row.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch,
};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::catalog::MemTable;
use datafusion::common::{Column, ParamValues};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{JoinType, LogicalPlanBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::ident;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use sqlparser::ast::{BinaryOperator, Expr, Ident};

use super::dml::{Changed, Changes, RowChange};
use super::insert;
use super::keys::{self, FewKeys};
use super::returning::{Recorder, Returning};
use super::target::{InsertTarget, Target};
use crate::Frontend;
use crate::parser::{self, Assignment, Insert, OnConflict, Update};
use crate::planner::{Locals, Parameters, Planner};
use crate::read_view::ReadView;
use crate::trees::{self, binary, column, has_query, nested};
use tidemark_engine::meta::command::TableWrite;
use tidemark_engine::write::normalize_float_keys;
use tidemark_ledger::catalog::Table;
use tidemark_ledger::sst::schema::table_schema;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// The name `DO UPDATE` uses for the row that could not be inserted.
const EXCLUDED: &str = "excluded";
const ORDINAL_COLUMN: &str = "\u{1}ordinal";
/// Up to this number of rows, keys are looked up one by one.
const FEW_ROWS: usize = 64;

impl Frontend {
    /// Executes the statement; the number of rows is that of rows inserted or updated.
    pub(super) async fn insert_on_conflict(
        &self,
        planner: &Planner,
        insert: &Insert,
        target: InsertTarget,
        on: &OnConflict,
        parameters: &Parameters,
        returning: Option<Returning>,
    ) -> Result<Changed, SqlError> {
        let update = update_of(insert, &target.into, on)?;
        let has_queries = has_query(&update) || has_query(&insert.returning);
        let table = target.into.relation.id;
        let mut change =
            Upsert { insert, target, update, parameters, returning, has_queries, rows: None };
        self.change_rows(planner, table, &mut change).await
    }
}

/// The rows to insert, and the `UPDATE` of existing rows with their keys.
struct Upsert<'a> {
    insert: &'a Insert,
    target: InsertTarget,
    /// `None` for `DO NOTHING`.
    update: Option<Update>,
    parameters: &'a Parameters,
    returning: Option<Returning>,
    /// Whether the update or `RETURNING` has subqueries. What they read must be of one view with the rows to
    /// insert; a row in conflict may be newer.
    has_queries: bool,
    /// The rows to insert, once they were read.
    rows: Option<RecordBatch>,
}

impl RowChange for Upsert<'_> {
    fn attempt<'a>(
        &'a mut self,
        frontend: &'a Frontend,
        planner: &'a Planner,
    ) -> BoxFuture<'a, Result<Changes, SqlError>> {
        async move {
            let rows = match self.rows.take().filter(|_| !self.has_queries) {
                Some(rows) => rows,
                None => self.read_rows(planner).await?,
            };
            let changes = self.write(frontend, planner, &rows).await;
            self.rows = Some(rows);
            changes
        }
        .boxed()
    }

    fn may_succeed_in(&self, newest: &ReadView) -> bool {
        self.target.into.is_unchanged_in(newest)
    }
}

impl Upsert<'_> {
    /// Reads the rows to be inserted into memory, each key once.
    async fn read_rows(&self, planner: &Planner) -> Result<RecordBatch, SqlError> {
        let table = &self.target.into.table;
        let rows = insert::source_rows(planner, self.insert, &self.target, self.parameters).await?;
        let schema = rows.schema();
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let rows = concat_batches(&schema, &batches).map_err(DataFusionError::from)?;
        let rows = normalize_float_keys(table, rows)?;
        once_per_key(table, rows, self.update.is_some())
    }

    async fn write(
        &self,
        frontend: &Frontend,
        planner: &Planner,
        rows: &RecordBatch,
    ) -> Result<Changes, SqlError> {
        let Target { relation, table, .. } = &self.target.into;
        let recorder = Recorder::new(self.returning.as_ref());
        let taken = taken(planner, &self.target.into, rows).await?;
        let is_new = (0..rows.num_rows()).map(|row| Some(!taken.contains(&row)));
        let new = filter_record_batch(rows, &is_new.collect::<BooleanArray>());
        let new = new.map_err(DataFusionError::from)?;
        let mut count = new.num_rows() as u64;
        let mut write = TableWrite::to(relation);
        let mut stagings = vec![];
        if new.num_rows() > 0 {
            let stream = futures::stream::iter([Ok(new)]);
            let stream = Box::pin(RecordBatchStreamAdapter::new(rows.schema(), stream));
            let staged = frontend.stage(planner, relation.id, table, recorder.tap(stream)).await?;
            let few = FewKeys::of(table, staged.few.as_ref());
            write.keys = keys::written_keys(table, few.as_ref());
            write.born.extend(staged.files.iter().cloned());
            stagings.push(staged.ids());
        }
        if let Some(update) = self.update.as_ref().filter(|_| !taken.is_empty()) {
            let planner = with_excluded(planner, rows)?;
            let target = Target::find(&planner, &update.target)?;
            let updated =
                frontend.find_updated(&planner, target, update, self.parameters, &recorder).await?;
            count += updated.positions.len();
            write.born.extend(updated.staged.files.iter().cloned());
            write.dead_rows = updated.positions.into_dead_rows();
            stagings.push(updated.staged.ids());
        }
        let answer = recorder.answer(planner, self.parameters).await?;
        Ok(Changes { write, staged: stagings, changed: Changed { count, answer } })
    }
}

/// Returns the `UPDATE` of the existing rows, `UPDATE … FROM excluded`; `None` for `DO NOTHING`.
fn update_of(
    insert: &Insert,
    target: &Target,
    on: &OnConflict,
) -> Result<Option<Update>, SqlError> {
    match on {
        OnConflict::DoNothing { key: None } => Ok(None),
        OnConflict::DoNothing { key: Some(key) } => check_key(&target.table, key).map(|()| None),
        OnConflict::DoUpdate { key, assignments, filter } => {
            check_key(&target.table, key)?;
            refuse_key_changes(&target.table, assignments)?;
            // A column without a table is ambiguous: both rows have it.
            Ok(Some(Update {
                target: parser::Target {
                    name: insert.target.name.clone(),
                    alias: Some(target.alias.value.clone()),
                },
                assignments: assignments.clone(),
                from: vec![trees::table(&[EXCLUDED], None)],
                filter: same_key(target, filter.as_deref().cloned()),
                returning: None,
            }))
        }
    }
}

/// Refuses a key other than the primary key.
fn check_key(table: &Table, named: &[String]) -> Result<(), SqlError> {
    let named: HashSet<&str> = named.iter().map(String::as_str).collect();
    let key: HashSet<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    if key.is_empty() || named != key {
        return Err(SqlError::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )
        .hint("The only such constraint of a table is its primary key."));
    }
    Ok(())
}

fn refuse_key_changes(table: &Table, assignments: &[Assignment]) -> Result<(), SqlError> {
    let is_key = |column: &str| table.key_columns().any(|key| key.name == column);
    if assignments.iter().any(|assignment| is_key(&assignment.column)) {
        return Err(SqlError::unsupported("ON CONFLICT DO UPDATE of a primary key column"));
    }
    Ok(())
}

/// The condition of the `UPDATE`: the existing row has the key of the excluded one and satisfies `filter`.
fn same_key(target: &Target, filter: Option<Expr>) -> Option<Expr> {
    let excluded = Ident::new(EXCLUDED);
    let same = target.table.key_columns().map(|key| {
        binary(target.column(&key.name), BinaryOperator::Eq, column(&excluded, &key.name))
    });
    same.chain(filter.map(nested)).reduce(|left, right| binary(left, BinaryOperator::And, right))
}

/// Keeps the first row of each key. With `refuse`, duplicates are an error (21000), as for `DO UPDATE`.
fn once_per_key(table: &Table, rows: RecordBatch, refuse: bool) -> Result<RecordBatch, SqlError> {
    if table.primary_key.is_empty() {
        return Ok(rows);
    }
    let index_of = |id| table.columns.iter().position(|column| column.id == id);
    let columns = table.primary_key.iter().filter_map(|id| index_of(*id));
    let columns: Vec<ArrayRef> = columns.map(|at| Arc::clone(rows.column(at))).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let converter = RowConverter::new(fields.collect()).map_err(DataFusionError::from)?;
    let keys = converter.convert_columns(&columns).map_err(DataFusionError::from)?;
    let mut seen = HashSet::new();
    let first: BooleanArray = keys.iter().map(|key| Some(seen.insert(key))).collect();
    if refuse && first.false_count() > 0 {
        return Err(SqlError::new(
            SqlState::CARDINALITY_VIOLATION,
            "ON CONFLICT DO UPDATE command cannot affect row a second time",
        )
        .hint("Ensure that no rows proposed for insertion have the same key."));
    }
    Ok(filter_record_batch(&rows, &first).map_err(DataFusionError::from)?)
}

fn with_excluded(planner: &Planner, rows: &RecordBatch) -> Result<Planner, SqlError> {
    let excluded = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]])?;
    let locals: Locals = BTreeMap::from([(EXCLUDED.to_owned(), Arc::new(excluded) as _)]);
    Ok(Planner { locals: Arc::new(locals), ..planner.clone() })
}

/// Returns the indexes of the rows whose key exists in the table.
async fn taken(
    planner: &Planner,
    target: &Target,
    rows: &RecordBatch,
) -> Result<HashSet<usize>, SqlError> {
    let table = &target.table;
    let id = target.relation.id;
    let few = FewKeys::of(table, Some(rows)).filter(|_| rows.num_rows() <= FEW_ROWS);
    let live = match few {
        Some(few) => keys::files_holding(planner, id, table, &few).await?,
        None => planner.files_of(id),
    };
    if live.is_empty() || table.primary_key.is_empty() {
        return Ok(HashSet::new());
    }
    let mut fields = table_schema(table).fields().to_vec();
    fields.push(Arc::new(Field::new(ORDINAL_COLUMN, DataType::Int64, false)));
    let mut columns = rows.columns().to_vec();
    let last = i64::try_from(rows.num_rows()).unwrap_or(i64::MAX);
    columns.push(Arc::new(Int64Array::from_iter_values(0..last)));
    let schema = Arc::new(Schema::new(fields));
    let numbered = RecordBatch::try_new(Arc::clone(&schema), columns);
    let numbered = numbered.map_err(DataFusionError::from)?;
    let new = provider_as_source(Arc::new(MemTable::try_new(schema, vec![vec![numbered]])?));
    let old = provider_as_source(Arc::new(planner.scan_files(table, live)));
    let keys: Vec<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    let of_keys = || keys.iter().map(|key| ident(*key));
    let on = |side: &str| -> Vec<Column> {
        keys.iter().map(|key| Column::new(Some(side), *key)).collect()
    };
    let old = LogicalPlanBuilder::scan("old", old, None)?.project(of_keys())?.build()?;
    let plan = LogicalPlanBuilder::scan("new", new, None)?
        .project(of_keys().chain([ident(ORDINAL_COLUMN)]))?
        .join(old, JoinType::LeftSemi, (on("new"), on("old")), None)?
        .project([ident(ORDINAL_COLUMN)])?
        .build()?;
    let mut found = planner.execute(planner.state(), plan, ParamValues::List(vec![])).await?;
    let mut taken = HashSet::new();
    while let Some(batch) = found.try_next().await? {
        let ordinals = batch.column(0).as_primitive::<Int64Type>().values();
        taken.extend(ordinals.iter().filter_map(|ordinal| usize::try_from(*ordinal).ok()));
    }
    Ok(taken)
}
