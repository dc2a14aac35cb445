//! `DELETE`: a query for the row positions of the rows to delete.
//!
//! DataFusion's own hooks for DELETE and UPDATE only see the part of `WHERE` that is left after optimization,
//! and would delete too much (docs/adr/0007). So the statement becomes a `SELECT`.

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use sqlparser::ast::{
    self, Delete, Expr, FromTable, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr,
    TableFactor, TableWithJoins,
};

use super::returning::Returning;
use super::row_positions::{POSITION_COLUMNS, RowPositions, collect_positions};
use super::template::template;
use super::{Outcome, Reply, insert};
use crate::Frontend;
use crate::parser::{RelationName, folded};
use crate::planner::catalog_provider::TARGET;
use crate::planner::{Parameters, Planner};
use crate::session::Session;
use tidemark_engine::meta::command::TableWrite;
use tidemark_engine::scan::{FILE_COLUMN, POSITION_COLUMN};
use tidemark_ledger::catalog::Relation;
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
        let returning = returning_of(&planner, delete)?;
        if let Some(returning) = &returning {
            returning.check(&planner, parameters).await?;
        }
        let mut turn = None;
        for attempt in 1.. {
            let planner = self.planner(session);
            if attempt > 1 && turn.is_none() {
                let (relation, _) = delete_query(&planner, delete)?;
                turn = Some(self.keyed_writes.turn(relation.id).lock_owned().await);
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
        let (relation, query) = delete_query(planner, delete)?;
        let state = planner.state();
        let plan = planner.plan(&state, &query, &parameters.types).await?;
        let rows = planner.execute(state, plan, parameters.values.clone()).await?;
        let positions = match returning {
            None => collect_positions(rows).await?,
            Some(returning) => collect_rows(rows, returning).await?,
        };
        let count = positions.len();
        if count > 0 {
            let mut write = TableWrite::to(&relation);
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
pub fn delete_query(
    planner: &Planner,
    delete: &Delete,
) -> Result<(std::sync::Arc<Relation>, Query), SqlError> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = from.as_slice() else {
        return Err(SqlError::syntax("DELETE takes one table"));
    };
    let target = Target::find(planner, table)?;
    let more = delete.using.clone().unwrap_or_default();
    // `RETURNING` is evaluated over the rows as they were.
    let wanted = delete.returning.as_ref().and(target.relation.as_table());
    let wanted = wanted.into_iter().flat_map(|table| &table.columns);
    let wanted = wanted.map(|column| SelectItem::ExprWithAlias {
        expr: target.column(&column.name),
        alias: quoted(&column.name),
    });
    let query = target.query(wanted.collect(), more, delete.selection.clone())?;
    Ok((target.relation, query))
}

/// Returns the `RETURNING` clause of a `DELETE`.
pub fn returning_of(planner: &Planner, delete: &Delete) -> Result<Option<Returning>, SqlError> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = from.as_slice() else {
        return Err(SqlError::syntax("DELETE takes one table"));
    };
    let target = Target::find(planner, table)?;
    let table = target.relation.as_table();
    Ok(table.and_then(|table| Returning::new(delete.returning.as_ref(), &target.alias, table)))
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

/// The table of an `UPDATE` or `DELETE`, and its name in the statement.
pub struct Target {
    pub relation: std::sync::Arc<Relation>,
    pub alias: Ident,
}

impl Target {
    pub fn find(planner: &Planner, table: &TableWithJoins) -> Result<Self, SqlError> {
        let TableFactor::Table { name, alias, .. } = &table.relation else {
            return Err(SqlError::syntax("the target must be a table"));
        };
        let relation = insert::table_named(planner, &RelationName::try_from(name)?)?;
        let alias = match alias {
            Some(alias) => Ident::with_quote('"', folded(&alias.name)),
            None => Ident::with_quote('"', relation.name.clone()),
        };
        Ok(Self { relation, alias })
    }

    /// Builds `SELECT file, position, <more> FROM target, <others> WHERE <selection>`.
    pub fn query(
        &self,
        more: Vec<SelectItem>,
        others: Vec<TableWithJoins>,
        selection: Option<Expr>,
    ) -> Result<Query, SqlError> {
        let mut query = template()?;
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(SqlError::internal("the template is a SELECT"));
        };
        let positions = [FILE_COLUMN, POSITION_COLUMN].map(|name| SelectItem::ExprWithAlias {
            expr: self.column(name),
            alias: Ident::with_quote('"', name),
        });
        select.projection = positions.into_iter().chain(more).collect();
        self.point_at_target(&mut select.from)?;
        select.from.extend(others);
        select.selection = selection;
        Ok(query)
    }

    /// A qualified column of the target.
    pub fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![self.alias.clone(), Ident::with_quote('"', name)])
    }

    fn point_at_target(&self, from: &mut [TableWithJoins]) -> Result<(), SqlError> {
        let [TableWithJoins { relation: TableFactor::Table { name, alias, .. }, .. }] = from else {
            return Err(SqlError::internal("the template reads one table"));
        };
        let parts = [TARGET.to_owned(), self.relation.id.to_string()];
        let parts = parts.map(|part| ObjectNamePart::Identifier(Ident::with_quote('"', part)));
        *name = ObjectName(parts.to_vec());
        if let Some(alias) = alias {
            alias.name = self.alias.clone();
        }
        Ok(())
    }
}

/// `name` as a quoted identifier.
pub fn quoted(name: &str) -> ast::Ident {
    Ident::with_quote('"', name)
}
