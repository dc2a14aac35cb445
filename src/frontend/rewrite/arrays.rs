//! `ARRAY(query)` in forms DataFusion knows: an aggregate of the query's rows or, where these are the
//! elements of another array, a function of that array.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    GroupByExpr, Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, OneOrManyWithParens,
    OrderByKind, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins, Visit as _, Visitor, visit_expressions_mut,
};

use super::operators::{call, call_with, take};
use crate::frontend::parser::folded;

/// `ARRAY(query)`; that of no rows is empty.
pub(super) fn array_of(query: Box<Query>) -> Expr {
    let array = match over_elements(&query) {
        Some(array) => array,
        None => Expr::Subquery(aggregated(query)),
    };
    call("coalesce", vec![array, call("make_array", vec![])])
}

/// `SELECT f(x) FROM unnest(a) AS x` as `array_transform(a, x -> f(x))`: the array may come from a query
/// around this one, and DataFusion unnests only what it has at hand.
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
        && query.order_by.is_none()
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

/// `t.x` as `x`. `None` where a query inside might mean another `x`.
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

/// `SELECT x ... ORDER BY y` as `SELECT array_agg(x ORDER BY y) ...`. Where the query is more than
/// that, its rows are aggregated around it.
fn aggregated(mut query: Box<Query>) -> Box<Query> {
    if aggregate_in_place(&mut query).is_some() {
        return query;
    }
    let value = Ident::new("value");
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::new("elements"),
            columns: vec![TableAliasColumnDef { name: value.clone(), data_type: None }],
            at: None,
        }),
        sample: None,
    };
    let item = SelectItem::UnnamedExpr(call("array_agg", vec![Expr::Identifier(value)]));
    let from = vec![TableWithJoins { relation: derived, joins: vec![] }];
    let mut outer = empty_query();
    outer.body = Box::new(SetExpr::Select(Box::new(plain_select(vec![item], from))));
    outer
}

/// `None` when the query is left as it is, because its rows are not those of its `FROM`.
fn aggregate_in_place(query: &mut Query) -> Option<()> {
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
    let (value, alias) = match select.projection.as_mut_slice() {
        [SelectItem::UnnamedExpr(value)] => (value, None),
        [SelectItem::ExprWithAlias { expr, alias }] => (expr, Some(&*alias)),
        _ => return None,
    };
    if aggregates(value) {
        return None;
    }
    for by in &mut order_by {
        // The first and only column, by its number or its alias, is the value itself.
        let names_value = match &by.expr {
            Expr::Value(_) => true,
            Expr::Identifier(ident) => alias.is_some_and(|alias| folded(alias) == folded(ident)),
            _ => false,
        };
        if names_value {
            by.expr = value.clone();
        }
    }
    let clauses =
        if order_by.is_empty() { vec![] } else { vec![FunctionArgumentClause::OrderBy(order_by)] };
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(take(value)))];
    let list = FunctionArgumentList { duplicate_treatment: None, args, clauses };
    select.projection = vec![SelectItem::UnnamedExpr(call_with("array_agg", list))];
    query.order_by = None;
    Some(())
}

/// Whether there is anything that makes the rows others than those of `FROM` and `WHERE`.
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
    static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let functions = all_default_aggregate_functions();
        let names = functions.iter().flat_map(|f| {
            [f.name().to_owned()].into_iter().chain(f.aliases().iter().cloned())
        });
        names.map(|name| name.to_lowercase()).collect()
    });
    let mut calls = AggregateCalls { names: &AGGREGATES, queries: 0 };
    expr.visit(&mut calls).is_break()
}

/// Stops at the first call that is not in a query inside.
struct AggregateCalls<'a> {
    names: &'a HashSet<String>,
    queries: usize,
}

impl Visitor for AggregateCalls<'_> {
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
                    && (over.is_some() || self.names.contains(&name.to_string().to_lowercase())) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

pub(super) fn empty_query() -> Box<Query> {
    Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(plain_select(vec![], vec![])))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    })
}

fn plain_select(projection: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
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
    }
}
