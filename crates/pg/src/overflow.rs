//! Integer arithmetic that does not wrap: `2147483647 + 1` is an error, as in PostgreSQL.
//!
//! DataFusion wraps. After type coercion, `+`, `-` and `*` of integers become calls of functions that check
//! for overflow. Arithmetic of other types fails on overflow already.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Datum};
use datafusion::arrow::compute::kernels::numeric::{add, mul, sub};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Replaces the wrapping operators with checking functions.
#[derive(Debug)]
pub struct CheckedIntegers {
    functions: [(Operator, Arc<ScalarUDF>); 3],
}

impl Default for CheckedIntegers {
    fn default() -> Self {
        let functions = [
            (Operator::Plus, Kernel::Add),
            (Operator::Minus, Kernel::Sub),
            (Operator::Multiply, Kernel::Mul),
        ];
        Self { functions: functions.map(|(operator, kernel)| (operator, Checked::udf(kernel))) }
    }
}

impl AnalyzerRule for CheckedIntegers {
    fn name(&self) -> &str {
        "checked_integers"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| self.rewrite(plan)).data()
    }
}

impl CheckedIntegers {
    fn rewrite(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let checked = expr.transform_up(|expr| self.check(expr, &schema))?;
            Ok(checked.update_data(|expr| name.restore(expr)))
        })
    }

    fn check(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let Some((_, function)) = self.functions.iter().find(|(known, _)| known == op) else {
            return Ok(Transformed::no(expr));
        };
        // An expression whose type depends on an outer query is left unchanged.
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema))
        else {
            return Ok(Transformed::no(expr));
        };
        if left_type != right_type || !left_type.is_integer() {
            return Ok(Transformed::no(expr));
        }
        let args = vec![Expr::clone(left), Expr::clone(right)];
        let call = ScalarFunction::new_udf(Arc::clone(function), args);
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kernel {
    Add,
    Sub,
    Mul,
}

impl Kernel {
    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
        }
    }

    fn apply(self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Add => add(left, right),
            Self::Sub => sub(left, right),
            Self::Mul => mul(left, right),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    kernel: Kernel,
    signature: Signature,
}

impl Checked {
    fn udf(kernel: Kernel) -> Arc<ScalarUDF> {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Self { kernel, signature }))
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.kernel.symbol()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [left, right] if left == right => Ok(left.clone()),
            _ => exec_err!("the checked {} takes two integers of one type", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("the checked {} takes two arguments", self.name());
        };
        let both_scalar =
            matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let value = self.kernel.apply(&*datum(left)?, &*datum(right)?)?;
        if both_scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?))
        } else {
            Ok(ColumnarValue::Array(value))
        }
    }
}

fn datum(value: &ColumnarValue) -> Result<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(array) => Box::new(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => Box::new(scalar.to_scalar()?),
    })
}
