//! Reads string literals that are cast to a type: PostgreSQL reads them when it parses the query, so that a wrong
//! one is an error with a position even if it is never evaluated.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringViewArray};
use sqlparser::ast::{Expr, Spanned as _};

use super::operators::as_string;
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::text_input::parse_column;

/// Longest literal that is read here: longer ones are read once, when they are evaluated.
const BYTES_MAX: usize = 1 << 10;

/// Fails if `value` is a string literal that is not a value of `target`, whatever its length or precision.
pub fn check(value: &Expr, target: &ColumnType) -> Result<(), SqlError> {
    let Some(text) = as_string(value).filter(|text| text.len() <= BYTES_MAX) else { return Ok(()) };
    let column: ArrayRef = Arc::new(StringViewArray::from(vec![text]));
    match parse_column(&column, &without_modifier(target)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = value.span().start;
            Err(error.at(at.line, at.column))
        }
    }
}

fn without_modifier(target: &ColumnType) -> ColumnType {
    match target {
        ColumnType::Varchar(_) => ColumnType::Text,
        ColumnType::Array(element) => ColumnType::Array(Box::new(without_modifier(element))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::string;

    #[test]
    fn only_literals_that_are_no_values_fail() {
        let check = |text: &str, target: ColumnType| check(&string(text), &target).is_ok();
        assert!(check("12", ColumnType::Integer));
        assert!(!check("x", ColumnType::Integer));
        assert!(check("too long", ColumnType::Varchar(Some(3))));
        assert!(check("{1,2}", ColumnType::Array(Box::new(ColumnType::Integer))));
        assert!(!check("{1,x}", ColumnType::Array(Box::new(ColumnType::Integer))));
    }
}
