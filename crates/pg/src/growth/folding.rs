//! Keeps long texts out of logical plans: the optimizer copies a constant many times, into the names of the
//! expressions around it too, and nothing counts those copies.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Longer texts are computed by the physical plan.
pub const FOLDED_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static FOLDS: Cell<bool> = const { Cell::new(false) };
}

/// Whether a call on this thread is the optimizer's, which replaces the call by its result. A call that fails
/// stays in the plan.
pub fn is_folding() -> bool {
    FOLDS.get()
}

/// The optimizer's rule that replaces constant expressions by their values, but for long texts.
pub fn without_long_texts(
    rule: Arc<dyn OptimizerRule + Send + Sync>,
) -> Arc<dyn OptimizerRule + Send + Sync> {
    if rule.name() == "simplify_expressions" { Arc::new(Folding(rule)) } else { rule }
}

#[derive(Debug)]
struct Folding(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for Folding {
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
        // Arguments of aggregates and window functions, and limits, must be values.
        let needs_values = matches!(
            plan,
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Limit(_)
        );
        let _folds = (!needs_values).then(Folds::begin);
        self.0.rewrite(plan, config)
    }
}

/// Sets [`FOLDS`] while it lives, through a panic too.
struct Folds;

impl Folds {
    fn begin() -> Self {
        FOLDS.set(true);
        Self
    }
}

impl Drop for Folds {
    fn drop(&mut self) {
        FOLDS.set(false);
    }
}
