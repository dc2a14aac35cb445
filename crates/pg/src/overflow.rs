//! Arithmetic that neither wraps nor becomes infinite: `2147483647 + 1`, `1e308 * 10` and `1 / 0.0::float8` are
//! errors, as in PostgreSQL.
//!
//! DataFusion wraps, and divides floats by zero. After type coercion, operators of integers and of floats
//! become calls of functions that check their results. Arithmetic of other types fails on overflow already.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, Datum, PrimitiveArray,
};
use datafusion::arrow::compute::kernels::numeric::{add, div, mul, sub};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::error::SqlError;
use crate::kept_names::map_expressions;
use crate::order_keys::plain_nans;
use crate::sqlstate::SqlState;
use crate::types::arrow::name_of;

/// Replaces operators with checking functions.
#[derive(Debug)]
pub struct CheckedArithmetic {
    functions: [(Operator, Kernel, Arc<ScalarUDF>); 4],
}

impl Default for CheckedArithmetic {
    fn default() -> Self {
        let functions = [
            (Operator::Plus, Kernel::Add),
            (Operator::Minus, Kernel::Sub),
            (Operator::Multiply, Kernel::Mul),
            (Operator::Divide, Kernel::Div),
        ];
        Self {
            functions: functions.map(|(operator, kernel)| (operator, kernel, Checked::udf(kernel))),
        }
    }
}

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| self.rewrite(plan)).data()
    }
}

impl CheckedArithmetic {
    fn rewrite(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let schema = merge_schema(&plan.inputs());
        map_expressions(plan, |expr| expr.transform_up(|expr| self.check(expr, &schema)))
    }

    fn check(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let (left, wanted, right) = match &expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => (Expr::clone(left), *op, right),
            // The least integer has no counterpart.
            Expr::Negative(value) => match value.get_type(schema).ok().as_ref().and_then(zero_of) {
                Some(zero) => (Expr::Literal(zero, None), Operator::Minus, value),
                None => return Ok(Transformed::no(expr)),
            },
            _ => return Ok(Transformed::no(expr)),
        };
        let function = self.functions.iter().find(|(operator, ..)| *operator == wanted);
        // An expression whose type depends on an outer query is left unchanged.
        let (Some((_, kernel, function)), Ok(left_type), Ok(right_type)) =
            (function, left.get_type(schema), right.get_type(schema))
        else {
            return Ok(Transformed::no(expr));
        };
        if left_type != right_type || !kernel.is_unchecked(&left_type) {
            return Ok(Transformed::no(expr));
        }
        let args = vec![left, Expr::clone(right)];
        let call = ScalarFunction::new_udf(Arc::clone(function), args);
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

/// What a number is taken from to negate it; `0 - 0` would not be -0.
fn zero_of(data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Float32 => Some(ScalarValue::from(-0.0_f32)),
        DataType::Float64 => Some(ScalarValue::from(-0.0_f64)),
        integer if integer.is_integer() => ScalarValue::new_zero(integer).ok(),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kernel {
    Add,
    Sub,
    Mul,
    Div,
}

impl Kernel {
    /// Whether the engine does not check the operator for a type.
    fn is_unchecked(self, of: &DataType) -> bool {
        of.is_floating() || of.is_integer() && self != Self::Div
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
        }
    }

    fn apply(self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Add => add(left, right),
            Self::Sub => sub(left, right),
            Self::Mul => mul(left, right),
            Self::Div => div(left, right),
        }
    }

    /// Applies the operator, and refuses results that are no numbers although the operands are.
    fn checked(self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef> {
        let results = match self.apply(left, right) {
            Err(ArrowError::ArithmeticOverflow(_)) => return Err(integer_overflow(left).into()),
            results => results?,
        };
        match results.data_type() {
            DataType::Float32 => self.check::<Float32Type>(left, right, &results)?,
            DataType::Float64 => self.check::<Float64Type>(left, right, &results)?,
            _ => return Ok(results),
        }
        Ok(plain_nans(results))
    }

    fn check<F: ArrowPrimitiveType>(
        self,
        left: &dyn Datum,
        right: &dyn Datum,
        results: &ArrayRef,
    ) -> Result<()>
    where
        F::Native: Into<f64>,
    {
        let results = results.as_primitive::<F>();
        // All results but very few need no second look.
        let is_suspect = |result: f64| !result.is_finite() || result == 0.0;
        if !results.values().iter().any(|result| is_suspect((*result).into())) {
            return Ok(());
        }
        let (left, right) = (Floats::<F>::of(left), Floats::<F>::of(right));
        for row in (0..results.len()).filter(|row| results.is_valid(*row)) {
            let result = results.value(row).into();
            if is_suspect(result) {
                self.check_one(left.at(row), right.at(row), result)?;
            }
        }
        Ok(())
    }

    fn check_one(self, left: f64, right: f64, result: f64) -> Result<(), SqlError> {
        if self == Self::Div && right == 0.0 && !left.is_nan() {
            return Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        let out_of_range = |what: &str| {
            let message = format!("value out of range: {what}");
            Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
        };
        if result.is_infinite() && left.is_finite() && right.is_finite() {
            return out_of_range("overflow");
        }
        match self {
            Self::Mul if result == 0.0 && left != 0.0 && right != 0.0 => out_of_range("underflow"),
            Self::Div if result == 0.0 && left != 0.0 && right.is_finite() => {
                out_of_range("underflow")
            }
            _ => Ok(()),
        }
    }
}

fn integer_overflow(operand: &dyn Datum) -> SqlError {
    let name = name_of(operand.get().0.data_type(), None);
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{name} out of range"))
}

/// The floats of an operand, of which there is only one if it is a constant.
struct Floats<'a, F: ArrowPrimitiveType> {
    values: &'a PrimitiveArray<F>,
    is_constant: bool,
}

impl<'a, F: ArrowPrimitiveType> Floats<'a, F>
where
    F::Native: Into<f64>,
{
    fn of(operand: &'a dyn Datum) -> Self {
        let (values, is_constant) = operand.get();
        Self { values: values.as_primitive::<F>(), is_constant }
    }

    fn at(&self, row: usize) -> f64 {
        self.values.value(if self.is_constant { 0 } else { row }).into()
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
            _ => exec_err!("the checked {} takes two numbers of one type", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("the checked {} takes two arguments", self.name());
        };
        let both_scalar =
            matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let value = self.kernel.checked(&*datum(left)?, &*datum(right)?)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Scalar};

    fn divided(left: f64, right: f64) -> Result<f64> {
        let (left, right) = (Float64Array::from(vec![left]), Float64Array::from(vec![right]));
        Ok(Kernel::Div.checked(&left, &Scalar::new(right))?.as_primitive::<Float64Type>().value(0))
    }

    #[test]
    fn every_nan_is_the_same() {
        for (left, right) in [(f64::INFINITY, f64::INFINITY), (1.0, -f64::NAN)] {
            assert!(divided(left, right).unwrap().is_sign_positive());
        }
    }

    #[test]
    fn results_of_floats_are_checked() {
        assert_eq!(divided(1.0, 4.0).unwrap(), 0.25);
        assert_eq!(divided(0.0, 4.0).unwrap(), 0.0);
        assert_eq!(divided(1.0, f64::INFINITY).unwrap(), 0.0);
        assert_eq!(divided(f64::INFINITY, 2.0).unwrap(), f64::INFINITY);
        assert!(divided(f64::NAN, 0.0).unwrap().is_nan());
        for (left, right) in [(1.0, 0.0), (0.0, 0.0), (1e308, 1e-10), (1e-300, 1e300)] {
            divided(left, right).unwrap_err();
        }
        let big = Float64Array::from(vec![1e308]);
        Kernel::Add.checked(&big, &big).unwrap_err();
        Kernel::Mul.checked(&big, &big).unwrap_err();
    }
}
