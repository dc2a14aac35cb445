//! `ORDER BY` expressions that use a name of both the select list and the tables: in an expression PostgreSQL
//! takes the column of the table, DataFusion that of the select list.
//!
//! Such a query becomes a subquery that also selects the expression, and an outer one that orders by it.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor, VisitMut,
    VisitorMut, visit_expressions,
};

use crate::parser::folded;
use crate::trees::{self, named, quoted, take};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// The name of the subquery, and the prefix of the columns that it selects for the order.
const INNER: &str = "\u{1}ordered";

/// Rewrites every such query in `node`.
pub fn order_by_tables<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Orders) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Orders;

impl VisitorMut for Orders {
    type Break = Box<SqlError>;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if !is_confused(query) {
            return ControlFlow::Continue(());
        }
        match nest(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// Whether an expression of the `ORDER BY` uses a name that the select list gives to something else.
fn is_confused(query: &Query) -> bool {
    let (Some(order_by), Some(select)) = (&query.order_by, query.body.as_select()) else {
        return false;
    };
    let OrderByKind::Expressions(exprs) = &order_by.kind else { return false };
    let given = given_names(select);
    let mut computed = exprs.iter().filter(|order| !matches!(order.expr, Expr::Identifier(_)));
    computed.any(|order| {
        let flow = visit_expressions(&order.expr, |inner| match inner {
            Expr::Identifier(ident) if given.contains(&folded(ident)) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        flow.is_break()
    })
}

/// The names in the select list that are not those of the column they are given to.
pub(super) fn given_names(select: &Select) -> Vec<String> {
    let names = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let name = folded(alias);
            let own = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(idents) => idents.last(),
                _ => None,
            };
            (own.map(folded).as_ref() != Some(&name)).then_some(name)
        }
        _ => None,
    });
    names.collect()
}

fn nest(query: &mut Query) -> Result<(), SqlError> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    if select.distinct.is_some() {
        let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
        return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
    }
    let Some(outer) = name_columns(select) else {
        return Err(SqlError::unsupported(
            "ORDER BY with an expression over a name that is also in a select list with *",
        ));
    };
    let names: Vec<String> = outer.iter().map(|ident| ident.value.clone()).collect();
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(exprs) = &mut order_by.kind
    {
        for (index, order) in exprs.iter_mut().enumerate() {
            let is_output = match &order.expr {
                Expr::Identifier(ident) => names.contains(&folded(ident)),
                Expr::Value(_) => true,
                _ => false,
            };
            if !is_output {
                let name = format!("{INNER}{index}");
                select.projection.push(named(take(&mut order.expr), &name));
                order.expr = Expr::Identifier(quoted(name));
            }
        }
    }
    let inner = trees::select(vec![]).query();
    let inner = Query { body: Box::new(SetExpr::Select(select.clone())), ..inner };
    let items = outer.into_iter().map(|name| named(Expr::Identifier(name.clone()), name.value));
    let table = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(inner),
        alias: Some(trees::table_alias(quoted(INNER))),
        sample: None,
    };
    *query.body = trees::select(items.collect()).from([trees::relation(table)]).body();
    Ok(())
}

/// Names the columns of the select list, and returns the names; `None` if they are not known.
fn name_columns(select: &mut Select) -> Option<Vec<Ident>> {
    let mut names: Vec<Ident> = vec![];
    for (index, item) in select.projection.iter_mut().enumerate() {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => folded(alias),
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => folded(ident),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => folded(idents.last()?),
            SelectItem::UnnamedExpr(_) => format!("{INNER}_{index}"),
            _ => return None,
        };
        if names.iter().any(|other| other.value == name) {
            return None;
        }
        if let SelectItem::UnnamedExpr(expr) = item {
            *item = named(take(expr), &name);
        }
        names.push(quoted(name));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    fn rewritten(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap();
        order_by_tables(&mut query).unwrap();
        query.to_string().replace('\u{1}', "")
    }

    #[test]
    fn an_expression_over_a_name_of_both_is_selected_inside() {
        let nested = rewritten("SELECT -a AS a, b FROM t ORDER BY a + 0, b, 1 LIMIT 2");
        assert_eq!(
            nested,
            "SELECT \"a\" AS \"a\", \"b\" AS \"b\" FROM (SELECT -a AS a, b AS \"b\", a + 0 AS \"ordered0\" \
             FROM t) AS \"ordered\" ORDER BY \"ordered0\", b, 1 LIMIT 2"
        );
    }

    #[test]
    fn other_orders_stay() {
        for sql in [
            "SELECT -a AS a FROM t ORDER BY a",
            "SELECT a AS a FROM t ORDER BY a + 1",
            "SELECT a AS x FROM t ORDER BY a + 1",
        ] {
            assert_eq!(rewritten(sql), sql);
        }
    }
}
