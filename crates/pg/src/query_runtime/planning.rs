//! Makes planning stoppable: a checkpoint before each rule.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;

use super::held_filters::held;
use crate::running::check;

type Analyzers = Vec<Arc<dyn AnalyzerRule + Send + Sync>>;
type Optimizers = Vec<Arc<dyn OptimizerRule + Send + Sync>>;
type PhysicalOptimizers = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// A rule that changes nothing and fails once the statement was stopped.
#[derive(Debug)]
struct Checkpoint;

/// Returns `rules` with a checkpoint before each.
pub fn analyzer_rules(rules: Analyzers) -> Analyzers {
    let checked = |rule| [Arc::new(Checkpoint) as Arc<dyn AnalyzerRule + Send + Sync>, rule];
    rules.into_iter().flat_map(checked).collect()
}

/// DataFusion's rules for logical plans, with a checkpoint before each.
pub fn optimizer_rules() -> Optimizers {
    let checked = |rule| [Arc::new(Checkpoint) as Arc<dyn OptimizerRule + Send + Sync>, rule];
    Optimizer::new().rules.into_iter().flat_map(held).flat_map(checked).collect()
}

/// DataFusion's rules for physical plans, with a checkpoint before each.
pub fn physical_rules() -> PhysicalOptimizers {
    let checked =
        |rule| [Arc::new(Checkpoint) as Arc<dyn PhysicalOptimizerRule + Send + Sync>, rule];
    PhysicalOptimizer::new().rules.into_iter().flat_map(checked).collect()
}

impl AnalyzerRule for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        check()?;
        Ok(plan)
    }
}

impl OptimizerRule for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        check()?;
        Ok(Transformed::no(plan))
    }
}

impl PhysicalOptimizerRule for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check()?;
        Ok(plan)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
