//! `INSERT … ON CONFLICT`: inserts rows with new keys; rows whose key exists are skipped or update the
//! existing row.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
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
use futures::TryStreamExt as _;
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Query, Visit, VisitMut as _, Visitor, VisitorMut,
};

use super::keys::{self, FewKeys};
use super::returning::Returning;
use super::target::{InsertTarget, Target};
use super::writes::Staged;
use crate::Frontend;
use crate::parser::{self, Assignment, Insert, OnConflict, Update, folded};
use crate::planner::{Locals, Parameters, Planner};
use crate::session::Session;
use crate::trees::{self, binary, column, nested};
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
    /// Executes the statement; returns the number of rows inserted or updated.
    pub(super) async fn insert_on_conflict(
        &self,
        session: &mut Session,
        insert: &Insert,
        on: &OnConflict,
        parameters: &Parameters,
        returning: Option<&Returning>,
    ) -> Result<u64, SqlError> {
        let planner = self.planner(session);
        let target = InsertTarget::find(&planner, insert)?;
        let update = update_of(insert, &target.into, on)?;
        // What a subquery reads must be of one view with the rows to insert; a row in conflict may be newer.
        let has_queries = update.as_ref().is_some_and(has_query) || has_query(&insert.returning);
        let mut planner = planner;
        let mut rows =
            self.held_rows(&planner, insert, &target, update.is_some(), parameters).await?;
        for attempt in 1.. {
            if let Some(returning) = returning {
                returning.clear();
            }
            let outcome = self
                .try_insert(&planner, &target, &rows, update.as_ref(), parameters, returning)
                .await;
            if let Some(outcome) = self.retry_after_conflict(attempt, outcome).await {
                return outcome;
            }
            planner = self.planner_now(&planner);
            if has_queries {
                rows =
                    self.held_rows(&planner, insert, &target, update.is_some(), parameters).await?;
            }
        }
        Err(SqlError::internal("attempts never run out"))
    }

    /// Reads the rows to be inserted into memory, each key once.
    async fn held_rows(
        &self,
        planner: &Planner,
        insert: &Insert,
        target: &InsertTarget,
        updates: bool,
        parameters: &Parameters,
    ) -> Result<RecordBatch, SqlError> {
        let rows = self.source_rows(planner, insert, target, parameters).await?;
        let schema = rows.schema();
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let rows = concat_batches(&schema, &batches).map_err(DataFusionError::from)?;
        let rows = normalize_float_keys(&target.into.table, rows)?;
        once_per_key(&target.into.table, rows, updates)
    }

    /// One attempt, over the view of `planner`.
    async fn try_insert(
        &self,
        planner: &Planner,
        target: &InsertTarget,
        rows: &RecordBatch,
        update: Option<&Update>,
        parameters: &Parameters,
        returning: Option<&Returning>,
    ) -> Result<u64, SqlError> {
        let Target { relation, table, .. } = &target.into;
        let taken = taken(planner, &target.into, rows).await?;
        let is_new = (0..rows.num_rows()).map(|row| Some(!taken.contains(&row)));
        let new = filter_record_batch(rows, &is_new.collect::<BooleanArray>());
        let new = new.map_err(DataFusionError::from)?;
        let mut count = new.num_rows() as u64;
        let mut write = TableWrite::to(relation);
        let mut stagings = vec![];
        if new.num_rows() > 0 {
            if let Some(returning) = returning {
                returning.push(new.clone());
            }
            let stream = futures::stream::iter([Ok(new)]);
            let stream = Box::pin(RecordBatchStreamAdapter::new(rows.schema(), stream));
            let staged = self.stage(planner, relation.id, table, stream).await?;
            let few = FewKeys::of(table, staged.few.as_ref());
            write.keys = keys::written_keys(table, few.as_ref());
            write.born.extend(staged.files.iter().cloned());
            stagings.push(staged);
        }
        if let Some(update) = update.filter(|_| !taken.is_empty()) {
            let planner = with_excluded(planner, rows)?;
            let updated = self.find_updated(&planner, update, parameters, returning).await?;
            count += updated.positions.len();
            write.born.extend(updated.staged.files.iter().cloned());
            write.dead_rows = updated.positions.into_dead_rows();
            stagings.push(updated.staged);
        }
        if !write.born.is_empty() {
            if let Some(returning) = returning {
                returning.compute(planner, parameters).await?;
            }
            let staged = stagings.iter().map(Staged::ids).collect();
            self.commit(planner, vec![write], staged).await?;
        }
        Ok(count)
    }
}

/// Whether a subquery is part of `node`.
fn has_query(node: &impl Visit) -> bool {
    struct Found;
    impl Visitor for Found {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    node.visit(&mut Found).is_break()
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
            let mut assignments = assignments.clone();
            for assignment in &mut assignments {
                qualify(&mut assignment.value, target);
            }
            Ok(Some(Update {
                target: parser::Target {
                    name: insert.target.name.clone(),
                    alias: Some(target.alias.value.clone()),
                },
                assignments,
                from: vec![trees::table(&[EXCLUDED], None)],
                filter: same_key(target, filter.clone()),
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
fn same_key(target: &Target, mut filter: Option<Expr>) -> Option<Expr> {
    if let Some(filter) = &mut filter {
        qualify(filter, target);
    }
    let excluded = Ident::new(EXCLUDED);
    let same = target.table.key_columns().map(|key| {
        binary(target.column(&key.name), BinaryOperator::Eq, column(&excluded, &key.name))
    });
    same.chain(filter.map(nested)).reduce(|left, right| binary(left, BinaryOperator::And, right))
}

/// Qualifies columns without a table as columns of the existing row. Inside a subquery they stay as they are.
fn qualify(expr: &mut Expr, target: &Target) {
    let flow = expr.visit(&mut Qualify { target, depth: 0 });
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

struct Qualify<'a> {
    target: &'a Target,
    /// Nesting of subqueries.
    depth: usize,
}

impl VisitorMut for Qualify<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && self.depth == 0
            && self.target.table.column(&folded(name)).is_some()
        {
            *expr = Expr::CompoundIdentifier(vec![self.target.alias.clone(), name.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// Keeps the first row of each key. With `refuse`, duplicates are an error (21000), as for `DO UPDATE`.
fn once_per_key(table: &Table, rows: RecordBatch, refuse: bool) -> Result<RecordBatch, SqlError> {
    if table.primary_key.is_empty() {
        return Ok(rows);
    }
    let place = |id| table.columns.iter().position(|column| column.id == id);
    let columns = table.primary_key.iter().filter_map(|id| place(*id));
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
    let mut found = planner.execute(planner.state()?, plan, ParamValues::List(vec![])).await?;
    let mut taken = HashSet::new();
    while let Some(batch) = found.try_next().await? {
        let ordinals = batch.column(0).as_primitive::<Int64Type>().values();
        taken.extend(ordinals.iter().filter_map(|ordinal| usize::try_from(*ordinal).ok()));
    }
    Ok(taken)
}
