//! Keeps an optimizer rule from changing the type of sums.
//!
//! The rule computes aggregates of distinct values from groups of these values, and the other sums from sums of the
//! groups. In PostgreSQL a sum of sums has another type than a sum.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Returns the rule with its exception; other rules are returned as they are.
pub fn without_sums_of_sums(
    rule: Arc<dyn OptimizerRule + Send + Sync>,
) -> Arc<dyn OptimizerRule + Send + Sync> {
    if rule.name() == "single_distinct_aggregation_to_group_by" {
        Arc::new(WithoutSums(rule))
    } else {
        rule
    }
}

#[derive(Debug)]
struct WithoutSums(Arc<dyn OptimizerRule + Send + Sync>);

fn is_plain_sum(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(AggregateFunction { func, params })
        if func.name() == "sum" && !params.distinct)
}

impl OptimizerRule for WithoutSums {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(is_plain_sum) => {
                Ok(Transformed::no(plan))
            }
            _ => self.0.rewrite(plan, config),
        }
    }
}
