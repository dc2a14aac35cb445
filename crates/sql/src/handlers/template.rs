//! A query template, for building queries without naming every field of the syntax tree.

use sqlparser::ast::Query;

use crate::parser::{self, Statement};
use tidemark_pg::error::SqlError;

/// Parses `SELECT 1 FROM t AS t`.
pub(super) fn template() -> Result<Query, SqlError> {
    let statement = parser::parse("SELECT 1 FROM t AS t")?.into_iter().next();
    match statement.map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(SqlError::internal("the template is a query")),
    }
}
