//! Functions whose results may be much larger than their arguments: the result size is checked before the
//! call.
//!
//! `sizes` computes an upper bound of the result for each such function. [`CountedFunctions`] wraps every
//! call of one in a `counted::Counted`, and so it does with the operators that concatenate strings.

mod counted;
mod exact;
mod folding;
mod made;
mod pieces;
mod sizes;
mod windows;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};

pub use folding::without_long_texts;
pub use made::Made;
pub use pieces::InPieces;

use crate::error::SqlError;
use crate::memory::StatementMemory;
use crate::sqlstate::SqlState;

/// Wraps the calls. Runs after type coercion and before anything is evaluated, and again after the optimizer,
/// which adds calls.
#[derive(Debug, Default)]
pub struct CountedFunctions;

impl AnalyzerRule for CountedFunctions {
    fn name(&self) -> &str {
        "counted_functions"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let memory = StatementMemory::of(config);
        plan.transform_up_with_subqueries(|plan| rewrite(plan, memory)).data()
    }
}

impl OptimizerRule for CountedFunctions {
    fn name(&self) -> &str {
        "counted_functions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        rewrite(plan, StatementMemory::of(&config.options()))
    }
}

fn rewrite(
    plan: LogicalPlan,
    memory: Option<&Arc<StatementMemory>>,
) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        // An expression whose type depends on an outer query is left unchanged.
        let is_text = |expr: &Expr| expr.get_type(&schema).is_ok_and(|found| found.is_string());
        let counted = expr.transform_up(|expr| Ok(count(expr, &is_text, memory)))?;
        Ok(counted.update_data(|expr| name.restore(expr)))
    })
}

fn count(
    expr: Expr,
    is_text: &dyn Fn(&Expr) -> bool,
    memory: Option<&Arc<StatementMemory>>,
) -> Transformed<Expr> {
    let joins_text = matches!(&expr, Expr::BinaryExpr(BinaryExpr { op, .. })
        if *op == Operator::StringConcat && is_text(&expr));
    match expr {
        Expr::ScalarFunction(call) => match counted::around(&call.func) {
            None => Transformed::no(Expr::ScalarFunction(call)),
            Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, ..call })),
        },
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) if joins_text => {
            let call = ScalarFunction::new_udf(counted::joined(), vec![*left, *right]);
            Transformed::yes(Expr::ScalarFunction(call))
        }
        Expr::WindowFunction(call) => {
            match memory.and_then(|memory| windows::counted(&call, memory)) {
                None => Transformed::no(Expr::WindowFunction(call)),
                Some(counted) => Transformed::yes(Expr::WindowFunction(Box::new(counted))),
            }
        }
        other => Transformed::no(other),
    }
}

/// Whether a call failed because its result would have been too large.
fn is_too_much(error: &DataFusionError) -> bool {
    let sqlstate = match error.find_root() {
        DataFusionError::External(error) => error.downcast_ref::<SqlError>().map(|e| e.sqlstate),
        _ => None,
    };
    sqlstate == Some(SqlState::OUT_OF_MEMORY)
}

#[cfg(test)]
mod tests;
