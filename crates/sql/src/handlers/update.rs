//! `UPDATE`: the old rows die and the new ones are born in one epoch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use sqlparser::ast::{Expr, Query};

use super::Reply;
use super::dml::{Changed, Changes, RowChange};
use super::keys::{self, FewKeys};
use super::returning::{Recorder, Returning};
use super::row_positions::{POSITION_COLUMNS, RowPositions};
use super::rows::Conform;
use super::target::{Target, default_of, is_default};
use super::writes::Staged;
use crate::Frontend;
use crate::parser::{Assignment, Update};
use crate::planner::{Parameters, Planner};
use crate::rewrite::placement;
use crate::session::Session;
use crate::trees::named;
use tidemark_engine::meta::command::{DeadRows, TableWrite, WrittenKeys};
use tidemark_ledger::catalog::Table;
use tidemark_ledger::sst::SstInfo;
use tidemark_pg::error::{SqlError, Subject};
use tidemark_pg::sqlstate::SqlState;

impl Frontend {
    pub(super) async fn update(
        &self,
        session: &mut Session,
        update: &Update,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        session.check_writable("UPDATE")?;
        let planner = self.planner(session);
        let target = Target::find(&planner, &update.target)?;
        // Its errors come before anything is locked or staged.
        Returning::planned(update.returning.as_ref(), &target, &planner, parameters).await?;
        let mut change = UpdateRows { update, parameters };
        self.change_rows(&planner, target.relation.id, &mut change).await?.reply("UPDATE")
    }

    /// Finds the rows to be changed, and stages the new ones.
    pub(super) async fn find_updated(
        &self,
        planner: &Planner,
        target: Target,
        update: &Update,
        parameters: &Parameters,
        recorder: &Recorder<'_>,
    ) -> Result<Updated, SqlError> {
        let query = update_query(&target, update)?;
        let state = planner.state();
        let plan = planner.plan(&state, &query, &parameters.types).await?;
        let rows = planner.execute(state, plan, parameters.values.clone()).await?;
        let conform = Conform::of(&target);
        conform.check_types(rows.schema().fields().iter().skip(POSITION_COLUMNS))?;
        let positions = Arc::new(Mutex::new(RowPositions::default()));
        let rows = recorder.tap(new_rows(conform, rows, Arc::clone(&positions)));
        let staged = self.stage(planner, target.relation.id, &target.table, rows).await?;
        let positions =
            std::mem::take(&mut *positions.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Updated { target, staged, positions })
    }
}

struct UpdateRows<'a> {
    update: &'a Update,
    parameters: &'a Parameters,
}

impl RowChange for UpdateRows<'_> {
    fn attempt<'a>(
        &'a mut self,
        frontend: &'a Frontend,
        planner: &'a Planner,
    ) -> BoxFuture<'a, Result<Changes, SqlError>> {
        self.find(frontend, planner).boxed()
    }
}

impl UpdateRows<'_> {
    async fn find(&self, frontend: &Frontend, planner: &Planner) -> Result<Changes, SqlError> {
        // The table may have been altered since the last attempt.
        let target = Target::find(planner, &self.update.target)?;
        let returning = Returning::new(self.update.returning.as_ref(), &target);
        let recorder = Recorder::new(returning.as_ref());
        let updated =
            frontend.find_updated(planner, target, self.update, self.parameters, &recorder).await?;
        let mut write = TableWrite::to(&updated.target.relation);
        if changes_key(&updated.target.table, self.update) && updated.positions.len() > 0 {
            write.keys = updated.new_keys(planner).await?;
        }
        let answer = recorder.answer(planner, self.parameters).await?;
        let changed = Changed { count: updated.positions.len(), answer };
        write.dead_rows = updated.positions.into_dead_rows();
        write.born.clone_from(&updated.staged.files);
        Ok(Changes { write, staged: vec![updated.staged.ids()], changed })
    }
}

/// The changed rows: their old row positions and the staged new rows.
pub struct Updated {
    target: Target,
    pub staged: Staged,
    pub positions: RowPositions,
}

impl Updated {
    /// Returns the keys of the new rows. Fails with 23505 if two of the rows share a key, or if a row that is
    /// not changed has it.
    async fn new_keys(&self, planner: &Planner) -> Result<WrittenKeys, SqlError> {
        let Target { relation, table, .. } = &self.target;
        let few = FewKeys::of(table, self.staged.few.as_ref());
        let files = &self.staged.files;
        let taken = keys::overwritten(planner, relation, table, files, few.as_ref()).await?;
        check_unique(&self.target, files, &self.positions, &taken)?;
        Ok(keys::written_keys(table, few.as_ref()))
    }
}

/// Builds the query that returns, for each row to be changed, its row position and its new values.
pub fn update_query(target: &Target, update: &Update) -> Result<Query, SqlError> {
    let mut assigned = assignments(target, update)?;
    let items = target.table.columns.iter().map(|column| {
        let expr = match assigned.remove(column.name.as_str()) {
            None => target.column(&column.name),
            Some(expr) if is_default(expr) => default_of(column.default.as_deref()),
            Some(expr) => expr.clone(),
        };
        named(expr, &column.name)
    });
    Ok(target.query(items, &update.from, update.filter.as_ref()))
}

/// Returns the new expression of each assigned column.
fn assignments<'a>(
    target: &Target,
    update: &'a Update,
) -> Result<HashMap<&'a str, &'a Expr>, SqlError> {
    let mut assigned = HashMap::new();
    for Assignment { column, value } in &update.assignments {
        if target.table.column(column).is_none() {
            let relation = &target.relation.name;
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{column}\" of relation \"{relation}\" does not exist"),
            ));
        }
        placement::check_plain(value, "UPDATE")?;
        if assigned.insert(column.as_str(), value).is_some() {
            return Err(SqlError::syntax(format!(
                "multiple assignments to same column \"{column}\""
            )));
        }
    }
    Ok(assigned)
}

/// Whether a column of the primary key is assigned.
fn changes_key(table: &Table, update: &Update) -> bool {
    let mut assigned = update.assignments.iter();
    assigned.any(|assignment| table.key_columns().any(|key| key.name == assignment.column))
}

fn check_unique(
    target: &Target,
    files: &[Arc<SstInfo>],
    replaced: &RowPositions,
    taken: &[DeadRows],
) -> Result<(), SqlError> {
    let born: u64 = files.iter().map(|sst| sst.rows).sum();
    if born == replaced.len() && replaced.contain_all(taken) {
        return Ok(());
    }
    let key: Vec<&str> = target.table.key_columns().map(|column| column.name.as_str()).collect();
    let relation = &target.relation.name;
    Err(SqlError::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{relation}_pkey\""),
    )
    .detail(format!("Another row has the same ({}).", key.join(", ")))
    .about(Subject {
        schema: Some(target.schema.clone()),
        table: Some(relation.clone()),
        constraint: Some(format!("{relation}_pkey")),
        ..Subject::default()
    }))
}

/// Returns the new rows. A row matched by several rows of `FROM` is changed once, by the first.
fn new_rows(
    conform: Conform,
    rows: SendableRecordBatchStream,
    positions: Arc<Mutex<RowPositions>>,
) -> SendableRecordBatchStream {
    let schema = Arc::clone(conform.schema());
    let rows = rows.and_then(move |batch| {
        let mut positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = positions
            .insert_fresh(&batch)
            .and_then(|batch| conform.apply(&batch.columns()[POSITION_COLUMNS..]))
            .map_err(Into::into);
        async move { outcome }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}
