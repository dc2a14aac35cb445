//! Positions in `ORDER BY` and `DISTINCT ON`. DataFusion takes `DISTINCT ON (1)` for a constant, and looks for a computed
//! item of the select list by its expression, which is not there after `GROUP BY` and `DISTINCT ON`.
//!
//! Such an item gets a name, and `DISTINCT ON` takes it by that.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};

use crate::trees::{quoted, take};
use tidemark_pg::error::SqlError;

/// The prefix of the names of items.
const ITEM: &str = "\u{1}item";

/// Names what positions stand for.
pub fn name_positions<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Positions) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Positions;

impl VisitorMut for Positions {
    type Break = Box<SqlError>;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        if let Some(order_by) = &query.order_by
            && let OrderByKind::Expressions(orders) = &order_by.kind
        {
            for position in orders.iter().filter_map(|order| position_of(&order.expr)) {
                name_of_item(&mut select.projection, position);
            }
        }
        match distinct_on(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

fn distinct_on(select: &mut Select) -> Result<(), SqlError> {
    let Some(Distinct::On(exprs)) = &mut select.distinct else { return Ok(()) };
    for expr in exprs {
        let Some(position) = position_of(expr) else { continue };
        let items = &mut select.projection;
        if has_wildcard(items, position) {
            return Err(SqlError::unsupported("a position behind * in DISTINCT ON"));
        }
        // `placement` has refused positions that no item has.
        if let Some(name) = name_of_item(items, position) {
            *expr = name;
        }
    }
    Ok(())
}

fn position_of(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse().ok(),
        _ => None,
    }
}

fn has_wildcard(items: &[SelectItem], position: usize) -> bool {
    let is_wildcard = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    items.iter().take(position).any(is_wildcard)
}

/// What refers to the item at a position: its name, which it gets if it has none, or the column that it is.
fn name_of_item(items: &mut [SelectItem], position: usize) -> Option<Expr> {
    if has_wildcard(items, position) {
        return None;
    }
    let item = items.get_mut(position.checked_sub(1)?)?;
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(Expr::Identifier(alias.clone())),
        SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
            Some(expr.clone())
        }
        SelectItem::UnnamedExpr(expr) => {
            let alias: Ident = quoted(format!("{ITEM}{position}"));
            let expr = take(expr);
            *item = SelectItem::ExprWithAlias { expr, alias: alias.clone() };
            Some(Expr::Identifier(alias))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    fn named(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap();
        name_positions(&mut query).unwrap();
        query.to_string().replace(ITEM, "#").replace('"', "")
    }

    #[test]
    fn computed_items_get_names() {
        assert_eq!(
            named("SELECT a, 5 FROM t ORDER BY 2, 1"),
            "SELECT a, 5 AS #2 FROM t ORDER BY 2, 1"
        );
        assert_eq!(
            named("SELECT DISTINCT ON (1, 2) a + 1, b AS c FROM t"),
            "SELECT DISTINCT ON (#1, c) a + 1 AS #1, b AS c FROM t"
        );
        assert_eq!(named("SELECT * FROM t ORDER BY 1"), "SELECT * FROM t ORDER BY 1");
    }
}
