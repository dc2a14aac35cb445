//! Keeps filters above aggregates that have a row even of no rows.
//!
//! The engine pushes conditions without columns, such as `NULL`, below every aggregate. One without groups, or with
//! an empty grouping set, then counts no rows and still has its row, which the condition was to remove. A limit that
//! limits nothing stops the condition; it is there for the rule that pushes filters alone.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, GroupingSet, Limit, LogicalPlan};
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rule that pushes filters, with such aggregates closed to it.
pub(super) fn held(rule: Rule) -> Vec<Rule> {
    match rule.name() {
        "push_down_filter" => vec![Arc::new(HoldFilters), rule, Arc::new(EliminateLimit::new())],
        _ => vec![rule],
    }
}

#[derive(Debug)]
struct HoldFilters;

impl OptimizerRule for HoldFilters {
    fn name(&self) -> &'static str {
        "hold_filters"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if has_row_of_none(&aggregate.group_expr) => {
                let limit = Limit { skip: None, fetch: None, input: Arc::new(plan) };
                Ok(Transformed::yes(LogicalPlan::Limit(limit)))
            }
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// Whether there is a group without keys.
fn has_row_of_none(groups: &[Expr]) -> bool {
    groups.iter().all(|group| match group {
        Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => sets.iter().any(Vec::is_empty),
        Expr::GroupingSet(GroupingSet::Rollup(_) | GroupingSet::Cube(_)) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::col;

    #[test]
    fn groups_without_keys_are_found() {
        let sets = |sets| Expr::GroupingSet(GroupingSet::GroupingSets(sets));
        assert!(has_row_of_none(&[]));
        assert!(has_row_of_none(&[sets(vec![vec![col("a")], vec![]])]));
        assert!(has_row_of_none(&[Expr::GroupingSet(GroupingSet::Rollup(vec![col("a")]))]));
        assert!(!has_row_of_none(&[sets(vec![vec![col("a")]])]));
        assert!(!has_row_of_none(&[
            col("b"),
            Expr::GroupingSet(GroupingSet::Cube(vec![col("a")]))
        ]));
    }
}
