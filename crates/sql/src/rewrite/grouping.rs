//! Grouping sets that DataFusion does not flatten, names that `HAVING` does not see, and the order of distinct rows.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};

use super::order_by::given_names;
use super::placement::{has_aggregate, outer_expressions};
use crate::parser::folded;
use crate::trees::{binary, call_with, named, nested};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Most sets that `CUBE` and `ROLLUP` make inside of `GROUPING SETS`.
const SETS_MAX: usize = 4096;

/// Rewrites every query in `node`.
pub fn group<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Groups) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Groups;

type Flow = ControlFlow<Box<SqlError>>;

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl VisitorMut for Groups {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        name_ordered(query);
        order_distinct_on(query);
        flow(order_distinct(query))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        flow(check_having(select).and_then(|()| {
            keep_one_group(select);
            flatten(select)
        }))
    }
}

/// The expression of the select list that a number stands for; `None` if it is not known.
fn listed<'a>(number: &Expr, items: &'a [SelectItem]) -> Option<(usize, &'a SelectItem)> {
    let Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) = number else {
        return None;
    };
    let at = number.parse::<usize>().ok()?.checked_sub(1)?;
    let before = items.get(..=at)?;
    let is_wildcard = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    if before.iter().any(is_wildcard) {
        return None;
    }
    before.last().map(|item| (at, item))
}

fn value_of(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// Names what a number in `ORDER BY` stands for: the planner takes it for an expression over the groups.
fn name_ordered(query: &mut Query) {
    let (Some(order_by), SetExpr::Select(select)) = (&query.order_by, query.body.as_mut()) else {
        return;
    };
    let OrderByKind::Expressions(exprs) = &order_by.kind else { return };
    for order in exprs {
        let Some((at, item)) = listed(&order.expr, &select.projection) else { continue };
        if let SelectItem::UnnamedExpr(expr) = item
            && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        {
            select.projection[at] = named(expr.clone(), format!("\u{1}column {at}"));
        }
    }
}

/// Brings the expressions of `DISTINCT ON` into the order in which the rows are sorted by them.
fn order_distinct_on(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(Distinct::On(on)) = &select.distinct else { return };
    let meant = |expr: &Expr| {
        let value = listed(expr, &select.projection).and_then(|(_, item)| value_of(item));
        value.unwrap_or(expr).clone()
    };
    let mut on: Vec<Expr> = on.iter().map(meant).collect();
    if let Some(order_by) = &query.order_by
        && let OrderByKind::Expressions(exprs) = &order_by.kind
    {
        let sorted_by: Vec<Expr> = exprs.iter().map(|order| meant(&order.expr)).collect();
        let place = |expr: &Expr| sorted_by.iter().position(|sorted| sorted == expr);
        on.sort_by_key(|expr| place(expr).unwrap_or(usize::MAX));
    }
    select.distinct = Some(Distinct::On(on));
}

/// An expression to sort distinct rows by must be in the select list; it becomes the number of the column.
fn order_distinct(query: &mut Query) -> Result<(), SqlError> {
    let (Some(order_by), Some(select)) = (&mut query.order_by, query.body.as_select()) else {
        return Ok(());
    };
    let OrderByKind::Expressions(exprs) = &mut order_by.kind else { return Ok(()) };
    if select.distinct != Some(Distinct::Distinct) {
        return Ok(());
    }
    for order in exprs {
        // The planner resolves names and numbers.
        if matches!(order.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
        {
            continue;
        }
        let listed = select.projection.iter().position(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                *expr == order.expr
            }
            _ => false,
        });
        let Some(position) = listed else {
            let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        };
        order.expr = Expr::value(Value::Number((position + 1).to_string(), false));
    }
    Ok(())
}

/// `HAVING` sees the columns of the tables only, not the names that the select list gives to other expressions.
fn check_having(select: &Select) -> Result<(), SqlError> {
    let Some(having) = &select.having else { return Ok(()) };
    let given = given_names(select);
    let found = outer_expressions(having, |expr| match expr {
        Expr::Identifier(ident) if given.contains(&folded(ident)) => {
            ControlFlow::Break(ident.clone())
        }
        _ => ControlFlow::Continue(()),
    });
    match found {
        None => Ok(()),
        Some(ident) => {
            let message = format!("column \"{}\" does not exist", folded(&ident));
            let at = ident.span.start;
            Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message)
                .hint("HAVING sees no names of the select list. Write the expression, or qualify the column.")
                .at(at.line, at.column))
        }
    }
}

/// Makes a select without groups one with one group if its `HAVING` or `GROUP BY ()` says so and none of its
/// aggregates.
fn keep_one_group(select: &mut Select) {
    let GroupByExpr::Expressions(exprs, _) = &mut select.group_by else { return };
    let is_empty = |expr: &Expr| matches!(expr, Expr::Tuple(parts) if parts.is_empty());
    let is_grouped = exprs.iter().any(is_empty) || select.having.is_some();
    exprs.retain(|expr| !is_empty(expr));
    if !is_grouped
        || !exprs.is_empty()
        || has_aggregate(&select.having)
        || has_aggregate(&select.projection)
    {
        return;
    }
    let rows = FunctionArgumentList {
        duplicate_treatment: None,
        args: vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)],
        clauses: vec![],
    };
    let zero = Expr::value(Value::Number("0".to_owned(), false));
    let always = binary(call_with("count", rows), BinaryOperator::GtEq, zero);
    select.having = Some(match select.having.take() {
        Some(having) => binary(nested(having), BinaryOperator::And, always),
        None => always,
    });
}

fn flatten(select: &mut Select) -> Result<(), SqlError> {
    let Select { group_by, projection, .. } = select;
    let GroupByExpr::Expressions(exprs, _) = group_by else { return Ok(()) };
    for expr in exprs {
        if let Expr::GroupingSets(sets) | Expr::Rollup(sets) | Expr::Cube(sets) = expr {
            for part in sets.iter_mut().flatten() {
                let meant = listed(part, projection).and_then(|(_, item)| value_of(item));
                if let Some(value) = meant {
                    *part = value.clone();
                }
            }
        }
        match expr {
            Expr::GroupingSets(sets) => *sets = flat_sets(std::mem::take(sets))?,
            Expr::Rollup(parts) if parts.iter().any(|part| part.len() != 1) => {
                *expr = Expr::GroupingSets(rolled_up(parts));
            }
            Expr::Cube(parts) if parts.iter().any(|part| part.len() != 1) => {
                *expr = Expr::GroupingSets(cubed(parts)?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Expands the calls of `ROLLUP` and `CUBE` among grouping sets.
fn flat_sets(sets: Vec<Vec<Expr>>) -> Result<Vec<Vec<Expr>>, SqlError> {
    let mut flat = vec![];
    for set in sets {
        match set.as_slice() {
            [Expr::Function(call)] => match expanded(call)? {
                Some(sets) => flat.extend(sets),
                None => flat.push(set),
            },
            [Expr::Rollup(parts)] => flat.extend(rolled_up(parts)),
            [Expr::Cube(parts)] => flat.extend(cubed(parts)?),
            [Expr::GroupingSets(inner)] => flat.extend(flat_sets(inner.clone())?),
            _ => flat.push(set),
        }
        if flat.len() > SETS_MAX {
            return Err(too_many());
        }
    }
    Ok(flat)
}

fn too_many() -> SqlError {
    let message = format!("too many grouping sets present (maximum {SETS_MAX})");
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message)
}

fn expanded(call: &Function) -> Result<Option<Vec<Vec<Expr>>>, SqlError> {
    let FunctionArguments::List(list) = &call.args else { return Ok(None) };
    let parts = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Tuple(parts))) => Some(parts.clone()),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Nested(part))) => {
            Some(vec![part.as_ref().clone()])
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(part)) => Some(vec![part.clone()]),
        _ => None,
    });
    let Some(parts) = parts.collect::<Option<Vec<_>>>() else { return Ok(None) };
    match call.name.to_string().to_lowercase().as_str() {
        "rollup" => Ok(Some(rolled_up(&parts))),
        "cube" => cubed(&parts).map(Some),
        _ => Ok(None),
    }
}

/// All parts, then all but the last, and so on to none.
fn rolled_up(parts: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    (0..=parts.len()).rev().map(|length| parts[..length].concat()).collect()
}

/// Every subset of the parts.
fn cubed(parts: &[Vec<Expr>]) -> Result<Vec<Vec<Expr>>, SqlError> {
    let mut sets = vec![vec![]];
    for part in parts {
        if sets.len() * 2 > SETS_MAX {
            return Err(too_many());
        }
        let without = sets.clone();
        sets.iter_mut().for_each(|set| set.extend(part.iter().cloned()));
        sets.extend(without);
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    fn rewritten(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap();
        group(&mut query).unwrap();
        query.to_string()
    }

    #[test]
    fn sets_are_flat() {
        assert_eq!(
            rewritten("SELECT 1 FROM t GROUP BY GROUPING SETS (ROLLUP (a, b), c)"),
            "SELECT 1 FROM t GROUP BY GROUPING SETS ((a, b), (a), (), (c))"
        );
        assert_eq!(
            rewritten("SELECT 1 FROM t GROUP BY CUBE ((a, b), c)"),
            "SELECT 1 FROM t GROUP BY GROUPING SETS ((a, b, c), (c), (a, b), ())"
        );
        assert_eq!(rewritten("SELECT 1 FROM t GROUP BY (), a"), "SELECT 1 FROM t GROUP BY a");
        assert_eq!(
            rewritten("SELECT a + 1, b FROM t GROUP BY ROLLUP (1, 2)"),
            "SELECT a + 1, b FROM t GROUP BY ROLLUP (a + 1, b)"
        );
    }

    #[test]
    fn one_group_has_an_aggregate() {
        for sql in ["SELECT 1 FROM t GROUP BY ()", "SELECT 1 FROM t HAVING count(*) >= 0"] {
            assert_eq!(rewritten(sql), "SELECT 1 FROM t HAVING count(*) >= 0");
        }
        assert_eq!(
            rewritten("SELECT 1 FROM t HAVING false"),
            "SELECT 1 FROM t HAVING (false) AND count(*) >= 0"
        );
    }

    #[test]
    fn distinct_on_follows_the_order() {
        assert_eq!(
            rewritten("SELECT DISTINCT ON (1, b) a FROM t ORDER BY b, a DESC, c"),
            "SELECT DISTINCT ON (b, a) a FROM t ORDER BY b, a DESC, c"
        );
    }

    #[test]
    fn distinct_rows_are_sorted_by_their_columns() {
        assert_eq!(
            rewritten("SELECT DISTINCT a, b + 1 FROM t ORDER BY b + 1, a"),
            "SELECT DISTINCT a, b + 1 FROM t ORDER BY 2, a"
        );
        for wrong in
            ["SELECT DISTINCT a FROM t ORDER BY a + 1", "SELECT a AS x FROM t HAVING x > 1"]
        {
            assert!(group(&mut parse_query(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}
