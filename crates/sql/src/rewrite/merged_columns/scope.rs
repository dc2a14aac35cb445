//! The columns that a `FROM` clause offers, in the order of `SELECT *`.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, SelectItem, WildcardAdditionalOptions,
};
use sqlparser::ast::{SelectItemQualifiedWildcardKind, Value};

use crate::parser::folded;
use crate::trees::{balanced, binary, call, named, quoted};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// One column, or all columns of a relation whose columns are unknown.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The name or alias of the relation; a merged column has none.
    table: Option<Ident>,
    /// No name stands for all columns of a relation.
    name: Option<String>,
    /// What the column of `USING` is computed from.
    merged: Option<Expr>,
}

impl Item {
    fn expr(&self) -> Option<Expr> {
        let name = self.name.as_ref()?;
        Some(match (&self.merged, &self.table) {
            (Some(merged), _) => merged.clone(),
            (None, Some(table)) => Expr::CompoundIdentifier(vec![table.clone(), quoted(name)]),
            (None, None) => Expr::Identifier(quoted(name)),
        })
    }

    fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

/// What an unqualified name means in a scope.
pub(super) enum Meaning {
    Merged(Box<Expr>),
    /// An ordinary column, or maybe one.
    Column,
    Nothing,
}

/// Which side of a join a merged column takes its value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Scope(Vec<Item>);

impl Scope {
    /// The columns of a relation; `None` if they are unknown.
    pub(super) fn of_relation(table: Option<&Ident>, columns: Option<&[String]>) -> Self {
        let item = |name: Option<String>| Item { table: table.cloned(), name, merged: None };
        Self(match columns {
            Some(columns) => columns.iter().map(|name| item(Some(name.clone()))).collect(),
            None => vec![item(None)],
        })
    }

    pub(super) fn has_merged(&self) -> bool {
        self.0.iter().any(|item| item.merged.is_some())
    }

    pub(super) fn and(mut self, right: Self) -> Self {
        self.0.extend(right.0);
        self
    }

    pub(super) fn meaning(&self, name: &str) -> Meaning {
        let mut named = self.0.iter().filter(|item| item.is(name));
        match (named.next(), named.next()) {
            (Some(Item { merged: Some(merged), .. }), None) => {
                Meaning::Merged(Box::new(merged.clone()))
            }
            (None, _) if self.0.iter().all(|item| item.name.is_some()) => Meaning::Nothing,
            _ => Meaning::Column,
        }
    }

    /// The names of the columns; `None` if some are unknown.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        self.0.iter().map(|item| item.name.clone()).collect()
    }

    /// The names of the columns of one relation.
    pub(super) fn names_of(&self, table: &str) -> Option<Vec<String>> {
        let of_table = |item: &&Item| item.table.as_ref().is_some_and(|of| folded(of) == table);
        self.0.iter().filter(of_table).map(|item| item.name.clone()).collect()
    }

    /// `*` as the columns that it stands for.
    pub(super) fn select_items(&self) -> Vec<SelectItem> {
        let items = self.0.iter().map(|item| match (item.expr(), &item.name, &item.table) {
            (Some(expr), Some(name), _) if item.merged.is_some() => named(expr, name),
            (Some(expr), ..) => SelectItem::UnnamedExpr(expr),
            (None, _, Some(table)) => SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![table.clone()])),
                options(),
            ),
            (None, ..) => SelectItem::Wildcard(options()),
        });
        items.collect()
    }

    /// The names of the columns that both have, as `NATURAL` joins them.
    pub(super) fn common(&self, right: &Self) -> Option<Vec<String>> {
        let (left, right) = (self.names()?, right.names()?);
        Some(left.into_iter().filter(|name| right.contains(name)).collect())
    }

    /// Joins two scopes by the columns of these names; returns the condition too.
    pub(super) fn merge(
        mut self,
        mut right: Self,
        names: &[String],
        side: Side,
    ) -> Result<(Self, Expr), SqlError> {
        let (mut merged, mut equal) = (vec![], vec![]);
        for name in names {
            let (of_left, of_right) = (self.take(name, "left")?, right.take(name, "right")?);
            equal.push(binary(of_left.clone(), BinaryOperator::Eq, of_right.clone()));
            let value = match side {
                Side::Left => of_left,
                Side::Right => of_right,
                Side::Both => call("coalesce", vec![of_left, of_right]),
            };
            merged.push(Item { table: None, name: Some(name.clone()), merged: Some(value) });
        }
        let all = |left, right| binary(left, BinaryOperator::And, right);
        let condition = balanced(equal, all).unwrap_or_else(|| Expr::value(Value::Boolean(true)));
        Ok((Self(merged).and(self).and(right), condition))
    }

    /// Removes the only column of a name.
    fn take(&mut self, name: &str, side: &str) -> Result<Expr, SqlError> {
        let mut places = self.0.iter().enumerate().filter(|(_, item)| item.is(name));
        match (places.next().map(|(at, _)| at), places.next()) {
            (Some(at), None) => {
                let item = self.0.remove(at);
                item.expr().ok_or_else(|| SqlError::internal("a column without a name"))
            }
            (None, _) if self.names().is_none() => {
                Err(SqlError::unsupported("USING with a relation whose columns are not known"))
            }
            (None, _) => Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{name}\" specified in USING clause does not exist in {side} table"
                ),
            )),
            _ => Err(SqlError::new(
                SqlState::AMBIGUOUS_COLUMN,
                format!("common column name \"{name}\" appears more than once in {side} table"),
            )),
        }
    }
}

fn options() -> WildcardAdditionalOptions {
    WildcardAdditionalOptions {
        wildcard_token: AttachedToken::empty(),
        ..WildcardAdditionalOptions::default()
    }
}
