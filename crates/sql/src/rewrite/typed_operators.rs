//! Operators whose meaning depends on the operand types: those of `jsonb`, of an array and an untyped
//! literal, of a date and an interval, and the subscript of a vector.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, ScalarUDF, cast, lit};
use sqlparser::ast::BinaryOperator;

use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::functions::{INTERVAL_ORDER, JSONB_CONCAT, JSONB_CONTAINS, first_subscript};
use tidemark_pg::query_runtime::check;
use tidemark_pg::text_input::{self, json};
use tidemark_pg::types::DeclaredType;

/// Resolves operators for DataFusion's planner.
#[derive(Debug)]
pub struct TypedOperators;

impl ExprPlanner for TypedOperators {
    fn plan_binary_op(
        &self,
        mut raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        // A long expression takes long to plan.
        check()?;
        let mut left = Operand::of(&raw.left, schema);
        let mut right = Operand::of(&raw.right, schema);
        if takes_literals(&raw.op) {
            let comparison = is_comparison(&raw.op);
            adopt(&mut raw.left, &mut left, &right, comparison)?;
            adopt(&mut raw.right, &mut right, &left, comparison)?;
        }
        if matches!(raw.op, BinaryOperator::Plus | BinaryOperator::Minus) {
            match (&left, &right) {
                (Operand::Date, Operand::Interval) => at_midnight(&mut raw.left),
                (Operand::Interval, Operand::Date) => at_midnight(&mut raw.right),
                _ => {}
            }
        }
        if is_comparison(&raw.op)
            && matches!((&left, &right), (Operand::Interval, Operand::Interval))
        {
            for side in [&mut raw.left, &mut raw.right] {
                *side = INTERVAL_ORDER.call(vec![std::mem::take(side)]);
            }
        }
        if !matches!((&left, &right), (Operand::Jsonb, Operand::Jsonb)) {
            return Ok(PlannerResult::Original(raw));
        }
        let RawBinaryExpr { op, left, right } = raw;
        Ok(match op {
            BinaryOperator::StringConcat => planned(&JSONB_CONCAT, left, right),
            BinaryOperator::AtArrow => planned(&JSONB_CONTAINS, left, right),
            BinaryOperator::ArrowAt => planned(&JSONB_CONTAINS, right, left),
            op => PlannerResult::Original(RawBinaryExpr { op, left, right }),
        })
    }

    /// Vectors count from 0, DataFusion's lists from 1.
    fn plan_field_access(
        &self,
        mut raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if let GetFieldAccess::ListIndex { key } = &mut raw.field_access
            && let Ok((_, field)) = raw.expr.to_field(schema)
        {
            let shift = 1 - i64::from(first_subscript(&field));
            if shift != 0 {
                **key = std::mem::take(key.as_mut()) + lit(shift);
            }
        }
        Ok(PlannerResult::Original(raw))
    }
}

fn planned(function: &Arc<ScalarUDF>, a: Expr, b: Expr) -> PlannerResult<RawBinaryExpr> {
    let call = ScalarFunction::new_udf(Arc::clone(function), vec![a, b]);
    PlannerResult::Planned(Expr::ScalarFunction(call))
}

/// The kind of an operand.
enum Operand {
    Jsonb,
    Boolean,
    Date,
    Interval,
    List(DataType),
    /// A quoted literal, which may be a value of any type.
    Literal(String),
    Other,
}

impl Operand {
    fn of(expr: &Expr, schema: &DFSchema) -> Self {
        if let Expr::Literal(value, _) = expr
            && let Some(Some(text)) = value.try_as_str()
        {
            return Self::Literal(text.to_owned());
        }
        let Ok((_, field)) = expr.to_field(schema) else { return Self::Other };
        match field.data_type() {
            DataType::Boolean => Self::Boolean,
            DataType::Date32 => Self::Date,
            DataType::Interval(_) => Self::Interval,
            DataType::List(_) => Self::List(field.data_type().clone()),
            text if text.is_string() && is_jsonb(&field) => Self::Jsonb,
            _ => Self::Other,
        }
    }
}

fn is_jsonb(field: &Field) -> bool {
    let declared = DeclaredType::of(field).and_then(DeclaredType::read_as);
    declared == Some(ColumnType::Jsonb)
}

const fn is_comparison(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

/// Operators with the same type on both sides, so that a literal is read as the type of the other operand.
const fn takes_literals(op: &BinaryOperator) -> bool {
    is_comparison(op)
        || matches!(
            op,
            BinaryOperator::And
                | BinaryOperator::Or
                | BinaryOperator::StringConcat
                | BinaryOperator::AtArrow
                | BinaryOperator::ArrowAt
        )
}

/// Gives a literal the type of the other operand.
fn adopt(expr: &mut Expr, operand: &mut Operand, other: &Operand, comparison: bool) -> Result<()> {
    let Operand::Literal(text) = &*operand else { return Ok(()) };
    match other {
        Operand::Jsonb => {
            *expr = lit(json::normalise(text)?);
            *operand = Operand::Jsonb;
        }
        Operand::Boolean => {
            *expr = Expr::Literal(parsed(text, &ColumnType::Boolean)?, None);
            *operand = Operand::Boolean;
        }
        Operand::List(list) => {
            let texts = parsed(text, &ColumnType::Array(Box::new(ColumnType::Text)))?;
            *expr = Expr::Literal(texts.cast_to(list)?, None);
            *operand = Operand::List(list.clone());
        }
        Operand::Interval if comparison => {
            *expr = Expr::Literal(parsed(text, &ColumnType::Interval)?, None);
            *operand = Operand::Interval;
        }
        Operand::Date | Operand::Interval | Operand::Literal(_) | Operand::Other => {}
    }
    Ok(())
}

/// Casts a date to a timestamp: a date and an interval add up to one. DataFusion would keep the date and lose
/// the hours.
fn at_midnight(date: &mut Expr) {
    *date = cast(std::mem::take(date), ColumnType::Timestamp.arrow_type());
}

fn parsed(text: &str, ty: &ColumnType) -> Result<ScalarValue> {
    let text: ArrayRef = Arc::new(StringViewArray::from_iter([Some(text)]));
    let value = text_input::parse_column(&text, ty)?;
    ScalarValue::try_from_array(&value, 0)
}
