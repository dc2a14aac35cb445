//! `INSERT … VALUES` of plain literals without a plan, the most common one-row statements.
//!
//! All other rows are planned by DataFusion. Both paths must yield the same rows, so this one only accepts
//! cells whose meaning is the same in both.

use std::cell::LazyCell;

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::common::{ParamValues, ScalarValue};
use sqlparser::ast::{Expr, SetExpr, UnaryOperator, Value};

use super::rows::Conform;
use super::target::{InsertTarget, is_default, parse_expr};
use crate::parser::{Insert, InsertSource};
use crate::planner::Parameters;
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;

/// With more rows than this, the cost of a plan is negligible.
const ROWS_MAX: usize = 256;

/// Returns the rows of the table. `None` if they need a plan.
pub fn rows(
    insert: &Insert,
    target: &InsertTarget,
    parameters: &Parameters,
) -> Result<Option<RecordBatch>, SqlError> {
    let Some(columns) = columns(insert, target, parameters) else { return Ok(None) };
    let conform = Conform::of(&target.into);
    conform.apply(&columns).map(Some)
}

fn columns(
    insert: &Insert,
    target: &InsertTarget,
    parameters: &Parameters,
) -> Option<Vec<ArrayRef>> {
    let InsertSource::Query(query) = &insert.source else { return None };
    let SetExpr::Values(values) = query.body.as_ref() else { return None };
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    let widths = values.rows.iter().all(|row| row.content.len() == target.columns.len());
    if !plain || !widths || values.rows.is_empty() || values.rows.len() > ROWS_MAX {
        return None;
    }
    let columns = target.into.table.columns.iter().enumerate().map(|(index, column)| {
        let default = LazyCell::new(|| match &column.default {
            None => Some(ScalarValue::Null),
            Some(sql) => literal(&parse_expr(sql)?, &column.column_type, parameters),
        });
        let given = target.columns.iter().position(|given| *given == index);
        let cell = |row: &Vec<Expr>| match given.map(|given| &row[given]) {
            Some(cell) if !is_default(cell) => literal(cell, &column.column_type, parameters),
            _ => default.clone(),
        };
        let cells = values.rows.iter().map(|row| cell(&row.content));
        array(cells.collect::<Option<Vec<_>>>()?, &column.column_type)
    });
    columns.collect()
}

/// Builds an array of values of one type or null. `None` if the types differ.
fn array(cells: Vec<ScalarValue>, column_type: &ColumnType) -> Option<ArrayRef> {
    let Some(found) = cells.iter().find(|cell| !cell.data_type().is_null()) else {
        return Some(new_null_array(&column_type.arrow_type(), cells.len()));
    };
    let data_type = found.data_type();
    let null = ScalarValue::try_from(&data_type).ok()?;
    let typed = cells.into_iter().map(|cell| match cell.data_type() {
        same if same == data_type => Some(cell),
        none if none.is_null() => Some(null.clone()),
        _ => None,
    });
    ScalarValue::iter_to_array(typed.collect::<Option<Vec<_>>>()?).ok()
}

/// The value of a literal for a column of this type. `None` if it needs a plan.
fn literal(cell: &Expr, column_type: &ColumnType, parameters: &Parameters) -> Option<ScalarValue> {
    match cell {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(ScalarValue::Null),
            Value::Boolean(value) => Some(ScalarValue::from(*value)),
            Value::SingleQuotedString(text) => Some(ScalarValue::Utf8View(Some(text.clone()))),
            Value::Number(digits, false) => number(digits.clone(), column_type),
            Value::Placeholder(name) => parameter(name, parameters),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => number(format!("-{digits}"), column_type),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn number(digits: String, column_type: &ColumnType) -> Option<ScalarValue> {
    let is_plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    match column_type {
        // Read as text of that type, a number keeps all its digits.
        ColumnType::Numeric(_) | ColumnType::Real | ColumnType::Double => {
            let is_zero = !digits.contains(|c: char| ('1'..='9').contains(&c));
            // A literal has no negative zero; its text form would.
            let digits = if is_zero { digits.replace('-', "") } else { digits };
            is_plain.then(|| ScalarValue::from(digits))
        }
        _ => digits.parse().ok().map(|number: i64| ScalarValue::from(number)),
    }
}

fn parameter(name: &str, parameters: &Parameters) -> Option<ScalarValue> {
    let number: usize = name.strip_prefix('$')?.parse().ok()?;
    match &parameters.values {
        ParamValues::List(values) => Some(values.get(number.checked_sub(1)?)?.value.clone()),
        ParamValues::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_their_column_makes_of_them() {
        let none = Parameters::none();
        let of = |sql, column_type| literal(&parse_expr(sql).unwrap(), &column_type, &none);
        assert_eq!(of("-5", ColumnType::BigInt), Some(ScalarValue::from(-5_i64)));
        assert_eq!(of("1.5", ColumnType::Numeric(None)), Some(ScalarValue::from("1.5")));
        assert_eq!(of("-0.0", ColumnType::Double), Some(ScalarValue::from("0.0")));
        assert_eq!(of("1.5", ColumnType::BigInt), None);
        assert_eq!(of("1e3", ColumnType::Double), None);
        assert_eq!(of("1 + 1", ColumnType::BigInt), None);
        assert_eq!(of("now()", ColumnType::Text), None);
        assert_eq!(of("'a'", ColumnType::Text), Some(ScalarValue::Utf8View(Some("a".into()))));
    }

    #[test]
    fn cells_of_one_column_are_of_one_type_or_null() {
        let column = ColumnType::BigInt;
        let one = || ScalarValue::from(1_i64);
        assert_eq!(array(vec![ScalarValue::Null, one()], &column).unwrap().null_count(), 1);
        assert!(array(vec![one(), ScalarValue::from("1")], &column).is_none());
        assert_eq!(array(vec![ScalarValue::Null; 2], &column).unwrap().len(), 2);
    }
}
