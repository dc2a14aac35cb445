//! Rewrites `ARRAY(query)` to forms that DataFusion supports: an aggregate of the query's rows or, for rows
//! that are the elements of another array, a function of that array.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    GroupByExpr, Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, OneOrManyWithParens,
    OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr,
    TableAliasColumnDef, TableFactor, TableWithJoins, Visit as _, Visitor, visit_expressions_mut,
};

use crate::parser::folded;
use crate::trees::{self, call, call_with};
use tidemark_pg::aggregates::is_aggregate;
use tidemark_pg::functions::SUBSCRIPTS;

/// Rewrites `ARRAY(query)`; the array of no rows is empty.
pub(super) fn array_of(query: Box<Query>) -> Expr {
    let array = match over_elements(&query) {
        Some(array) => array,
        None => Expr::Subquery(aggregated(query)),
    };
    call("coalesce", vec![array, call("make_array", vec![])])
}

/// Rewrites `SELECT f(x) FROM unnest(a) AS x` to `array_transform(a, x -> f(x))`: the array may come from an
/// outer query, and DataFusion can only unnest arrays of the query itself.
fn over_elements(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    let [TableWithJoins { relation: TableFactor::UNNEST { alias, array_exprs, .. }, joins }] =
        select.from.as_slice()
    else {
        return None;
    };
    let [array] = array_exprs.as_slice() else { return None };
    let alias = alias.as_ref()?;
    let [element] = alias.columns.as_slice() else { return None };
    let only_maps = joins.is_empty()
        && select.selection.is_none()
        && !has_clauses(query, select)
        && is_in_order(query, array, &element.name)
        && !aggregates(value);
    if !only_maps {
        return None;
    }
    let mut body = value.clone();
    unqualify_element(&mut body, &alias.name, &element.name)?;
    if matches!(&body, Expr::Identifier(ident) if folded(ident) == folded(&element.name)) {
        return Some(array.clone());
    }
    let parameter = LambdaFunctionParameter { name: element.name.clone(), data_type: None };
    let lambda = Expr::Lambda(LambdaFunction {
        params: OneOrManyWithParens::One(parameter),
        body: Box::new(body),
        syntax: LambdaSyntax::Arrow,
    });
    Some(call("array_transform", vec![array.clone(), lambda]))
}

/// Whether the elements are in the requested order already. Subscripts are sorted.
fn is_in_order(query: &Query, array: &Expr, element: &Ident) -> bool {
    let Some(order_by) = &query.order_by else { return true };
    let OrderByKind::Expressions(exprs) = &order_by.kind else { return false };
    let are_subscripts =
        matches!(array, Expr::Function(function) if function.name.to_string() == SUBSCRIPTS);
    let plain = OrderByOptions { asc: None, nulls_first: None };
    let by_element = |by: &OrderByExpr| {
        by.options == plain
            && matches!(&by.expr, Expr::Identifier(name) if folded(name) == folded(element))
    };
    are_subscripts && exprs.iter().all(by_element)
}

/// Rewrites `t.x` to `x`. `None` if a subquery might refer to another `x`.
fn unqualify_element(body: &mut Expr, table: &Ident, element: &Ident) -> Option<()> {
    let flow = visit_expressions_mut(body, |expr| {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let [qualifier, name] = parts.as_slice()
                    && folded(qualifier) == folded(table)
                    && folded(name) == folded(element)
                {
                    *expr = Expr::Identifier(element.clone());
                }
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    flow.is_continue().then_some(())
}

/// Rewrites `SELECT x ... ORDER BY y` to `SELECT array_agg(x ORDER BY y) ...`. A more complex query becomes a
/// subquery whose rows are aggregated.
fn aggregated(mut query: Box<Query>) -> Box<Query> {
    if aggregate_without_subquery(&mut query).is_some() {
        return query;
    }
    let value = Ident::new("value");
    let mut columns = vec![value.clone()];
    let order_by = order_outside(&mut query, &mut columns);
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None });
    let mut alias = trees::table_alias(Ident::new("elements"));
    alias.columns.extend(columns);
    let derived =
        TableFactor::Derived { lateral: false, subquery: query, alias: Some(alias), sample: None };
    let item = SelectItem::UnnamedExpr(array_agg(Expr::Identifier(value), order_by));
    Box::new(trees::select(vec![item]).from([trees::relation(derived)]).query())
}

/// Moves the order of a query to the query around it: by its first column, or by columns added for this and
/// named in `columns`.
fn order_outside(query: &mut Query, columns: &mut Vec<Ident>) -> Vec<OrderByExpr> {
    let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_ref().map(|by| &by.kind) else {
        return vec![];
    };
    let mut order_by = exprs.clone();
    let (mut select, may_add) = match query.body.as_mut() {
        SetExpr::Select(select) => {
            let may_add = select.distinct.is_none();
            (Some(select), may_add)
        }
        _ => (None, false),
    };
    let value = select.as_ref().and_then(|select| select.projection.first().cloned());
    for by in &mut order_by {
        let by_value = !may_add || value.as_ref().is_some_and(|value| names(&by.expr, value));
        let column = if by_value {
            columns[0].clone()
        } else {
            let name = Ident::new(format!("order_{}", columns.len()));
            let expr = by.expr.clone();
            let item = SelectItem::ExprWithAlias { expr, alias: name.clone() };
            select.iter_mut().for_each(|select| select.projection.push(item.clone()));
            columns.push(name.clone());
            name
        };
        by.expr = Expr::Identifier(column);
    }
    if query.limit_clause.is_none() {
        query.order_by = None;
    }
    order_by
}

/// Whether `ORDER BY by` refers to the first and only column: by number, by alias, or as the same expression.
fn names(by: &Expr, column: &SelectItem) -> bool {
    match (by, column) {
        (Expr::Value(_), _) => true,
        (Expr::Identifier(name), SelectItem::ExprWithAlias { alias, .. })
            if folded(name) == folded(alias) =>
        {
            true
        }
        (by, SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => by == expr,
        _ => false,
    }
}

fn array_agg(value: Expr, order_by: Vec<OrderByExpr>) -> Expr {
    let clauses =
        if order_by.is_empty() { vec![] } else { vec![FunctionArgumentClause::OrderBy(order_by)] };
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))];
    call_with("array_agg", FunctionArgumentList { duplicate_treatment: None, args, clauses })
}

/// `None` leaves the query as it is, because its rows are not those of its `FROM`.
fn aggregate_without_subquery(query: &mut Query) -> Option<()> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    if has_clauses(query, select) {
        return None;
    }
    let mut order_by = match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        None => vec![],
        Some(OrderByKind::Expressions(exprs)) => exprs.clone(),
        Some(OrderByKind::All(_)) => return None,
    };
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let [column] = select.projection.as_slice() else { return None };
    let (SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }) = column
    else {
        return None;
    };
    if aggregates(value) {
        return None;
    }
    for by in order_by.iter_mut().filter(|by| names(&by.expr, column)) {
        by.expr = value.clone();
    }
    select.projection = vec![SelectItem::UnnamedExpr(array_agg(value.clone(), order_by))];
    query.order_by = None;
    Some(())
}

/// Whether any clause makes the rows differ from those of `FROM` and `WHERE`.
fn has_clauses(query: &Query, select: &Select) -> bool {
    let ungrouped =
        matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    !ungrouped
        || select.having.is_some()
        || select.distinct.is_some()
        || select.qualify.is_some()
        || query.limit_clause.is_some()
}

/// Whether the expression calls an aggregate or a window function.
fn aggregates(expr: &Expr) -> bool {
    let mut calls = AggregateCalls { queries: 0 };
    expr.visit(&mut calls).is_break()
}

/// Stops at the first call outside of subqueries.
struct AggregateCalls {
    queries: usize,
}

impl Visitor for AggregateCalls {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(Function { name, over, .. })
                if self.queries == 0
                    && (over.is_some() || is_aggregate(&name.to_string().to_lowercase())) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
