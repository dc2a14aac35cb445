//! Rewrites correlated subqueries to forms that DataFusion can turn into joins.
//!
//! This pass works on the logical plan, not on the syntax tree: only the plan shows which columns come from
//! the outer query and how many rows are possible. It runs after DataFusion's analyzer rules.
//!
//! - `ORDER BY y LIMIT 1` becomes an aggregate.
//! - A subquery that may return several rows is collected into an array, from which [`ONLY_ROW`] takes the
//!   only element: more than one is an error, but only for the outer rows that are evaluated.
//! - Over the system catalogs it becomes a lateral join, which has no restrictions on its conditions. Their
//!   keys ensure that there is one row.
//! - `EXISTS` and `IN` in a select list become comparisons of row counts.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::expr_fn::{array_agg, count, first_value};
use datafusion::logical_expr::expr::{Exists, InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, FetchType, Filter, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, Projection,
    SkipType, SortExpr, Subquery, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use crate::system_catalog;
use tidemark_pg::functions::ONLY_ROW;

/// The pass as an analyzer rule.
#[derive(Debug)]
pub struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &'static str {
        "subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let aliases = AliasGenerator::new();
        let rewritten = plan.transform_up_with_subqueries(|node| rewrite(node, &aliases))?;
        if !rewritten.transformed {
            return Ok(rewritten.data);
        }
        // The plan nodes above a changed one recompute which columns are nullable.
        let again = |node: LogicalPlan| node.recompute_schema().map(Transformed::yes);
        rewritten.data.transform_up_with_subqueries(again).data()
    }
}

fn rewrite(node: LogicalPlan, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Projection(projection) if projection.expr.iter().any(has_subquery) => {
            let Projection { expr, input, .. } = projection;
            let mut scope = Scope { input: Arc::unwrap_or_clone(input), counts: true, aliases };
            let names = NamePreserver::new_for_projection();
            let exprs = expr.into_iter().map(|expr| {
                let name = names.save(&expr);
                scope.rewrite(expr).map(|expr| name.restore(expr))
            });
            let exprs = exprs.collect::<Result<Vec<_>>>()?;
            let rewritten = Projection::try_new(exprs, Arc::new(scope.input))?;
            Ok(Transformed::yes(LogicalPlan::Projection(rewritten)))
        }
        LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => {
            let Filter { predicate, input, .. } = filter;
            let columns = input.schema().columns().into_iter().map(Expr::Column);
            let columns = columns.collect::<Vec<_>>();
            let mut scope = Scope { input: Arc::unwrap_or_clone(input), counts: false, aliases };
            let predicate = scope.rewrite(predicate)?;
            let joined = scope.input.schema().fields().len() != columns.len();
            let filtered = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(scope.input))?);
            if !joined {
                return Ok(Transformed::yes(filtered));
            }
            LogicalPlanBuilder::from(filtered).project(columns)?.build().map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let is_subquery = |inner: &Expr| {
        matches!(inner, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))
    };
    expr.exists(|inner| Ok(is_subquery(inner))).unwrap_or(true)
}

/// The expressions of one plan node and its input.
struct Scope<'a> {
    input: LogicalPlan,
    /// Whether `EXISTS` and `IN` are rewritten to counts: DataFusion only supports them in filters.
    counts: bool,
    aliases: &'a AliasGenerator,
}

impl Scope<'_> {
    fn rewrite(&mut self, expr: Expr) -> Result<Expr> {
        let rewritten = expr.transform_down(|expr| match expr {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                let value = self.scalar(subquery)?;
                Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
            }
            Expr::Exists(exists) if self.counts => {
                let Exists { subquery, negated } = exists;
                Ok(Transformed::new(counted(subquery, negated)?, true, TreeNodeRecursion::Jump))
            }
            Expr::InSubquery(within) if self.counts => Ok(Transformed::new(
                found_within(within, &self.input)?,
                true,
                TreeNodeRecursion::Jump,
            )),
            other => Ok(Transformed::no(other)),
        });
        rewritten.data()
    }

    fn scalar(&mut self, subquery: Subquery) -> Result<Expr> {
        let plan = first_of_limited(Arc::unwrap_or_clone(subquery.subquery))?;
        if is_empty(&plan) && !plan.schema().fields().is_empty() {
            return Ok(lit(ScalarValue::try_from(plan.schema().field(0).data_type())?));
        }
        let one_row = is_aggregated(&plan) || plan.max_rows().is_some_and(|rows| rows <= 1);
        let in_catalogs = !one_row && reads_only_catalogs(&plan)?;
        let [value] = <[Expr; 1]>::try_from(columns_of(&plan)).map_err(|columns| {
            let columns = columns.len();
            DataFusionError::Plan(format!("subquery must return only one column, not {columns}"))
        })?;
        if in_catalogs {
            return self.join(with_plan(subquery.outer_ref_columns, subquery.spans, plan));
        }
        if one_row {
            let plan = with_plan(subquery.outer_ref_columns, subquery.spans, plan);
            return Ok(Expr::ScalarSubquery(plan));
        }
        let all = LogicalPlanBuilder::from(plan).aggregate(no_groups(), [array_agg(value)])?;
        let all = with_plan(subquery.outer_ref_columns, subquery.spans, all.build()?);
        let only = ScalarFunction::new_udf(Arc::clone(&ONLY_ROW), vec![Expr::ScalarSubquery(all)]);
        Ok(Expr::ScalarFunction(only))
    }

    /// Joins the subquery to the input; returns its value as a column.
    fn join(&mut self, subquery: Subquery) -> Result<Expr> {
        let alias = self.aliases.next("__lateral");
        let right =
            LogicalPlanBuilder::from(LogicalPlan::Subquery(subquery)).alias(alias)?.build()?;
        let value = right.schema().columns().swap_remove(0);
        let input = std::mem::take(&mut self.input);
        self.input =
            LogicalPlanBuilder::from(input).join_on(right, JoinType::Left, [lit(true)])?.build()?;
        Ok(Expr::Column(value))
    }
}

fn with_plan(
    outer_ref_columns: Vec<Expr>,
    spans: datafusion::common::Spans,
    plan: LogicalPlan,
) -> Subquery {
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans }
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

const fn no_groups() -> [Expr; 0] {
    []
}

/// Rewrites `SELECT x ... ORDER BY y LIMIT 1` to `SELECT first_value(x ORDER BY y) ...`.
fn first_of_limited(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Limit(limit) = &plan else { return Ok(plan) };
    if !is_first_row(limit)? {
        return Ok(plan);
    }
    if limit.input.max_rows().is_some_and(|rows| rows <= 1) {
        return Ok(LogicalPlan::clone(&limit.input));
    }
    let (value, order_by, input) = sorted(&limit.input);
    let Some(value) = value else { return Ok(plan) };
    let first = first_value(value, order_by);
    LogicalPlanBuilder::from(input.clone()).aggregate(no_groups(), [first])?.build()
}

fn is_first_row(limit: &Limit) -> Result<bool> {
    Ok(matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1)))
        && matches!(limit.get_skip_type()?, SkipType::Literal(0)))
}

/// Splits a plan into the value of its rows, their order, and the input that has the columns of both.
fn sorted(plan: &LogicalPlan) -> (Option<Expr>, Vec<SortExpr>, &LogicalPlan) {
    match plan {
        LogicalPlan::Sort(sort) => {
            (columns_of(&sort.input).into_iter().next(), sort.expr.clone(), &sort.input)
        }
        LogicalPlan::Projection(Projection { expr, input, .. }) => match input.as_ref() {
            LogicalPlan::Sort(sort) => {
                let value = expr.first().map(|value| value.clone().unalias());
                (value, sort.expr.clone(), &sort.input)
            }
            _ => (columns_of(plan).into_iter().next(), vec![], plan),
        },
        _ => (columns_of(plan).into_iter().next(), vec![], plan),
    }
}

/// Whether the plan is an aggregate, possibly below nodes that only rename or filter its one row.
fn is_aggregated(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) => true,
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Filter(Filter { input, .. }) => is_aggregated(input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregated(&alias.input),
        _ => false,
    }
}

/// Whether the plan is empty for all outer rows; the rewrite to a join would lose it.
fn is_empty(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(empty) => !empty.produce_one_row,
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            is_empty(&join.left) || is_empty(&join.right)
        }
        LogicalPlan::Join(join) if join.join_type == JoinType::Left => is_empty(&join.left),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().all(is_empty),
        _ => false,
    }
}

/// Whether the plan reads nothing but system catalogs. Relations without rows appear as empty plans.
fn reads_only_catalogs(plan: &LogicalPlan) -> Result<bool> {
    let mut only = true;
    plan.apply_with_subqueries(|node| {
        only &= match node {
            LogicalPlan::TableScan(scan) => {
                system_catalog::is_system_table(source_as_provider(&scan.source)?.as_ref())
            }
            LogicalPlan::EmptyRelation(empty) => !empty.produce_one_row,
            node => !node.inputs().is_empty(),
        };
        Ok(if only { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(only)
}

/// Rewrites `EXISTS (query)` to `(SELECT count(*) > 0 FROM (query))`.
fn counted(subquery: Subquery, negated: bool) -> Result<Expr> {
    let Subquery { subquery, outer_ref_columns, spans } = subquery;
    let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery))
        .aggregate(no_groups(), [count(lit(1_i64))])?
        .build()?;
    let number = columns_of(&rows).swap_remove(0);
    let found = if negated { number.eq(lit(0_i64)) } else { number.gt(lit(0_i64)) };
    let found = LogicalPlanBuilder::from(rows).project([found])?.build()?;
    Ok(Expr::ScalarSubquery(with_plan(outer_ref_columns, spans, found)))
}

/// Rewrites `x IN (query)`: true if a row is equal, null if there is none but a null is involved, else false.
fn found_within(within: InSubquery, input: &LogicalPlan) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = within;
    let value = columns_of(&subquery.subquery).swap_remove(0);
    let mut outer = subquery.outer_ref_columns.clone();
    let wanted = expr.as_ref().clone().transform(|inner| match inner {
        Expr::Column(column) => {
            let field = Arc::clone(input.schema().qualified_field_from_column(&column)?.1);
            outer.push(Expr::OuterReferenceColumn(field, column));
            Ok(Transformed::yes(outer[outer.len() - 1].clone()))
        }
        other => Ok(Transformed::no(other)),
    });
    let wanted = wanted.data()?;
    let rows_where = |condition: Expr, outer: Vec<Expr>| {
        let rows = LogicalPlanBuilder::from(LogicalPlan::clone(&subquery.subquery));
        let rows = rows.filter(condition)?.build()?;
        counted(with_plan(outer, subquery.spans.clone(), rows), false)
    };
    let equal = rows_where(value.clone().eq(wanted), outer)?;
    let null = rows_where(value.is_null(), subquery.outer_ref_columns.clone())?;
    let any = counted(subquery.clone(), false)?;
    let unknown = null.or(expr.is_null().and(any));
    when(equal, lit(!negated))
        .when(unknown, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(negated))
}
