//! Resolves operators by the types of their operands, for the engine's planner.
//!
//! An untyped literal or parameter is read as the type of the other operand. Operands that meet as a third
//! type are cast to it. An operator that PostgreSQL does not have for the types is refused (42883).

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{Expr, ExprSchemable as _, GetFieldAccess, ScalarUDF, cast, lit};
use sqlparser::ast::BinaryOperator;

use super::comparison::{Operands, compare};
use super::operand::Operand;
use super::plan::settle;
use super::types::{Meeting, as_type, is_number, is_text, numbers};
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::{Bits, JSONB_CONCAT, JSONB_CONTAINS, first_subscript};
use tidemark_pg::query_runtime::check;
use tidemark_pg::sqlstate::SqlState;

/// Resolves operators for the engine's planner.
#[derive(Debug)]
pub struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        mut raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        // A long expression takes long to plan.
        check()?;
        for side in [&mut raw.left, &mut raw.right] {
            *side = settle(std::mem::take(side), schema)?;
        }
        let mut operands = Operands::of(&raw.left, &raw.right, schema);
        if let Some(bits) = of_bits(&raw.op) {
            return operands.of_bits(raw, bits).map(PlannerResult::Planned);
        }
        match raw.op {
            _ if is_comparison(&raw.op) => {
                compare(&mut raw.left, &mut raw.right, &mut operands, &raw.op.to_string())?;
            }
            _ if is_arithmetic(&raw.op) => operands.calculate(&mut raw)?,
            BinaryOperator::And | BinaryOperator::Or => {
                operands.left.adopt(&mut raw.left, &ColumnType::Boolean)?;
                operands.right.adopt(&mut raw.right, &ColumnType::Boolean)?;
            }
            BinaryOperator::StringConcat | BinaryOperator::AtArrow | BinaryOperator::ArrowAt => {
                operands.adopt_containers(&mut raw)?;
            }
            _ => {}
        }
        Ok(of_jsonb(raw, &operands))
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

/// The rules of operators that are no comparisons.
impl Operands {
    fn calculate(&mut self, raw: &mut RawBinaryExpr) -> Result<()> {
        if self.left.is_unknown() && self.right.is_unknown() {
            return Err(self.not_unique(&raw.op).into());
        }
        if let Some(wanted) = self.right.typed().and_then(|other| partner(&raw.op, other, true)) {
            self.left.adopt(&mut raw.left, &wanted)?;
        }
        if let Some(wanted) = self.left.typed().and_then(|other| partner(&raw.op, other, false)) {
            self.right.adopt(&mut raw.right, &wanted)?;
        }
        let (Operand::Typed(left), Operand::Typed(right)) = (&self.left, &self.right) else {
            return Ok(());
        };
        if !may_calculate(left) || !may_calculate(right) {
            return Err(self.no_operator(&raw.op.to_string()).into());
        }
        if is_number(left)
            && is_number(right)
            && let Meeting::As(common) = numbers(left, right)
        {
            raw.left = as_type(std::mem::take(&mut raw.left), left, &common)?;
            raw.right = as_type(std::mem::take(&mut raw.right), right, &common)?;
        }
        if matches!(raw.op, BinaryOperator::Plus | BinaryOperator::Minus) {
            match (left, right) {
                (ColumnType::Date, ColumnType::SmallInt | ColumnType::Integer) => {
                    days(&mut raw.right);
                }
                (ColumnType::SmallInt | ColumnType::Integer, ColumnType::Date) => {
                    days(&mut raw.left);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Calls the function of an operator of bits.
    fn of_bits(&mut self, mut raw: RawBinaryExpr, operator: Bits) -> Result<Expr> {
        let shifts = matches!(operator, Bits::Left | Bits::Right);
        if self.left.is_unknown() && self.right.is_unknown() {
            return Err(self.not_unique(&raw.op).into());
        }
        if let Some(known) = self.right.typed().cloned() {
            self.left.adopt(&mut raw.left, &known)?;
        } else if let Some(known) = self.left.typed().cloned() {
            let wanted = if shifts { ColumnType::Integer } else { known };
            self.right.adopt(&mut raw.right, &wanted)?;
        }
        let types = match (&self.left, &self.right) {
            (Operand::Typed(left), Operand::Typed(right)) => operator.operands(left, right),
            // The other one is NULL.
            (Operand::Typed(known), _) | (_, Operand::Typed(known)) => {
                operator.operands(known, if shifts { &ColumnType::Integer } else { known })
            }
            _ => None,
        };
        let Some([left, right]) = types else {
            return Err(self.no_operator(&raw.op.to_string()).into());
        };
        let args = vec![cast(raw.left, left.arrow_type()), cast(raw.right, right.arrow_type())];
        Ok(operator.function().call(args))
    }

    /// Reads a literal next to a document or an array as one.
    fn adopt_containers(&mut self, raw: &mut RawBinaryExpr) -> Result<()> {
        let is_container =
            |ty: &&ColumnType| matches!(ty, ColumnType::Jsonb | ColumnType::Array(_));
        if let Some(known) = self.right.typed().filter(is_container) {
            self.left.adopt(&mut raw.left, known)?;
        } else if let Some(known) = self.left.typed().filter(is_container) {
            self.right.adopt(&mut raw.right, known)?;
        }
        Ok(())
    }

    fn not_unique(&self, op: &BinaryOperator) -> SqlError {
        let (left, right) = (self.left.name(), self.right.name());
        let message = format!("operator is not unique: {left} {op} {right}");
        SqlError::new(SqlState::AMBIGUOUS_FUNCTION, message).hint(
            "Could not choose a best candidate operator. You might need to add explicit type casts.",
        )
    }
}

/// The type of an untyped operand of `op` next to one of type `other`.
fn partner(op: &BinaryOperator, other: &ColumnType, is_left: bool) -> Option<ColumnType> {
    match (op, other) {
        (_, number) if is_number(number) => Some(number.clone()),
        (BinaryOperator::Minus, ColumnType::Date) => Some(ColumnType::Date),
        (BinaryOperator::Plus, ColumnType::Timestamp | ColumnType::Timestamptz) => {
            Some(ColumnType::Interval)
        }
        (
            BinaryOperator::Minus,
            ColumnType::Timestamp | ColumnType::Timestamptz | ColumnType::Time,
        ) => Some(other.clone()),
        (BinaryOperator::Plus | BinaryOperator::Minus, ColumnType::Interval) => {
            Some(ColumnType::Interval)
        }
        (BinaryOperator::Multiply, ColumnType::Interval) => Some(ColumnType::Double),
        (BinaryOperator::Divide, ColumnType::Interval) if !is_left => Some(ColumnType::Double),
        _ => None,
    }
}

/// Whether values of a type are operands of any arithmetic.
fn may_calculate(column_type: &ColumnType) -> bool {
    !is_text(column_type) && !matches!(column_type, ColumnType::Boolean | ColumnType::Bytea)
}

/// Calls the functions of operators of two documents.
fn of_jsonb(raw: RawBinaryExpr, operands: &Operands) -> PlannerResult<RawBinaryExpr> {
    let is_jsonb = |operand: &Operand| operand.typed() == Some(&ColumnType::Jsonb);
    if !is_jsonb(&operands.left) || !is_jsonb(&operands.right) {
        return PlannerResult::Original(raw);
    }
    let RawBinaryExpr { op, left, right } = raw;
    match op {
        BinaryOperator::StringConcat => planned(&JSONB_CONCAT, left, right),
        BinaryOperator::AtArrow => planned(&JSONB_CONTAINS, left, right),
        BinaryOperator::ArrowAt => planned(&JSONB_CONTAINS, right, left),
        op => PlannerResult::Original(RawBinaryExpr { op, left, right }),
    }
}

fn planned(function: &Arc<ScalarUDF>, a: Expr, b: Expr) -> PlannerResult<RawBinaryExpr> {
    let call = ScalarFunction::new_udf(Arc::clone(function), vec![a, b]);
    PlannerResult::Planned(Expr::ScalarFunction(call))
}

const fn of_bits(op: &BinaryOperator) -> Option<Bits> {
    match op {
        BinaryOperator::BitwiseAnd => Some(Bits::And),
        BinaryOperator::BitwiseOr => Some(Bits::Or),
        BinaryOperator::PGBitwiseXor => Some(Bits::Xor),
        BinaryOperator::PGBitwiseShiftLeft => Some(Bits::Left),
        BinaryOperator::PGBitwiseShiftRight => Some(Bits::Right),
        _ => None,
    }
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

const fn is_arithmetic(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
    )
}

/// Widens the number of days that is added to a date: the engine adds none of four bytes.
fn days(number: &mut Expr) {
    *number = cast(std::mem::take(number), ColumnType::BigInt.arrow_type());
}
