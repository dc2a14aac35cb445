//! Comparisons of two operands.

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use super::operand::Operand;
use super::types::{Meeting, as_type, compared};
use tidemark_pg::error::SqlError;

/// Brings the operands of a comparison to one type.
///
/// # Errors
/// 42883 if there is no such comparison; the error of a literal that is no value of the other type.
pub fn compare(
    left: &mut Expr,
    right: &mut Expr,
    operands: &mut Operands,
    symbol: &str,
) -> Result<()> {
    operands.adopt(left, right)?;
    let (Operand::Typed(a), Operand::Typed(b)) = (&operands.left, &operands.right) else {
        return Ok(());
    };
    match compared(a, b) {
        Meeting::Never => return Err(operands.no_operator(symbol).into()),
        Meeting::As(common) => {
            *left = as_type(std::mem::take(left), a, &common)?;
            *right = as_type(std::mem::take(right), b, &common)?;
        }
        Meeting::AsIs => {}
    }
    Ok(())
}

/// The operands of a binary operator.
pub struct Operands {
    pub left: Operand,
    pub right: Operand,
}

impl Operands {
    pub fn of(left: &Expr, right: &Expr, schema: &DFSchema) -> Self {
        Self { left: Operand::of(left, schema), right: Operand::of(right, schema) }
    }

    /// Gives an untyped operand the type of the other one.
    fn adopt(&mut self, left: &mut Expr, right: &mut Expr) -> Result<()> {
        if let Some(known) = self.right.typed() {
            self.left.adopt(left, known)?;
        } else if let Some(known) = self.left.typed() {
            self.right.adopt(right, known)?;
        }
        Ok(())
    }

    pub fn no_operator(&self, symbol: &str) -> SqlError {
        let (left, right) = (self.left.name(), self.right.name());
        SqlError::undefined_operator(format!("{left} {symbol} {right}"))
    }
}
