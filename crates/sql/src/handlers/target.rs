//! The target of an `INSERT`: its table, the given columns, and column defaults.

use std::sync::Arc;

use sqlparser::ast;

use crate::parser::{self, folded};
use tidemark_ledger::catalog::{Relation, Table};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// The table that rows are inserted into, and the columns that are given.
#[derive(Clone, Debug)]
pub struct InsertTarget {
    pub relation: Arc<Relation>,
    pub table: Arc<Table>,
    /// Indexes of the given columns in the table.
    pub columns: Vec<usize>,
}

impl InsertTarget {
    pub fn new(relation: Arc<Relation>, names: &[String]) -> Result<Self, SqlError> {
        let table =
            relation.as_table().ok_or_else(|| SqlError::internal("a view takes no rows"))?;
        let table = Arc::new(table.clone());
        let columns = if names.is_empty() {
            (0..table.columns.len()).collect()
        } else {
            named_columns(&table, &relation.name, names)?
        };
        Ok(Self { relation, table, columns })
    }
}

fn named_columns(table: &Table, relation: &str, names: &[String]) -> Result<Vec<usize>, SqlError> {
    let mut places = vec![];
    for name in names {
        let place = table.columns.iter().position(|c| c.name == *name).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" of relation \"{relation}\" does not exist"),
            )
        })?;
        if places.contains(&place) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        places.push(place);
    }
    Ok(places)
}

/// Parses an expression; `None` if it is invalid.
pub fn parse_expr(sql: &str) -> Option<ast::Expr> {
    parser::parse_expression(sql).ok().flatten()
}

pub fn is_default(cell: &ast::Expr) -> bool {
    matches!(cell, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && folded(ident) == "default")
}

/// The expression that replaces `DEFAULT` in a statement.
pub fn default_of(default: Option<&str>) -> ast::Expr {
    let null = || ast::Expr::Value(ast::Value::Null.with_empty_span());
    default.and_then(parse_expr).unwrap_or_else(null)
}
