//! The types of numbers: `1` is an `integer`, `3000000000` a `bigint`, anything larger `numeric`. The engine's
//! planner would make the first a `bigint`.
//!
//! A number keeps its bare form where it is a position (`ORDER BY 1`), a count (`LIMIT 1`, the bounds of a
//! window), or the argument of a function that looks at the literal itself.

use std::ops::ControlFlow;

use sqlparser::ast::{
    DataType, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, LimitClause, OrderByKind, Query, Select, TableFactor, UnaryOperator, Value,
    ValueWithSpan, VisitMut, VisitorMut, WindowSpec, WindowType,
};

use crate::trees::{cast, take};

/// Functions of the engine whose result type depends on a literal argument.
const LOOK_AT_LITERALS: [&str; 2] = ["round", "trunc"];

/// Gives every number in `node` its type.
pub fn type_numbers<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Numbers);
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

struct Numbers;

impl VisitorMut for Numbers {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
                if let Some(data_type) = type_of(digits) {
                    *expr = cast(take(expr), data_type);
                }
            }
            Expr::Function(function) => bare_arguments(function),
            // The planner takes nothing but names and literals here.
            Expr::Tuple(parts) => parts.iter_mut().for_each(bare),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: Some(args), .. } => bare_all(&mut args.args),
            TableFactor::Function { args, .. } => bare_all(args),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(positions, _) = &mut select.group_by {
            for position in positions {
                bare_positions(position);
            }
        }
        if let Some(Distinct::On(positions)) = &mut select.distinct {
            positions.iter_mut().for_each(bare);
        }
        for named in &mut select.named_window {
            if let sqlparser::ast::NamedWindowExpr::WindowSpec(window) = &mut named.1 {
                bare_bounds(window);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(positions) = &mut order.kind
        {
            positions.iter_mut().for_each(|position| bare(&mut position.expr));
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter_mut().for_each(bare);
                offset.iter_mut().for_each(|offset| bare(&mut offset.value));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                bare(offset);
                bare(limit);
            }
            None => {}
        }
        ControlFlow::Continue(())
    }
}

/// The type of a number other than `numeric` and `bigint`, which the planner chooses itself.
fn type_of(digits: &str) -> Option<DataType> {
    digits.replace('_', "").parse::<i32>().is_ok().then_some(DataType::Integer(None))
}

/// Undoes the typing of a number.
fn bare(expr: &mut Expr) {
    match expr {
        Expr::Cast { expr: number, .. } if is_number(number) => *expr = take(number),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr }
        | Expr::Nested(expr) => bare(expr),
        _ => {}
    }
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::Number(..), .. }))
}

/// Undoes the typing of a position in `GROUP BY`, in grouping sets too.
fn bare_positions(group: &mut Expr) {
    match group {
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
            sets.iter_mut().flatten().for_each(bare);
        }
        position => bare(position),
    }
}

fn bare_arguments(function: &mut Function) {
    let name = function.name.to_string().to_ascii_lowercase();
    if LOOK_AT_LITERALS.contains(&name.as_str())
        && let FunctionArguments::List(list) = &mut function.args
    {
        bare_all(&mut list.args);
    }
    if let Some(WindowType::WindowSpec(window)) = &mut function.over {
        bare_bounds(window);
    }
}

fn bare_all(args: &mut [FunctionArg]) {
    for arg in args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
            bare(expr);
        }
    }
}

fn bare_bounds(window: &mut WindowSpec) {
    use sqlparser::ast::WindowFrameBound::{Following, Preceding};
    let Some(frame) = &mut window.window_frame else { return };
    for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()].into_iter().flatten() {
        if let Preceding(Some(count)) | Following(Some(count)) = bound {
            bare(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    fn typed(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap();
        type_numbers(&mut query);
        query.to_string()
    }

    #[test]
    fn numbers_that_fit_are_integers() {
        assert_eq!(
            typed("SELECT 1, -2147483648, 2147483648, 1.5, f(7)"),
            "SELECT CAST(1 AS INTEGER), -2147483648, 2147483648, 1.5, f(CAST(7 AS INTEGER))"
        );
    }

    #[test]
    fn positions_and_counts_stay_bare() {
        for sql in [
            "SELECT a, round(b, 2) FROM t GROUP BY 1, ROLLUP (2) ORDER BY 2 LIMIT 3 OFFSET 4",
            "SELECT DISTINCT ON (1) a FROM generate_series(1, 9) AS g (a)",
            "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) FROM t",
        ] {
            assert_eq!(typed(sql), sql);
        }
    }
}
