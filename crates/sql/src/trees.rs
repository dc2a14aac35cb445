//! Builds syntax trees, without naming every field of `sqlparser`'s structs.
//!
//! Statements are rewritten as trees and never as text: printing and parsing would be slower, and could mean
//! something else.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator,
    ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Value, Visit, Visitor,
};

/// A `SELECT` that is being built.
pub struct SelectTree(Select);

/// Starts `SELECT items`.
pub fn select(items: Vec<SelectItem>) -> SelectTree {
    SelectTree(Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: items,
        exclude: None,
        into: None,
        from: vec![],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    })
}

impl SelectTree {
    pub fn from(mut self, tables: impl IntoIterator<Item = TableWithJoins>) -> Self {
        self.0.from.extend(tables);
        self
    }

    pub fn filter(mut self, filter: Option<Expr>) -> Self {
        self.0.selection = filter;
        self
    }

    /// The `SELECT` as an operand of a set operation.
    pub fn body(self) -> SetExpr {
        SetExpr::Select(Box::new(self.0))
    }

    pub fn query(self) -> Query {
        Query {
            with: None,
            body: Box::new(self.body()),
            order_by: None,
            limit_clause: None,
            fetch: None,
            locks: vec![],
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: vec![],
        }
    }
}

/// A table in `FROM`; `name` are the parts of its name.
pub fn table(name: &[&str], alias: Option<Ident>) -> TableWithJoins {
    relation(TableFactor::Table {
        name: ObjectName::from(name.iter().map(|part| quoted(*part)).collect::<Vec<_>>()),
        alias: alias.map(table_alias),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    })
}

/// A relation in `FROM` that is joined with no other.
pub fn relation(relation: TableFactor) -> TableWithJoins {
    TableWithJoins { relation, joins: vec![] }
}

pub fn table_alias(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: vec![], at: None }
}

/// An identifier whose case is kept.
pub fn quoted(name: impl Into<String>) -> Ident {
    Ident::with_quote('"', name)
}

/// The column `table.name`.
pub fn column(table: &Ident, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![table.clone(), quoted(name)])
}

/// The item `expr AS "name"` of a select list.
pub fn named(expr: Expr, name: impl Into<String>) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: quoted(name) }
}

/// The condition of a join of PostgreSQL; `None` if it is another kind.
pub fn join_constraint(join: &JoinOperator) -> Option<&JoinConstraint> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

/// The same, to be changed.
pub fn join_constraint_mut(join: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

pub fn null() -> Expr {
    Expr::value(Value::Null)
}

/// A string literal.
pub fn string(text: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(text.into()))
}

/// Whether a subquery is part of `node`.
pub fn has_query(node: &impl Visit) -> bool {
    struct Found;
    impl Visitor for Found {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    node.visit(&mut Found).is_break()
}

/// Moves an expression out of its tree.
pub fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

/// An expression in parentheses.
pub fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

pub fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Joins neighbours pairwise until one is left, keeping their order. Joining with `OR` needs no parentheses
/// around `AND`, since the tree is planned, not its text.
pub fn balanced<T>(mut parts: Vec<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    while parts.len() > 1 {
        let mut rest = parts.into_iter();
        let mut joined = Vec::new();
        while let Some(left) = rest.next() {
            joined.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        parts = joined;
    }
    parts.pop()
}

/// The call of a function.
pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    let args = args.collect();
    call_with(name, FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] })
}

pub fn call_with(name: &str, args: FunctionArgumentList) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    #[test]
    fn a_built_query_is_the_parsed_one() {
        let items = vec![
            named(column(&quoted("t"), "a"), "b"),
            SelectItem::UnnamedExpr(cast(string("1"), DataType::Text)),
            SelectItem::UnnamedExpr(call("f", vec![null()])),
        ];
        let filter = binary(string("a"), BinaryOperator::Eq, nested(string("b")));
        let tables = [table(&["s", "t"], Some(quoted("t"))), table(&["u"], None)];
        let built = select(items).from(tables).filter(Some(filter)).query();
        let text = "SELECT \"t\".\"a\" AS \"b\", CAST('1' AS TEXT), f(NULL) \
                    FROM \"s\".\"t\" AS \"t\", \"u\" WHERE 'a' = ('b')";
        assert_eq!(built, parse_query(text).unwrap());
    }
}
