//! `DELETE`: a query for the row positions of the rows to delete.
//!
//! DataFusion's own hooks for DELETE and UPDATE only see the part of `WHERE` that is left after optimization,
//! and would delete too much (docs/adr/0007). So the statement becomes a `SELECT`.

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use sqlparser::ast::Query;

use super::returning::Returning;
use super::row_positions::{POSITION_COLUMNS, RowPositions, collect_positions};
use super::target::Target;
use super::{Outcome, Reply};
use crate::Frontend;
use crate::parser::Delete;
use crate::planner::{Parameters, Planner};
use crate::session::Session;
use crate::trees::named;
use tidemark_engine::meta::command::TableWrite;
use tidemark_pg::error::SqlError;

impl Frontend {
    pub(super) async fn delete(
        &self,
        session: &mut Session,
        delete: &Delete,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        session.check_writable("DELETE")?;
        let planner = self.planner(session);
        let target = Target::find(&planner, &delete.target)?;
        let returning = Returning::new(delete.returning.as_ref(), &target);
        if let Some(returning) = &returning {
            returning.check(&planner, parameters).await?;
        }
        let mut turn = None;
        for attempt in 1.. {
            let planner = self.planner(session);
            if attempt > 1 && turn.is_none() {
                let target = Target::find(&planner, &delete.target)?;
                turn = Some(self.keyed_writes.turn(target.relation.id).lock_owned().await);
                continue;
            }
            if let Some(returning) = &returning {
                returning.clear();
            }
            let outcome = self.delete_once(&planner, delete, parameters, returning.as_ref()).await;
            if let Some(outcome) = self.retry_after_conflict(attempt, outcome).await {
                if let (Some(returning), Ok(_)) = (&returning, &outcome) {
                    return returning.reply(&planner, parameters, "DELETE").await;
                }
                return Ok(Outcome::Done(format!("DELETE {}", outcome?)).into());
            }
        }
        Err(SqlError::internal("attempts never run out"))
    }

    async fn delete_once(
        &self,
        planner: &Planner,
        delete: &Delete,
        parameters: &Parameters,
        returning: Option<&Returning>,
    ) -> Result<u64, SqlError> {
        let target = Target::find(planner, &delete.target)?;
        let query = delete_query(&target, delete);
        let state = planner.state()?;
        let plan = planner.plan(&state, &query, &parameters.types).await?;
        let rows = planner.execute(state, plan, parameters.values.clone()).await?;
        let positions = match returning {
            None => collect_positions(rows).await?,
            Some(returning) => collect_rows(rows, returning).await?,
        };
        let count = positions.len();
        if count > 0 {
            let mut write = TableWrite::to(&target.relation);
            write.dead_rows = positions.into_dead_rows();
            if let Some(returning) = returning {
                returning.compute(planner, parameters).await?;
            }
            self.commit(planner, vec![write], vec![]).await?;
        }
        Ok(count)
    }
}

/// Builds the query that finds the rows to delete.
pub fn delete_query(target: &Target, delete: &Delete) -> Query {
    // `RETURNING` is evaluated over the rows as they were.
    let wanted = if delete.returning.is_some() { target.table.columns.as_slice() } else { &[] };
    let wanted = wanted.iter().map(|column| named(target.column(&column.name), &column.name));
    target.query(wanted, &delete.using, delete.filter.as_ref())
}

/// Collects row positions, and passes each row to `returning` once.
async fn collect_rows(
    mut rows: SendableRecordBatchStream,
    returning: &Returning,
) -> Result<RowPositions, SqlError> {
    let mut positions = RowPositions::default();
    while let Some(batch) = rows.try_next().await? {
        let fresh = positions.insert_fresh(&batch)?;
        let columns: Vec<usize> = (POSITION_COLUMNS..fresh.num_columns()).collect();
        returning.push(fresh.project(&columns).map_err(DataFusionError::from)?);
    }
    Ok(positions)
}
