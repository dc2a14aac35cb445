//! Rewrites subqueries to forms that DataFusion can run.
//!
//! This pass works on the logical plan, not on the syntax tree: only the plan shows which columns come from
//! the outer query and how many rows are possible. It runs after DataFusion's analyzer rules, and innermost
//! subqueries first.
//!
//! DataFusion's own rules make joins of some subqueries, and exact ones if the subquery only compares columns
//! in `WHERE` (`shape`). Those are brought into a form that they understand (`scope`):
//!
//! - `ORDER BY y LIMIT 1` becomes an aggregate.
//! - `EXISTS` in a select list becomes a comparison of row counts.
//! - `IN` is a join where null and false are the same: as a condition of `WHERE` that is not negated. Elsewhere
//!   it becomes `CASE` over the rows that are equal and those that may be, since the join's mark is never null.
//! - Over an aggregate without groups, which has one row for each outer row, `EXISTS` is true, and `IN` a
//!   comparison with its value.
//!
//! All others become joins here (`unnest`), as do those in places that DataFusion's rules do not look
//! at, and every `LATERAL`.

mod levels;
mod scope;
mod shape;

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias,
    Union, Values, cast,
};
use datafusion::optimizer::AnalyzerRule;

use super::unnest::{Outer, outer_columns};
pub use levels::check_levels;
use scope::Scope;
use shape::{has_subquery, is_left_alone, refers_outside, subqueries_of};
use tidemark_pg::error::SqlError;

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
    let unwrapped = unwrap_inputs(node)?;
    let changed = unwrapped.transformed;
    let mut rewritten = rewrite_node(unwrapped.data, aliases)?;
    rewritten.transformed |= changed;
    Ok(rewritten)
}

fn rewrite_node(node: LogicalPlan, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(join) if is_lateral(&join.right) => {
            lateral(join, aliases).map(Transformed::yes)
        }
        LogicalPlan::Values(values) if values.values.iter().flatten().any(has_subquery) => {
            self::values(&values, aliases).map(Transformed::yes)
        }
        node if !has_foreign(&node)? => Ok(Transformed::no(node)),
        LogicalPlan::Projection(projection) => {
            self::projection(projection, aliases).map(Transformed::yes)
        }
        LogicalPlan::Filter(filter) => self::filter(filter, aliases).map(Transformed::yes),
        LogicalPlan::Join(join) => on(join, aliases).map(Transformed::yes),
        other if other.inputs().len() == 1 => hoist(other, aliases).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    }
}

/// Whether a node has subqueries that are not just values that the engine computes once.
fn has_foreign(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        for subquery in subqueries_of(expr) {
            found |= !is_left_alone(&subquery)?;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn projection(node: Projection, aliases: &AliasGenerator) -> Result<LogicalPlan> {
    let (exprs, input) = operands_first(node.expr, Arc::unwrap_or_clone(node.input), aliases)?;
    let mut scope = Scope::new(input, false, &exprs, aliases)?;
    let names = NamePreserver::new_for_projection();
    let exprs = exprs.into_iter().map(|expr| {
        let name = names.save(&expr);
        scope.rewrite(expr).map(|expr| name.restore(expr))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(scope.outer.joined))?))
}

fn filter(node: Filter, aliases: &AliasGenerator) -> Result<LogicalPlan> {
    let columns = node.input.schema().columns();
    let input = Arc::unwrap_or_clone(node.input);
    let (exprs, input) = operands_first(vec![node.predicate], input, aliases)?;
    let mut scope = Scope::new(input, true, &exprs, aliases)?;
    let conditions = exprs.into_iter().map(|condition| scope.rewrite_condition(condition, true));
    let conditions = conditions.collect::<Result<Vec<_>>>()?;
    let filtered = LogicalPlanBuilder::from(scope.outer.joined);
    let filtered = match conjunction(conditions) {
        Some(condition) => filtered.filter(condition)?.build()?,
        None => filtered.build()?,
    };
    only(filtered, columns)
}

/// The plan with these of its columns.
fn only(plan: LogicalPlan, columns: Vec<Column>) -> Result<LogicalPlan> {
    if plan.schema().columns() == columns {
        return Ok(plan);
    }
    LogicalPlanBuilder::from(plan).project(columns.into_iter().map(Expr::Column))?.build()
}

/// Whether an operand becomes a column before it is compared: the engine's subqueries do not see those in it, it
/// confuses keys of a join that differ only in casts, and it takes one that turns out to be null for a row that
/// equals none.
fn is_computed_first(operand: &Expr) -> bool {
    let is_constant = !operand.any_column_refs() && !refers_outside(operand);
    has_subquery(operand) || !(is_column(operand) || is_constant)
}

const fn is_column(operand: &Expr) -> bool {
    matches!(operand, Expr::Column(_) | Expr::OuterReferenceColumn(..))
}

/// Computes such operands of `IN` and `ANY` below the node.
fn operands_first(
    exprs: Vec<Expr>,
    input: LogicalPlan,
    aliases: &AliasGenerator,
) -> Result<(Vec<Expr>, LogicalPlan)> {
    let mut operands = vec![];
    let mut column = |operand: Expr| {
        let name = aliases.next("__operand");
        operands.push(operand.alias(&name));
        Expr::Column(Column::new_unqualified(name))
    };
    let names = NamePreserver::new_for_projection();
    let exprs = exprs.into_iter().map(|expr| {
        let name = names.save(&expr);
        let replaced = expr.transform_up(|inner| match inner {
            Expr::InSubquery(mut within) if is_computed_first(&within.expr) => {
                within.expr = Box::new(column(*within.expr));
                Ok(Transformed::yes(Expr::InSubquery(within)))
            }
            Expr::SetComparison(mut compared) if !is_column(&compared.expr) => {
                compared.expr = Box::new(column(*compared.expr));
                Ok(Transformed::yes(Expr::SetComparison(compared)))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(name.restore(replaced.data()?))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let input = with_columns(input, operands, aliases)?;
    Ok((exprs, input))
}

/// Adds columns, whose subqueries are rewritten, to a plan.
fn with_columns(
    input: LogicalPlan,
    more: Vec<Expr>,
    aliases: &AliasGenerator,
) -> Result<LogicalPlan> {
    if more.is_empty() {
        return Ok(input);
    }
    let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    exprs.extend(more);
    projection(Projection::try_new(exprs, Arc::new(input))?, aliases)
}

/// Makes projections of the rows: the engine computes `VALUES` before it runs subqueries.
fn values(node: &Values, aliases: &AliasGenerator) -> Result<LogicalPlan> {
    let inputs = node.values.iter().map(|row| {
        let cells = row.iter().zip(node.schema.fields());
        let cells =
            cells.map(|(cell, f)| cast(cell.clone(), f.data_type().clone()).alias(f.name()));
        let one = Arc::new(LogicalPlanBuilder::empty(true).build()?);
        projection(Projection::try_new(cells.collect(), one)?, aliases).map(Arc::new)
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    match <[Arc<LogicalPlan>; 1]>::try_from(inputs) {
        Ok([only]) => Ok(Arc::unwrap_or_clone(only)),
        Err(inputs) => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)),
    }
}

/// Computes the subqueries of a node below it.
fn hoist(node: LogicalPlan, aliases: &AliasGenerator) -> Result<LogicalPlan> {
    let (shown, mut more) = (node.schema().columns(), vec![]);
    let names = NamePreserver::new(&node);
    let exprs = node.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        let replaced = expr.transform_down(|inner| {
            if !subqueries_of(&inner).is_empty() && shape::is_subquery(&inner) {
                let name = aliases.next("__hoisted");
                more.push(inner.alias(&name));
                let column = Expr::Column(Column::new_unqualified(name));
                return Ok(Transformed::new(column, true, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::no(inner))
        });
        Ok(name.restore(replaced.data()?))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let Some(input) = node.inputs().first().map(|input| LogicalPlan::clone(input)) else {
        return Ok(node);
    };
    let input = match input {
        LogicalPlan::Projection(below) if sees_below(&more, &node, &below)? => {
            let exprs = below.expr.into_iter().chain(more).collect();
            projection(Projection::try_new(exprs, below.input)?, aliases)?
        }
        input => with_columns(input, more, aliases)?,
    };
    only(node.with_new_exprs(exprs, vec![input])?, shown)
}

/// Whether subqueries in `ORDER BY` refer to columns that the select list leaves out.
fn sees_below(exprs: &[Expr], node: &LogicalPlan, below: &Projection) -> Result<bool> {
    let mut columns = vec![];
    for subquery in exprs.iter().flat_map(subqueries_of) {
        columns.extend(outer_columns(&subquery.plan)?);
    }
    let all_in = |plan: &LogicalPlan| columns.iter().all(|c| plan.schema().has_column(c));
    let shown = columns.iter().all(|c| below.schema.has_column(c));
    Ok(matches!(node, LogicalPlan::Sort(_)) && !shown && all_in(&below.input))
}

/// Computes the subqueries of `ON` before the join, or, where that is the same, after it.
fn on(join: Join, aliases: &AliasGenerator) -> Result<LogicalPlan> {
    let shown = join.schema.columns();
    let parts = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
    let (foreign, rest): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(has_subquery);
    if join.join_type == JoinType::Inner {
        let joined = LogicalPlan::Join(Join { filter: conjunction(rest), ..join });
        let Some(condition) = conjunction(foreign) else { return Ok(joined) };
        return filter(Filter::try_new(condition, Arc::new(joined))?, aliases);
    }
    let (mut of_left, mut of_right, mut conditions) = (vec![], vec![], rest);
    for condition in foreign {
        let side = match sides(&condition, &join)? {
            (true, true) => {
                let what = "a subquery in ON of an outer join that refers to both sides";
                return Err(SqlError::unsupported(what).into());
            }
            (true, false) => &mut of_left,
            _ => &mut of_right,
        };
        let name = aliases.next("__on");
        side.push(condition.alias(&name));
        conditions.push(Expr::Column(Column::new_unqualified(name)));
    }
    let left = with_columns(Arc::unwrap_or_clone(join.left), of_left, aliases)?;
    let right = with_columns(Arc::unwrap_or_clone(join.right), of_right, aliases)?;
    let joined = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on,
        conjunction(conditions),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    only(LogicalPlan::Join(joined), shown)
}

/// Whether a condition, and the subqueries in it, refer to the left and the right side of a join.
fn sides(condition: &Expr, join: &Join) -> Result<(bool, bool)> {
    let mut columns: Vec<Column> = condition.column_refs().into_iter().cloned().collect();
    for subquery in subqueries_of(condition) {
        columns.extend(outer_columns(&subquery.plan)?);
    }
    let any = |plan: &LogicalPlan| columns.iter().any(|column| plan.schema().has_column(column));
    Ok((any(&join.left), any(&join.right)))
}

/// Joins the left side with a right side that refers to it.
fn lateral(join: Join, aliases: &AliasGenerator) -> Result<LogicalPlan> {
    let shown = join.schema.columns();
    let (left, right) =
        (Arc::unwrap_or_clone(join.left), unwrap(Arc::unwrap_or_clone(join.right))?);
    let refers = outer_columns(&right)?.iter().any(|column| left.schema().has_column(column));
    let conditions = join.on.into_iter().map(|(left, right)| left.eq(right)).chain(join.filter);
    let condition = conjunction(conditions.collect::<Vec<_>>());
    if !refers {
        let joined = LogicalPlanBuilder::from(left).join_on(right, join.join_type, condition)?;
        return rewrite(joined.build()?, aliases).data();
    }
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Err(SqlError::unsupported("LATERAL on the right of this kind of join").into());
    }
    if condition.as_ref().is_some_and(has_subquery) {
        return Err(SqlError::unsupported("a subquery in ON of a LATERAL join").into());
    }
    let values = right.schema().columns();
    let mut outer = Outer::new(left, aliases);
    outer.prepare(&[&right])?;
    let unnested = outer.unnest(&right, vec![])?;
    let columns = unnested.key_exprs().into_iter().chain(values.into_iter().map(Expr::Column));
    let results = LogicalPlanBuilder::from(unnested.rows.clone()).project(columns)?.build()?;
    outer.join_as_is(&unnested, results, join.join_type, condition)?;
    only(outer.joined, shown)
}

fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        _ => false,
    }
}

/// A plan without the mark of `LATERAL`.
fn unwrap(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(subquery) => Ok(Arc::unwrap_or_clone(subquery.subquery)),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
            let input = unwrap(Arc::unwrap_or_clone(input))?;
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias)?))
        }
        other => Ok(other),
    }
}

/// Removes the mark where there is nothing on the left: the input refers to an outer query, as any other.
fn unwrap_inputs(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Subquery(_) => Ok(Transformed::no(node)),
        LogicalPlan::Join(mut join) if is_lateral(&join.left) => {
            join.left = Arc::new(unwrap(Arc::unwrap_or_clone(join.left))?);
            Ok(Transformed::yes(LogicalPlan::Join(join)))
        }
        LogicalPlan::Join(_) => Ok(Transformed::no(node)),
        node => node.map_children(|input| {
            if is_lateral(&input) {
                unwrap(input).map(Transformed::yes)
            } else {
                Ok(Transformed::no(input))
            }
        }),
    }
}
