//! Operators whose meaning depends on the types beside them: those of `jsonb`, and those of an array and a
//! literal that is only text so far.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringViewArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, lit};
use sqlparser::ast::BinaryOperator;

use crate::catalog::{ColumnType, SQL_TYPE_KEY};
use crate::frontend::error::SqlError;
use crate::frontend::functions::{JSONB_CONCAT, JSONB_CONTAINS};
use crate::frontend::text_input::{self, json};

/// Tells DataFusion's planner what the operators are.
#[derive(Debug)]
pub struct TypedOperators;

impl ExprPlanner for TypedOperators {
    fn plan_binary_op(
        &self,
        mut raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let mut left = Operand::of(&raw.left, schema);
        let mut right = Operand::of(&raw.right, schema);
        if takes_literals(&raw.op) {
            adopt(&mut raw.left, &mut left, &right)?;
            adopt(&mut raw.right, &mut right, &left)?;
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
}

fn planned(function: &Arc<ScalarUDF>, a: Expr, b: Expr) -> PlannerResult<RawBinaryExpr> {
    let call = ScalarFunction::new_udf(Arc::clone(function), vec![a, b]);
    PlannerResult::Planned(Expr::ScalarFunction(call))
}

/// What is known of one side.
enum Operand {
    Jsonb,
    List(DataType),
    /// Text in quotes, which may be a value of any type.
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
            DataType::List(_) => Self::List(field.data_type().clone()),
            text if text.is_string() && declared(field.metadata()) == Some("jsonb") => Self::Jsonb,
            _ => Self::Other,
        }
    }
}

fn declared(metadata: &std::collections::HashMap<String, String>) -> Option<&str> {
    metadata.get(SQL_TYPE_KEY).map(String::as_str)
}

/// Operators that have the same type on both sides, so that a literal is read as one of it.
const fn takes_literals(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
            | BinaryOperator::StringConcat
            | BinaryOperator::AtArrow
            | BinaryOperator::ArrowAt
    )
}

/// A literal takes the type of what stands on the other side.
fn adopt(expr: &mut Expr, operand: &mut Operand, other: &Operand) -> Result<()> {
    let Operand::Literal(text) = &*operand else { return Ok(()) };
    match other {
        Operand::Jsonb => {
            *expr = lit(json::normalise(text).map_err(SqlError::from)?);
            *operand = Operand::Jsonb;
        }
        Operand::List(list) => {
            *expr = Expr::Literal(array_literal(text, list)?, None);
            *operand = Operand::List(list.clone());
        }
        Operand::Literal(_) | Operand::Other => {}
    }
    Ok(())
}

/// The value of `'{1,2}'` as a list.
fn array_literal(text: &str, list: &DataType) -> Result<ScalarValue> {
    let text: ArrayRef = Arc::new(StringViewArray::from_iter([Some(text)]));
    let texts = ColumnType::Array(Box::new(ColumnType::Text));
    let elements = text_input::parse_column(&text, &texts).map_err(SqlError::from)?;
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let elements = cast_with_options(&elements, list, &strict)?;
    debug_assert_eq!(elements.len(), 1, "one literal is one array");
    ScalarValue::try_from_array(&elements, 0)
}
