//! Quoted literals where several expressions share one type. The engine's planner takes them for texts, and refuses
//! `coalesce(day, '2024-01-01')` before [`super::plan`] can read the literal as a date; so they become values of no
//! type for it.

use std::ops::ControlFlow;

use datafusion::logical_expr::Expr as Planned;
use sqlparser::ast::{
    Array, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};

use crate::trees::{call, take};
use tidemark_pg::functions::UNTYPED;

/// Functions whose arguments share one type.
const OF_ONE_TYPE: [&str; 5] = ["coalesce", "greatest", "least", "make_array", "nullif"];

/// Hides the type of such literals from the planner.
pub fn hide_types<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Untyped);
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

/// The literal inside a planned one without a type.
pub fn revealed(expr: &mut Planned) -> Option<Planned> {
    match expr {
        Planned::ScalarFunction(call) if call.func.name() == UNTYPED => call.args.pop(),
        _ => None,
    }
}

struct Untyped;

impl VisitorMut for Untyped {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                if let Some(arguments) = shared_arguments(function) {
                    hide(arguments);
                }
            }
            Expr::Array(Array { elem, .. }) => hide(elem.iter_mut().collect()),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                hide(vec![left, right]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        hide_in_values(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn hide_in_values(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            hide_in_values(left);
            hide_in_values(right);
        }
        SetExpr::Values(values) if values.rows.len() > 1 => {
            for column in 0..values.rows.first().map_or(0, |row| row.content.len()) {
                let cells = values.rows.iter_mut().filter_map(|row| row.content.get_mut(column));
                hide(cells.collect());
            }
        }
        _ => {}
    }
}

fn shared_arguments(function: &mut Function) -> Option<Vec<&mut Expr>> {
    let [name] = function.name.0.as_slice() else { return None };
    let name = name.as_ident()?.value.to_ascii_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return None };
    OF_ONE_TYPE.contains(&name.as_str()).then(|| {
        let arguments = list.args.iter_mut().filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        arguments.collect()
    })
}

/// Hides the types of literals among expressions of which some have a type of their own.
fn hide(exprs: Vec<&mut Expr>) {
    if exprs.iter().all(|expr| is_untyped(expr)) {
        return;
    }
    for expr in exprs {
        if is_quoted(expr) {
            *expr = call(UNTYPED, vec![take(expr)]);
        }
    }
}

const fn is_quoted(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }))
}

const fn is_untyped(expr: &Expr) -> bool {
    is_quoted(expr) || matches!(expr, Expr::Value(ValueWithSpan { value: Value::Null, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_expression;

    fn hidden(sql: &str) -> String {
        let mut expr = parse_expression(sql).unwrap().unwrap();
        hide_types(&mut expr);
        expr.to_string().replace(UNTYPED, "?").replace('"', "")
    }

    #[test]
    fn literals_lose_their_type_next_to_typed_ones() {
        assert_eq!(hidden("COALESCE(a, 'x')"), "COALESCE(a, ?('x'))");
        assert_eq!(hidden("coalesce('x', NULL)"), "coalesce('x', NULL)");
        assert_eq!(hidden("a IS DISTINCT FROM 'x'"), "a IS DISTINCT FROM ?('x')");
        assert_eq!(hidden("ARRAY['x', a]"), "ARRAY[?('x'), a]");
        assert_eq!(hidden("upper('x') = concat(a, 'x')"), "upper('x') = concat(a, 'x')");
    }
}
