//! `UPDATE`: the old rows die, the new ones are born, in one epoch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt as _;
use sqlparser::ast::{AssignmentTarget, Expr, Query, SelectItem, Update, UpdateTableFromKind};

use super::delete::{Target, quoted};
use super::rows::Conform;
use super::writes::Places;
use super::{Outcome, Parameters, Reply, insert, keys, writes};
use crate::catalog::{Relation, Table};
use crate::frontend::Frontend;
use crate::frontend::error::SqlError;
use crate::frontend::parser::RelationName;
use crate::frontend::pgwire::sqlstate::SqlState;
use crate::frontend::planner::Planner;
use crate::frontend::session::Session;
use crate::hummock::sst::SstInfo;

/// The places come first in the rows of an update's query.
const PLACE_COLUMNS: usize = 2;

impl Frontend {
    pub(super) async fn update(
        &self,
        session: &mut Session,
        update: &Update,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        session.check_writable("UPDATE")?;
        let mut turn = None;
        for attempt in 1.. {
            let planner = self.planner(session);
            if attempt > 1 && turn.is_none() {
                let target = Target::find(&planner, &update.table)?;
                turn = Some(self.keyed_writes.turn(target.relation.id).lock_owned().await);
                continue;
            }
            let outcome = self.update_once(&planner, update, parameters).await;
            if let Some(outcome) = self.settle(attempt, outcome).await {
                return Ok(Outcome::Done(format!("UPDATE {}", outcome?)).into());
            }
        }
        Err(SqlError::internal("attempts never run out"))
    }

    async fn update_once(
        &self,
        planner: &Planner,
        update: &Update,
        parameters: &Parameters,
    ) -> Result<u64, SqlError> {
        let (relation, query) = update_query(planner, update)?;
        let Some(table) = relation.as_table() else {
            return Err(SqlError::internal("a view has no rows"));
        };
        let state = planner.state()?;
        let plan = planner.plan(&state, &query, &parameters.types).await?;
        let rows = planner.execute(state.clone(), plan, parameters.values.clone()).await?;
        let table = Arc::new(table.clone());
        let conform = Conform::new(Arc::clone(&table), &relation.name);
        let places = Arc::new(Mutex::new(Places::default()));
        let rows = new_rows(conform, rows, Arc::clone(&places));
        let staged = self.stage(planner, &state, relation.id, &table, rows).await?;
        let places = std::mem::take(&mut *places.lock().unwrap_or_else(PoisonError::into_inner));
        let count = places.len();
        if count > 0 {
            let mut write = writes::table_write(&relation);
            if changes_key(&table, update)? {
                check_unique(planner, &relation, &table, &staged.files, &places).await?;
                write.keys = keys::written_keys(&table, &staged.files)?;
            }
            write.dead_rows = places.into_dead_rows();
            write.born = staged.files.clone();
            self.commit(planner.view.epoch, vec![write]).await?;
        }
        Ok(count)
    }
}

/// The query that yields, for each row to be changed, its place and what it becomes.
pub fn update_query(
    planner: &Planner,
    update: &Update,
) -> Result<(Arc<Relation>, Query), SqlError> {
    let target = Target::find(planner, &update.table)?;
    let Some(table) = target.relation.as_table() else {
        return Err(SqlError::internal("a view has no rows"));
    };
    let mut assigned = assignments(table, &target.relation.name, update)?;
    let items = table.columns.iter().map(|column| {
        let expr = match assigned.remove(column.name.as_str()) {
            None => target.column(&column.name),
            Some(expr) if is_default(&expr) => default_of(column.default.as_deref()),
            Some(expr) => expr,
        };
        SelectItem::ExprWithAlias { expr, alias: quoted(&column.name) }
    });
    let items = items.collect();
    let from = match &update.from {
        None => vec![],
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => {
            from.clone()
        }
    };
    let query = target.query(items, from, update.selection.clone())?;
    Ok((target.relation, query))
}

/// The new expression of each assigned column.
fn assignments(
    table: &Table,
    relation: &str,
    update: &Update,
) -> Result<HashMap<String, Expr>, SqlError> {
    let mut assigned = HashMap::new();
    for assignment in &update.assignments {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(SqlError::unsupported("assigning several columns at once"));
        };
        let name = RelationName::try_from(name)?.name;
        if table.column(&name).is_none() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" of relation \"{relation}\" does not exist"),
            ));
        }
        if assigned.insert(name.clone(), assignment.value.clone()).is_some() {
            return Err(SqlError::syntax(format!(
                "multiple assignments to same column \"{name}\""
            )));
        }
    }
    Ok(assigned)
}

/// Whether a column of the primary key is assigned.
fn changes_key(table: &Table, update: &Update) -> Result<bool, SqlError> {
    for assignment in &update.assignments {
        let AssignmentTarget::ColumnName(name) = &assignment.target else { continue };
        let name = RelationName::try_from(name)?.name;
        let column = table.column(&name);
        if column.is_some_and(|column| table.primary_key.contains(&column.id)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses new keys that two of the changed rows share, or that a row which stays has.
async fn check_unique(
    planner: &Planner,
    relation: &Relation,
    table: &Table,
    files: &[Arc<SstInfo>],
    replaced: &Places,
) -> Result<(), SqlError> {
    let born: u64 = files.iter().map(|sst| sst.rows).sum();
    let taken = keys::overwritten(planner, relation, table, files).await?;
    if born == replaced.len() && replaced.contain_all(&taken) {
        return Ok(());
    }
    let key: Vec<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    Err(SqlError::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{}_pkey\"", relation.name),
    )
    .detail(format!("Another row has the same ({}).", key.join(", "))))
}

fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn default_of(default: Option<&str>) -> Expr {
    let null = || Expr::Value(sqlparser::ast::Value::Null.with_empty_span());
    default.and_then(insert::parse_expr).unwrap_or_else(null)
}

/// The rows that are born. A row that several rows of `FROM` match is changed once, by the first.
fn new_rows(
    conform: Conform,
    rows: SendableRecordBatchStream,
    places: Arc<Mutex<Places>>,
) -> SendableRecordBatchStream {
    let schema = Arc::clone(conform.schema());
    let rows = rows.and_then(move |batch| {
        let outcome = fresh(&batch, &places)
            .and_then(|batch| conform.apply(&batch.columns()[PLACE_COLUMNS..]))
            .map_err(Into::into);
        async move { outcome }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The rows of `batch` whose place was not seen before.
fn fresh(batch: &RecordBatch, places: &Mutex<Places>) -> Result<RecordBatch, SqlError> {
    let files = batch.column(0).as_primitive::<UInt64Type>().values();
    let positions = batch.column(1).as_primitive::<Int64Type>().values();
    let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
    let pairs = files.iter().zip(positions);
    let new = pairs.map(|(file, position)| places.insert(*file, *position));
    let new = BooleanArray::from(new.collect::<Result<Vec<bool>, _>>()?);
    filter_record_batch(batch, &new).map_err(|e| DataFusionError::from(e).into())
}
