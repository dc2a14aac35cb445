//! `INSERT`, `TRUNCATE`, and the path of all new rows: source plan, defaults, types, files, commit.

use std::sync::Arc;

use datafusion::common::{DFSchema, ParamValues, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{Expr, lit};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use sqlparser::ast::{self, Query, SetExpr};

use super::dml::{Changed, Changes, RowChange};
use super::keys::{self, FewKeys};
use super::returning::{Recorder, Returning};
use super::rows::Conform;
use super::target::{InsertTarget, Target, default_of, is_default};
use super::writes::Staged;
use super::{Outcome, Reply, literals};
use crate::parser::{self, Insert, InsertSource, RelationName};
use crate::planner::{Parameters, Planner};
use crate::planning_state::PlanningState;
use crate::read_view::ReadView;
use crate::session::Session;
use crate::trees::{self, cast};
use crate::{Frontend, resolve, rewrite};
use tidemark_engine::meta::command::{TableWrite, WrittenKeys};
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::memory::doubling;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::spelling::sql_type;

impl Frontend {
    pub(super) async fn insert(
        &self,
        session: &mut Session,
        insert: &Insert,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        session.check_writable("INSERT")?;
        let planner = self.planner(session);
        let target = InsertTarget::find(&planner, insert)?;
        let returning =
            Returning::planned(insert.returning.as_ref(), &target.into, &planner, parameters)
                .await?;
        if let Some(on) = &insert.on_conflict {
            let work = self.insert_on_conflict(&planner, insert, target, on, parameters, returning);
            return Box::pin(work).await?.reply("INSERT 0");
        }
        let recorder = Recorder::new(returning.as_ref());
        let rows = recorder.tap(source_rows(&planner, insert, &target, parameters).await?);
        let mut change = self.stage_insert(&planner, &target.into, rows).await?;
        // Its subqueries read the view that the source was read from.
        let answer = recorder.answer(&planner, parameters).await?;
        let changed = self.change_rows(&planner, target.into.relation.id, &mut change).await?;
        Changed { answer, ..changed }.reply("INSERT 0")
    }

    /// Inserts the rows of `plan` into the target's columns. Returns the number of rows.
    pub(super) async fn insert_plan(
        &self,
        planner: &Planner,
        state: PlanningState,
        target: &InsertTarget,
        plan: LogicalPlan,
        values: ParamValues,
    ) -> Result<u64, SqlError> {
        let rows = table_rows(planner, state, target, plan, values).await?;
        let mut change = self.stage_insert(planner, &target.into, rows).await?;
        let changed = self.change_rows(planner, target.into.relation.id, &mut change).await?;
        Ok(changed.count)
    }

    /// Stages the rows of an `INSERT`, which have the table's schema.
    async fn stage_insert<'a>(
        &self,
        planner: &Planner,
        into: &'a Target,
        rows: SendableRecordBatchStream,
    ) -> Result<InsertRows<'a>, SqlError> {
        let staged = self.stage(planner, into.relation.id, &into.table, rows).await?;
        let few = FewKeys::of(&into.table, staged.few.as_ref());
        let keys = keys::written_keys(&into.table, few.as_ref());
        Ok(InsertRows { into, staged, few, keys })
    }

    /// `TRUNCATE`: ends the lifetime of all files of the tables, in one commit.
    pub(super) async fn truncate(
        &self,
        session: &mut Session,
        tables: &[RelationName],
    ) -> Result<Reply, SqlError> {
        session.check_writable("TRUNCATE")?;
        let planner = self.planner(session);
        let mut writes = vec![];
        for name in tables {
            let target = Target::named(&planner, name)?;
            let mut write = TableWrite::to(&target.relation);
            write.truncate = true;
            writes.push(write);
        }
        self.commit(&planner, writes, vec![]).await?;
        Ok(Outcome::done("TRUNCATE TABLE").into())
    }
}

/// Staged rows; existing rows with the same keys die in the same epoch.
struct InsertRows<'a> {
    into: &'a Target,
    staged: Staged,
    few: Option<FewKeys>,
    keys: WrittenKeys,
}

impl RowChange for InsertRows<'_> {
    fn attempt<'a>(
        &'a mut self,
        _frontend: &'a Frontend,
        planner: &'a Planner,
    ) -> BoxFuture<'a, Result<Changes, SqlError>> {
        self.find_overwritten(planner).boxed()
    }

    /// Writers of a few keys rarely conflict, and can share a commit with others.
    fn locks_first(&self) -> bool {
        self.keys == WrittenKeys::Any && !self.staged.files.is_empty()
    }

    fn keeps_files(&self) -> bool {
        true
    }

    fn may_succeed_in(&self, newest: &ReadView) -> bool {
        self.into.is_unchanged_in(newest)
    }
}

impl InsertRows<'_> {
    async fn find_overwritten(&self, planner: &Planner) -> Result<Changes, SqlError> {
        let Target { relation, table, .. } = self.into;
        let files = &self.staged.files;
        let mut write = TableWrite::to(relation);
        write.keys = self.keys.clone();
        write.born.clone_from(files);
        if !table.primary_key.is_empty() && !files.is_empty() {
            write.dead_rows =
                keys::overwritten(planner, relation, table, files, self.few.as_ref()).await?;
        }
        let changed = Changed { count: self.staged.rows, answer: None };
        Ok(Changes { write, staged: vec![self.staged.ids()], changed })
    }
}

/// Returns the rows of an `INSERT` in the table's schema.
pub async fn source_rows(
    planner: &Planner,
    insert: &Insert,
    target: &InsertTarget,
    parameters: &Parameters,
) -> Result<SendableRecordBatchStream, SqlError> {
    if let Some(rows) = literals::rows(insert, target, parameters)? {
        let schema = rows.schema();
        return Ok(Box::pin(MemoryStream::try_new(vec![rows], schema, None)?));
    }
    let state = planner.state();
    let plan = match insert_query(insert, target) {
        Some(query) => planner.plan(&state, &query, &parameters.types).await?,
        None => LogicalPlanBuilder::empty(true).build()?,
    };
    table_rows(planner, state, target, plan, parameters.values.clone()).await
}

/// Runs `plan` and returns its rows in the table's schema.
async fn table_rows(
    planner: &Planner,
    state: PlanningState,
    target: &InsertTarget,
    plan: LogicalPlan,
    values: ParamValues,
) -> Result<SendableRecordBatchStream, SqlError> {
    let plan = complete(&state, target, plan)?;
    let rows = planner.execute(state, plan, values).await?;
    let conform = Conform::of(&target.into);
    conform.check_types(rows.schema().fields().iter())?;
    Ok(conformed(conform, rows))
}

/// Returns the query of an `INSERT` with each bare `DEFAULT` replaced; `None` for `DEFAULT VALUES`.
pub fn insert_query(insert: &Insert, target: &InsertTarget) -> Option<Query> {
    let InsertSource::Query(query) = &insert.source else { return None };
    let mut query = Query::clone(query);
    if let SetExpr::Values(values) = query.body.as_mut() {
        for row in &mut values.rows {
            let cells = row.content.iter_mut().zip(&target.columns);
            for (cell, column) in cells.filter(|(cell, _)| is_default(cell)) {
                let default = target.into.table.columns[*column].default.as_deref();
                *cell = default_of(default);
            }
        }
        agree(values, target);
    }
    Some(query)
}

/// Casts cells in columns of `VALUES` that mix quoted literals with other expressions, so that a literal gets
/// the column's type.
fn agree(values: &mut ast::Values, target: &InsertTarget) {
    for (index, column) in target.columns.iter().enumerate() {
        let column_type = &target.into.table.columns[*column].column_type;
        let cells = || values.rows.iter().filter_map(|row| row.content.get(index));
        let is_text = matches!(column_type, ColumnType::Text | ColumnType::Varchar(_));
        let is_mixed = cells().any(is_quoted) || (is_text && values.rows.len() > 1);
        if !(is_mixed && cells().any(|cell| !is_quoted(cell) && !is_null(cell))) {
            continue;
        }
        for cell in values.rows.iter_mut().filter_map(|row| row.content.get_mut(index)) {
            let wanted =
                if is_text { !is_quoted(cell) } else { is_quoted(cell) || is_number(cell) };
            if wanted {
                // Without its length: a cast would cut what an assignment refuses.
                let to = if is_text { &ColumnType::Text } else { column_type };
                *cell = cast(trees::take(cell), sql_type(to));
            }
        }
    }
}

fn is_quoted(cell: &ast::Expr) -> bool {
    matches!(cell, ast::Expr::Value(v) if matches!(v.value, ast::Value::SingleQuotedString(_)))
}

fn is_number(cell: &ast::Expr) -> bool {
    match cell {
        ast::Expr::Value(v) => matches!(v.value, ast::Value::Number(..)),
        ast::Expr::UnaryOp { expr, .. } => is_number(expr),
        _ => false,
    }
}

fn is_null(cell: &ast::Expr) -> bool {
    matches!(cell, ast::Expr::Value(v) if v.value == ast::Value::Null)
}

/// Builds a plan with all columns of the table: those from `plan`, and defaults or nulls for the others.
fn complete(
    state: &SessionState,
    target: &InsertTarget,
    plan: LogicalPlan,
) -> Result<LogicalPlan, SqlError> {
    // A plan without columns stands for DEFAULT VALUES: one row of defaults.
    let given = plan.schema().columns();
    let everything_defaults = given.is_empty();
    if !everything_defaults && given.len() != target.columns.len() {
        let more = given.len() > target.columns.len();
        let message = if more {
            "INSERT has more expressions than target columns"
        } else {
            "INSERT has more target columns than expressions"
        };
        // As in PostgreSQL, missing trailing columns get their defaults if there is no column list.
        let trailing = !more && target.columns.len() == target.into.table.columns.len();
        if !trailing {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
    }
    let mut exprs = vec![];
    for (at, column) in target.into.table.columns.iter().enumerate() {
        let source = target.columns.iter().position(|given| *given == at);
        let source = source.and_then(|index| given.get(index));
        let expr = match source {
            Some(source) => Expr::Column(source.clone()),
            None => default_expr(state, column.default.as_deref())?,
        };
        exprs.push(expr.alias(format!("\u{1}{at}")));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// Plans the expression of a `DEFAULT`; without one it is null.
pub fn default_expr(state: &SessionState, default: Option<&str>) -> Result<Expr, SqlError> {
    match default {
        None => Ok(lit(ScalarValue::Null)),
        Some(sql) => {
            let mut expr = parser::parse_expression(sql)?
                .ok_or_else(|| SqlError::internal("a stored default cannot be parsed"))?;
            doubling::check(&expr)?;
            rewrite::expr(&mut expr).map_err(SqlError::elsewhere)?;
            resolve::literals::type_numbers(&mut expr);
            rewrite::own_names(&mut expr, state);
            let with_alias = ast::ExprWithAlias { expr, alias: None };
            Ok(state.create_logical_expr_from_sql_expr(with_alias, &DFSchema::empty())?)
        }
    }
}

/// Converts the rows of a source to rows of the table.
pub fn conformed(conform: Conform, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = Arc::clone(conform.schema());
    let rows = rows.and_then(move |batch| {
        let conformed = conform.apply(batch.columns()).map_err(Into::into);
        async move { conformed }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}
