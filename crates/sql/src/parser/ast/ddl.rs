//! Statements that define tables and views.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Visit, Visitor};

use super::RelationName;
use tidemark_ledger::catalog::ColumnType;

#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    pub name: RelationName,
    pub if_not_exists: bool,
    pub source: TableSource,
}

/// Where the columns of a new table come from.
#[derive(Clone, Debug, PartialEq)]
pub enum TableSource {
    Columns {
        columns: Vec<ColumnDefinition>,
        /// Empty without a primary key.
        primary_key: Vec<String>,
    },
    /// `AS query`: the columns and the first rows are those of the query.
    Query(Box<Query>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDefinition {
    pub name: String,
    pub column_type: ColumnType,
    pub not_null: bool,
    pub default: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    pub name: RelationName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// Names of the first columns; may be fewer than the query has.
    pub columns: Vec<String>,
    pub query: Box<Query>,
    /// The text of the query as written.
    pub query_text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlterTable {
    pub name: RelationName,
    pub if_exists: bool,
    pub operation: AlterOperation,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AlterOperation {
    AddColumn { if_not_exists: bool, column: Box<ColumnDefinition> },
    DropColumn { if_exists: bool, name: String },
    RenameColumn { from: String, to: String },
    RenameTable { to: String },
    SetDataType { column: String, column_type: ColumnType },
}

impl Visit for CreateTable {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let Self { name: _, if_not_exists: _, source } = self;
        match source {
            TableSource::Columns { columns, primary_key: _ } => columns.visit(visitor),
            TableSource::Query(query) => query.visit(visitor),
        }
    }
}

impl Visit for ColumnDefinition {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let Self { name: _, column_type: _, not_null: _, default } = self;
        default.visit(visitor)
    }
}
