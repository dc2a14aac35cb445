//! An operand as the rules of types see it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable as _};

use super::types::{is_text, sql_name};
use tidemark_ledger::catalog::{ColumnType, NUMERIC_PRECISION_MAX};
use tidemark_pg::error::SqlError;
use tidemark_pg::text_input::{self, json, numeric};
use tidemark_pg::types::DeclaredType;
use tidemark_pg::types::arrow::{column_type, name_of};

/// The type of an operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A quoted literal, which may be a value of any type.
    Literal(String),
    /// `NULL`, which is of any type.
    Null,
    /// A parameter without a type.
    Parameter,
    Typed(ColumnType),
    /// A type that no column has, by its name.
    Other(String),
}

impl Operand {
    pub fn of(expr: &Expr, schema: &DFSchema) -> Self {
        match expr {
            Expr::Literal(ScalarValue::Null, _) => return Self::Null,
            Expr::Literal(value, None) => {
                if let Some(Some(text)) = value.try_as_str() {
                    return Self::Literal(text.to_owned());
                }
            }
            Expr::Placeholder(Placeholder { field: None, .. }) => return Self::Parameter,
            _ => {}
        }
        let Ok((_, field)) = expr.to_field(schema) else {
            return Self::Other("unknown".to_owned());
        };
        let declared = DeclaredType::of(&field);
        match column_type(field.data_type(), declared) {
            _ if is_untyped(field.data_type()) => Self::Null,
            Some(column_type) => Self::Typed(column_type),
            None => Self::Other(name_of(field.data_type(), declared)),
        }
    }

    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Literal(_) | Self::Null | Self::Parameter)
    }

    pub const fn typed(&self) -> Option<&ColumnType> {
        match self {
            Self::Typed(column_type) => Some(column_type),
            _ => None,
        }
    }

    /// The name of the type in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Typed(column_type) => sql_name(column_type),
            Self::Other(name) => name.clone(),
            _ => "unknown".to_owned(),
        }
    }

    /// Gives an untyped operand a type: a literal is read, a parameter declared.
    pub fn adopt(&mut self, expr: &mut Expr, column_type: &ColumnType) -> Result<()> {
        match self {
            Self::Literal(text) => {
                if !is_text(column_type) {
                    *expr = Expr::Literal(read(text, column_type)?, None);
                }
            }
            Self::Parameter => {
                if let Expr::Placeholder(parameter) = expr {
                    let field = unlimited(column_type).field("", true);
                    parameter.field = Some(Arc::new(field));
                }
            }
            Self::Null | Self::Typed(_) | Self::Other(_) => return Ok(()),
        }
        *self = Self::Typed(column_type.clone());
        Ok(())
    }
}

/// Whether it is the type of `NULL`, or of an array without elements.
fn is_untyped(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(element) => is_untyped(element.data_type()),
        other => other.is_null(),
    }
}

/// The type without its limits: those of a column are not those of what it is compared with.
fn unlimited(column_type: &ColumnType) -> ColumnType {
    match column_type {
        ColumnType::Numeric(_) => ColumnType::Numeric(None),
        ColumnType::Varchar(_) => ColumnType::Varchar(None),
        ColumnType::Array(element) => ColumnType::Array(Box::new(unlimited(element))),
        other => other.clone(),
    }
}

/// Reads a literal.
fn read(text: &str, column_type: &ColumnType) -> Result<ScalarValue> {
    match column_type {
        ColumnType::Numeric(_) => Ok(numeric_of(text)?),
        ColumnType::Jsonb => Ok(ScalarValue::from(json::normalise(text)?)),
        other => {
            let text: ArrayRef = Arc::new(StringViewArray::from_iter([Some(text)]));
            let value = text_input::parse_column(&text, &unlimited(other))?;
            ScalarValue::try_from_array(&value, 0)
        }
    }
}

/// Reads a literal as a numeric of just its digits.
fn numeric_of(text: &str) -> std::result::Result<ScalarValue, SqlError> {
    let literal = numeric::literal(text)?;
    match literal.precision() <= i64::from(NUMERIC_PRECISION_MAX) {
        true => numeric::smallest_decimal(&literal),
        false => Err(numeric::too_large()),
    }
}
