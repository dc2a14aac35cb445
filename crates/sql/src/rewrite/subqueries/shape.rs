//! What a subquery looks like: which subqueries the engine's own rules turn into exact joins.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Distinct, Expr, FetchType, Filter, Limit, LogicalPlan, Operator, Projection, SkipType,
};

use super::super::unnest::{is_correlated, is_volatile, outer_columns};
use tidemark_pg::order_keys::has_key;

/// A subquery in an expression.
pub(super) struct Found {
    pub(super) plan: LogicalPlan,
    is_scalar: bool,
}

pub(super) fn is_subquery(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
    )
}

pub(super) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|inner| Ok(is_subquery(inner))).unwrap_or(true)
}

/// The subqueries in an expression, but not those inside them.
pub(super) fn subqueries_of(expr: &Expr) -> Vec<Found> {
    let mut found = vec![];
    let walked = expr.apply(|inner| {
        let (subquery, is_scalar) = match inner {
            Expr::ScalarSubquery(subquery) => (subquery, true),
            Expr::Exists(exists) => (&exists.subquery, false),
            Expr::InSubquery(within) => (&within.subquery, false),
            Expr::SetComparison(compared) => (&compared.subquery, false),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        found.push(Found { plan: LogicalPlan::clone(&subquery.subquery), is_scalar });
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "looking never fails");
    found
}

/// Whether the engine computes the subquery once, wherever it is.
pub(super) fn is_left_alone(subquery: &Found) -> Result<bool> {
    Ok(subquery.is_scalar && may_be_null(&subquery.plan) && !is_correlated(&subquery.plan)?)
}

/// Whether the plan says that its value is null where it has no row.
pub(super) fn may_be_null(plan: &LogicalPlan) -> bool {
    is_only_group(plan, false) || plan.schema().fields().iter().all(|field| field.is_nullable())
}

/// Whether all columns that the plan takes from outside are of `input`.
pub(super) fn refers_only_to(plan: &LogicalPlan, input: &LogicalPlan) -> Result<bool> {
    Ok(outer_columns(plan)?.iter().all(|column| input.schema().has_column(column)))
}

/// Whether the plan takes columns from outside only to compare them in `WHERE`. `equal` says that it must
/// compare for equality.
pub(super) fn only_compares(plan: &LogicalPlan, equal: bool) -> Result<bool> {
    Ok(!is_volatile(plan)? && compares(plan, equal)?)
}

/// Below an alias, the engine loses the columns that are compared.
fn compares(plan: &LogicalPlan, equal: bool) -> Result<bool> {
    match plan {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let mut conditions = split_conjunction(predicate).into_iter();
            Ok((!equal || conditions.all(is_equality_or_local)) && compares(input, equal)?)
        }
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            Ok(!expr.iter().any(refers_outside) && compares(input, equal)?)
        }
        other => Ok(!is_correlated(other)?),
    }
}

/// Whether the plan is an aggregate without groups over a plan that compares for equality.
pub(super) fn is_simple_aggregate(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Ok(aggregate.group_expr.is_empty()
            && !aggregate.aggr_expr.iter().any(refers_outside)
            && only_compares(&aggregate.input, true)?),
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            Ok(!expr.iter().any(refers_outside) && is_simple_aggregate(input)?)
        }
        _ => Ok(false),
    }
}

pub(super) fn refers_outside(expr: &Expr) -> bool {
    let is_reference = |inner: &Expr| matches!(inner, Expr::OuterReferenceColumn(..));
    expr.exists(|inner| Ok(is_reference(inner))).unwrap_or(true)
}

fn is_equality_or_local(condition: &Expr) -> bool {
    if !refers_outside(condition) {
        return true;
    }
    match condition {
        _ if compares_by_key(condition) => false,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let sides = [left, right].map(|side| (refers_outside(side), side.any_column_refs()));
            matches!(sides, [(true, false), (false, true)] | [(false, true), (true, false)])
        }
        _ => false,
    }
}

/// Whether the condition takes values from outside that are compared by their keys, which are no columns.
fn compares_by_key(condition: &Expr) -> bool {
    let is_keyed = |inner: &Expr| match inner {
        Expr::OuterReferenceColumn(field, _) => has_key(field.data_type()),
        Expr::Cast(cast) => has_key(cast.field.data_type()),
        _ => false,
    };
    condition.exists(|inner| Ok(is_keyed(inner))).unwrap_or(true)
}

pub(super) fn is_first_row(limit: &Limit) -> Result<bool> {
    Ok(matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1)))
        && matches!(limit.get_skip_type()?, SkipType::Literal(0)))
}

/// Whether the plan has at most one row for each outer row.
pub(super) fn has_one_row(plan: &LogicalPlan) -> bool {
    is_only_group(plan, true) || plan.max_rows().is_some_and(|rows| rows <= 1)
}

/// Whether the plan is an aggregate without groups, below nodes that keep its one row. `filtered` says that the
/// row may be missing.
pub(super) fn is_only_group(plan: &LogicalPlan, filtered: bool) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Filter(filter) => filtered && is_only_group(&filter.input, filtered),
        LogicalPlan::Projection(Projection { input, .. }) => is_only_group(input, filtered),
        LogicalPlan::SubqueryAlias(alias) => is_only_group(&alias.input, filtered),
        LogicalPlan::Sort(sort) => is_only_group(&sort.input, filtered),
        LogicalPlan::Distinct(Distinct::All(input)) => is_only_group(input, filtered),
        _ => false,
    }
}
