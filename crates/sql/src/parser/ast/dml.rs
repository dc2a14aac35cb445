//! Statements that change rows: `INSERT`, `UPDATE` and `DELETE`.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, SelectItem, SetExpr, TableWithJoins, Visit, Visitor};

use super::RelationName;

/// The table a statement writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: RelationName,
    /// The name of the table in the statement, if it has another one there.
    pub alias: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    pub target: Target,
    /// Empty for all columns in order.
    pub columns: Vec<String>,
    pub source: InsertSource,
    pub on_conflict: Option<OnConflict>,
    pub returning: Option<Vec<SelectItem>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum InsertSource {
    DefaultValues,
    Query(Box<Query>),
}

/// `ON CONFLICT`; `key` are the columns of the constraint.
#[derive(Clone, Debug, PartialEq)]
pub enum OnConflict {
    /// Without a key, a conflict with any constraint.
    DoNothing {
        key: Option<Vec<String>>,
    },
    DoUpdate {
        key: Vec<String>,
        assignments: Vec<Assignment>,
        filter: Option<Box<Expr>>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub target: Target,
    pub assignments: Vec<Assignment>,
    pub from: Vec<TableWithJoins>,
    pub filter: Option<Expr>,
    pub returning: Option<Vec<SelectItem>>,
}

/// `column = value`; the value may be `DEFAULT`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub column: String,
    pub value: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    pub target: Target,
    pub using: Vec<TableWithJoins>,
    pub filter: Option<Expr>,
    pub returning: Option<Vec<SelectItem>>,
}

/// Most rows of an `INSERT` of literals that counts as little work.
const LITERAL_ROWS_MAX: usize = 64;

impl Insert {
    /// Whether it consists only of a few rows of literals and parameters.
    pub fn is_of_literals(&self) -> bool {
        let InsertSource::Query(query) = &self.source else { return false };
        let SetExpr::Values(values) = query.body.as_ref() else { return false };
        let is_literal = |cell: &Expr| match cell {
            Expr::UnaryOp { expr, .. } => matches!(**expr, Expr::Value(_)),
            cell => matches!(cell, Expr::Value(_)),
        };
        self.on_conflict.is_none()
            && self.returning.is_none()
            && values.rows.len() <= LITERAL_ROWS_MAX
            && values.rows.iter().all(|row| row.content.iter().all(is_literal))
    }
}

impl Visit for Insert {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let Self { target: _, columns: _, source, on_conflict, returning } = self;
        match source {
            InsertSource::DefaultValues => {}
            InsertSource::Query(query) => query.visit(visitor)?,
        }
        on_conflict.visit(visitor)?;
        returning.visit(visitor)
    }
}

impl Visit for OnConflict {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        match self {
            Self::DoNothing { key: _ } => ControlFlow::Continue(()),
            Self::DoUpdate { key: _, assignments, filter } => {
                assignments.visit(visitor)?;
                filter.visit(visitor)
            }
        }
    }
}

impl Visit for Update {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let Self { target: _, assignments, from, filter, returning } = self;
        assignments.visit(visitor)?;
        from.visit(visitor)?;
        filter.visit(visitor)?;
        returning.visit(visitor)
    }
}

impl Visit for Assignment {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let Self { column: _, value } = self;
        value.visit(visitor)
    }
}

impl Visit for Delete {
    fn visit<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let Self { target: _, using, filter, returning } = self;
        using.visit(visitor)?;
        filter.visit(visitor)?;
        returning.visit(visitor)
    }
}
