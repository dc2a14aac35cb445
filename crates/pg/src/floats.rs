//! Casts numerics to floats in expressions that have both, as PostgreSQL does. DataFusion would cast the
//! float, which overflows, rounds, and makes different values equal.
//!
//! The pass runs before DataFusion's type coercion.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Between, Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;

/// Functions whose arguments and result share one type.
const OF_ONE_TYPE: [&str; 4] = ["coalesce", "nullif", "greatest", "least"];

/// The pass as an analyzer rule.
#[derive(Debug)]
pub struct CastNumericsToFloat;

impl AnalyzerRule for CastNumericsToFloat {
    fn name(&self) -> &'static str {
        "floats_win"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&scan.projected_schema);
    }
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let transformed = expr.transform_up(|expr| Ok(cast_operands(expr, &schema)))?;
        Ok(transformed.update_data(|expr| name.restore(expr)))
    })?;
    if rewritten.transformed {
        rewritten.map_data(LogicalPlan::recompute_schema)
    } else {
        Ok(rewritten)
    }
}

/// Casts the numeric operands of an expression to floats if it also has float operands.
fn cast_operands(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let mut operands: Vec<&mut Expr> = match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if op.is_numerical_operators() || op.supports_propagation() =>
        {
            vec![left, right]
        }
        Expr::Between(Between { expr, low, high, .. }) => vec![expr, low, high],
        Expr::InList(InList { expr, list, .. }) => {
            std::iter::once(expr.as_mut()).chain(list.iter_mut()).collect()
        }
        Expr::Case(Case { when_then_expr, else_expr, .. }) => {
            let results = when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            results.chain(else_expr.as_deref_mut()).collect()
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if OF_ONE_TYPE.contains(&func.name()) =>
        {
            args.iter_mut().collect()
        }
        _ => return Transformed::no(expr),
    };
    let types: Vec<Option<DataType>> =
        operands.iter().map(|operand| operand.get_type(schema).ok()).collect();
    let is_float = |found: &Option<DataType>| found.as_ref().is_some_and(DataType::is_floating);
    if !types.iter().any(is_float) {
        return Transformed::no(expr);
    }
    let mut changed = false;
    for (operand, found) in operands.iter_mut().zip(&types) {
        if found.as_ref().is_some_and(DataType::is_decimal) {
            **operand = cast(std::mem::take(*operand), DataType::Float64);
            changed = true;
        }
    }
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}
