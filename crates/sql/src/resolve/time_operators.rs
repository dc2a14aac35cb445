//! Operators of times and intervals, which become calls of our functions: DataFusion loses fractions, and has
//! neither products of intervals nor times that start again at midnight.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::ExprSchemable as _;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use sqlparser::ast::BinaryOperator;

use tidemark_pg::functions::time_operator;

/// Resolves them for DataFusion's planner.
#[derive(Debug)]
pub struct TimeOperators;

impl ExprPlanner for TimeOperators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let name = match raw.op {
            BinaryOperator::Plus => "plus",
            BinaryOperator::Minus => "minus",
            BinaryOperator::Multiply => "times",
            BinaryOperator::Divide => "divided",
            _ => return Ok(PlannerResult::Original(raw)),
        };
        let types = (raw.left.get_type(schema), raw.right.get_type(schema));
        let (Ok(left), Ok(right)) = types else { return Ok(PlannerResult::Original(raw)) };
        let swapped = match name {
            "plus" if is_interval(&right) && is_time(&left) => false,
            "plus" if is_interval(&left) && is_time(&right) => true,
            "minus" if is_interval(&right) && is_time(&left) => false,
            "minus" if is_stamp(&left) && is_stamp(&right) && left != right => false,
            "minus" if is_clock(&left) && left == right => false,
            "times" if is_interval(&left) && right.is_numeric() => false,
            "times" if is_interval(&right) && left.is_numeric() => true,
            "divided" if is_interval(&left) && right.is_numeric() => false,
            _ => return Ok(PlannerResult::Original(raw)),
        };
        let Some(function) = time_operator(name) else { return Ok(PlannerResult::Original(raw)) };
        let RawBinaryExpr { left, right, op } = raw;
        if !swapped {
            return Ok(PlannerResult::Planned(function.call(vec![left, right])));
        }
        // `i * 2` and `2 * i` are two columns, whose names must differ.
        let name = format!("{} {} {}", left.schema_name(), op, right.schema_name());
        Ok(PlannerResult::Planned(function.call(vec![right, left]).alias(name)))
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// Whether it is a date or a timestamp.
fn is_stamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
}

/// Whether the difference of two of this type is an interval; that of two dates is an integer.
fn is_clock(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Time64(_))
}

fn is_time(data_type: &DataType) -> bool {
    is_interval(data_type)
        || matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_))
}
