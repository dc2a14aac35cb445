//! `UPDATE`: the old rows die and the new ones are born in one epoch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt as _;
use sqlparser::ast::{Expr, Query};

use super::keys::{self, FewKeys};
use super::returning::Returning;
use super::row_positions::{POSITION_COLUMNS, RowPositions};
use super::rows::Conform;
use super::target::{Target, default_of, is_default};
use super::writes::Staged;
use super::{Outcome, Reply};
use crate::Frontend;
use crate::parser::{Assignment, Update};
use crate::planner::{Parameters, Planner};
use crate::session::Session;
use crate::trees::named;
use tidemark_engine::meta::command::{DeadRows, TableWrite};
use tidemark_ledger::catalog::{Relation, Table};
use tidemark_ledger::sst::SstInfo;
use tidemark_pg::error::SqlError;
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
        let returning = Returning::new(update.returning.as_ref(), &target);
        if let Some(returning) = &returning {
            returning.check(&planner, parameters).await?;
        }
        let mut turn = None;
        for attempt in 1.. {
            let planner = self.planner(session);
            if attempt > 1 && turn.is_none() {
                let target = Target::find(&planner, &update.target)?;
                turn = Some(self.keyed_writes.turn(target.relation.id).lock_owned().await);
                continue;
            }
            if let Some(returning) = &returning {
                returning.clear();
            }
            let outcome = self.update_once(&planner, update, parameters, returning.as_ref()).await;
            if let Some(outcome) = self.retry_after_conflict(attempt, outcome).await {
                if let (Some(returning), Ok(_)) = (&returning, &outcome) {
                    return returning.reply(&planner, parameters, "UPDATE").await;
                }
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
        returning: Option<&Returning>,
    ) -> Result<u64, SqlError> {
        let updated = self.find_updated(planner, update, parameters, returning).await?;
        let Updated { target: Target { relation, table, .. }, staged, positions } = updated;
        let count = positions.len();
        if count > 0 {
            let mut write = TableWrite::to(&relation);
            if changes_key(&table, update) {
                let few = FewKeys::of(&table, staged.few.as_ref());
                let files = &staged.files;
                let taken = keys::overwritten(planner, &relation, &table, files, few.as_ref());
                check_unique(&relation, &table, files, &positions, &taken.await?)?;
                write.keys = keys::written_keys(&table, few.as_ref());
            }
            write.dead_rows = positions.into_dead_rows();
            write.born = staged.files.clone();
            if let Some(returning) = returning {
                returning.compute(planner, parameters).await?;
            }
            self.commit(planner, vec![write], vec![staged.ids()]).await?;
        }
        Ok(count)
    }

    /// Finds the rows to be changed, and stages the new ones.
    pub(super) async fn find_updated(
        &self,
        planner: &Planner,
        update: &Update,
        parameters: &Parameters,
        returning: Option<&Returning>,
    ) -> Result<Updated, SqlError> {
        let (target, query) = update_query(planner, update)?;
        let state = planner.state()?;
        let plan = planner.plan(&state, &query, &parameters.types).await?;
        let rows = planner.execute(state.clone(), plan, parameters.values.clone()).await?;
        let conform = Conform::new(Arc::clone(&target.table), &target.relation.name);
        let positions = Arc::new(Mutex::new(RowPositions::default()));
        let rows = new_rows(conform, rows, Arc::clone(&positions));
        let rows = match returning {
            Some(returning) => returning.tap(rows),
            None => rows,
        };
        let staged = self.stage(planner, target.relation.id, &target.table, rows).await?;
        let positions =
            std::mem::take(&mut *positions.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Updated { target, staged, positions })
    }
}

/// The changed rows: their old row positions and the staged new rows.
pub struct Updated {
    pub target: Target,
    pub staged: Staged,
    pub positions: RowPositions,
}

/// Builds the query that returns, for each row to be changed, its row position and its new values.
pub fn update_query(planner: &Planner, update: &Update) -> Result<(Target, Query), SqlError> {
    let target = Target::find(planner, &update.target)?;
    let mut assigned = assignments(&target, update)?;
    let items = target.table.columns.iter().map(|column| {
        let expr = match assigned.remove(column.name.as_str()) {
            None => target.column(&column.name),
            Some(expr) if is_default(expr) => default_of(column.default.as_deref()),
            Some(expr) => expr.clone(),
        };
        named(expr, &column.name)
    });
    let query = target.query(items, &update.from, update.filter.as_ref());
    Ok((target, query))
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

/// Refuses new keys that two changed rows share, or that an unchanged row already has (23505).
fn check_unique(
    relation: &Relation,
    table: &Table,
    files: &[Arc<SstInfo>],
    replaced: &RowPositions,
    taken: &[DeadRows],
) -> Result<(), SqlError> {
    let born: u64 = files.iter().map(|sst| sst.rows).sum();
    if born == replaced.len() && replaced.contain_all(taken) {
        return Ok(());
    }
    let key: Vec<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    Err(SqlError::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{}_pkey\"", relation.name),
    )
    .detail(format!("Another row has the same ({}).", key.join(", "))))
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
