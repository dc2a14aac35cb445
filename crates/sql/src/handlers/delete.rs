//! `DELETE`: a query for the row positions of the rows to delete.
//!
//! DataFusion's own hooks for DELETE and UPDATE only see the part of `WHERE` that is left after optimization,
//! and would delete too much (docs/adr/0007). So the statement becomes a `SELECT`.

use datafusion::error::DataFusionError;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use sqlparser::ast::Query;

use super::Reply;
use super::dml::{Changed, Changes, RowChange};
use super::returning::{Recorder, Returning};
use super::row_positions::{POSITION_COLUMNS, RowPositions};
use super::target::Target;
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
        // Its errors come before anything is locked or read.
        Returning::planned(delete.returning.as_ref(), &target, &planner, parameters).await?;
        let mut change = DeleteRows { delete, parameters };
        self.change_rows(&planner, target.relation.id, &mut change).await?.reply("DELETE")
    }
}

struct DeleteRows<'a> {
    delete: &'a Delete,
    parameters: &'a Parameters,
}

impl RowChange for DeleteRows<'_> {
    fn attempt<'a>(
        &'a mut self,
        _frontend: &'a Frontend,
        planner: &'a Planner,
    ) -> BoxFuture<'a, Result<Changes, SqlError>> {
        self.find(planner).boxed()
    }
}

impl DeleteRows<'_> {
    async fn find(&self, planner: &Planner) -> Result<Changes, SqlError> {
        let target = Target::find(planner, &self.delete.target)?;
        let query = delete_query(&target, self.delete);
        let state = planner.state();
        let plan = planner.plan(&state, &query, &self.parameters.types).await?;
        let mut rows = planner.execute(state, plan, self.parameters.values.clone()).await?;
        // The table may have been altered since the last attempt.
        let returning = Returning::new(self.delete.returning.as_ref(), &target);
        let recorder = Recorder::new(returning.as_ref());
        let mut positions = RowPositions::default();
        while let Some(batch) = rows.try_next().await? {
            if returning.is_none() {
                positions.insert_batch(&batch, 0, 1)?;
                continue;
            }
            // A row matched by several rows of `USING` is deleted once.
            let fresh = positions.insert_fresh(&batch)?;
            let columns: Vec<usize> = (POSITION_COLUMNS..fresh.num_columns()).collect();
            recorder.push(fresh.project(&columns).map_err(DataFusionError::from)?);
        }
        let answer = recorder.answer(planner, self.parameters).await?;
        let changed = Changed { count: positions.len(), answer };
        let mut write = TableWrite::to(&target.relation);
        write.dead_rows = positions.into_dead_rows();
        Ok(Changes { write, staged: vec![], changed })
    }
}

/// Builds the query that finds the rows to delete.
pub fn delete_query(target: &Target, delete: &Delete) -> Query {
    // `RETURNING` is evaluated over the rows as they were.
    let wanted = if delete.returning.is_some() { target.table.columns.as_slice() } else { &[] };
    let wanted = wanted.iter().map(|column| named(target.column(&column.name), &column.name));
    target.query(wanted, &delete.using, delete.filter.as_ref())
}
