//! The target of a statement that writes: its table, the given columns, and column defaults.

use std::sync::Arc;

use sqlparser::ast::{Expr, Ident, Query, SelectItem, TableWithJoins};

use crate::parser::{self, Insert, RelationName, folded};
use crate::planner::Planner;
use crate::planner::catalog_provider::TARGET;
use crate::read_view::ReadView;
use crate::trees::{self, column, named, quoted};
use tidemark_engine::scan::{FILE_COLUMN, POSITION_COLUMN};
use tidemark_ledger::catalog::{Relation, SYSTEM_SCHEMAS, Table};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// The table that a statement writes to.
#[derive(Clone, Debug)]
pub struct Target {
    pub relation: Arc<Relation>,
    pub table: Arc<Table>,
    /// The name of its schema.
    pub schema: String,
    /// The name of the table in the statement.
    pub alias: Ident,
}

impl Target {
    /// Finds the table if the session may write to it.
    pub fn find(planner: &Planner, target: &parser::Target) -> Result<Self, SqlError> {
        let mut found = Self::named(planner, &target.name)?;
        if let Some(alias) = &target.alias {
            found.alias = quoted(alias);
        }
        Ok(found)
    }

    /// Finds the table of this name if the session may write to it.
    pub fn named(planner: &Planner, name: &RelationName) -> Result<Self, SqlError> {
        if name.schema.as_deref().is_some_and(|schema| SYSTEM_SCHEMAS.contains(&schema)) {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{name}\" is a system catalog"),
            ));
        }
        let relation = planner.relation(name).ok_or_else(|| {
            SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
        })?;
        let table = relation.as_table().ok_or_else(|| {
            let message = format!("cannot change view \"{name}\"");
            SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)
                .detail("Views are read-only.")
                .hint("Change the tables it reads.")
        })?;
        let schema = planner.view.catalog.schema_by_id(relation.schema_id);
        Ok(Self {
            schema: schema.map(|schema| schema.name.clone()).unwrap_or_default(),
            relation: Arc::clone(relation),
            table: Arc::new(table.clone()),
            alias: quoted(&relation.name),
        })
    }

    /// Whether the table still has this definition in `view`.
    pub fn is_unchanged_in(&self, view: &ReadView) -> bool {
        let now = view.catalog.relation_by_id(self.relation.id);
        now.is_some_and(|now| now.lifetime.born == self.relation.lifetime.born)
    }

    /// Builds `SELECT file, position, <more> FROM target, <others> WHERE <filter>`.
    pub fn query(
        &self,
        more: impl Iterator<Item = SelectItem>,
        others: &[TableWithJoins],
        filter: Option<&Expr>,
    ) -> Query {
        let position = [FILE_COLUMN, POSITION_COLUMN].map(|name| named(self.column(name), name));
        let name = [TARGET, &self.relation.id.to_string()];
        trees::select(position.into_iter().chain(more).collect())
            .from([trees::table(&name, Some(self.alias.clone()))])
            .from(others.iter().cloned())
            .filter(filter.cloned())
            .query()
    }

    /// A qualified column of the target.
    pub fn column(&self, name: &str) -> Expr {
        column(&self.alias, name)
    }
}

/// The table that rows are inserted into, and the columns that are given.
#[derive(Clone, Debug)]
pub struct InsertTarget {
    pub into: Target,
    /// Indexes of the given columns in the table.
    pub columns: Vec<usize>,
}

impl InsertTarget {
    /// The target of an `INSERT`.
    pub fn find(planner: &Planner, insert: &Insert) -> Result<Self, SqlError> {
        Self::new(Target::find(planner, &insert.target)?, &insert.columns)
    }

    /// Resolves the names of the given columns; without names, all columns are given.
    pub fn new(into: Target, names: &[String]) -> Result<Self, SqlError> {
        let columns = if names.is_empty() {
            (0..into.table.columns.len()).collect()
        } else {
            named_columns(&into.table, &into.relation.name, names)?
        };
        Ok(Self { into, columns })
    }
}

fn named_columns(table: &Table, relation: &str, names: &[String]) -> Result<Vec<usize>, SqlError> {
    let mut indices = vec![];
    for name in names {
        let index = table.columns.iter().position(|c| c.name == *name).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" of relation \"{relation}\" does not exist"),
            )
        })?;
        if indices.contains(&index) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        indices.push(index);
    }
    Ok(indices)
}

/// Parses a stored default; `None` if it is invalid.
pub fn parse_expr(sql: &str) -> Option<Expr> {
    parser::parse_expression(sql).ok().flatten()
}

pub fn is_default(cell: &Expr) -> bool {
    matches!(cell, Expr::Identifier(ident) if ident.quote_style.is_none() && folded(ident) == "default")
}

/// The expression that replaces `DEFAULT` in a statement.
pub fn default_of(default: Option<&str>) -> Expr {
    default.and_then(parse_expr).unwrap_or_else(trees::null)
}
