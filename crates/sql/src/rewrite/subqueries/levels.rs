//! Refuses aggregates that belong to a query around the subquery that they are in.
//!
//! An aggregate over columns of an outer query alone is computed there, over the rows of that query.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::shape::{has_subquery, refers_outside};
use tidemark_pg::error::SqlError;

/// Fails if a subquery in the plan has such an aggregate.
pub fn check_levels(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else {
            return Ok(TreeNodeRecursion::Continue);
        };
        if aggregate.aggr_expr.iter().any(is_of_outer_query) {
            let error = SqlError::unsupported("an aggregate over columns of an outer query alone");
            return Err(error
                .hint("It is computed over the rows of that query: compute it there.")
                .into());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn is_of_outer_query(aggregate: &Expr) -> bool {
    refers_outside(aggregate) && !aggregate.any_column_refs() && !has_subquery(aggregate)
}
