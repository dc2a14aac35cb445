//! Rewrites expressions that the parser or the optimizer would misinterpret.
//!
//! - `x IS DISTINCT FROM a AND b`: the parser takes everything to the right as the second operand.
//! - Several `IN` lists over one expression: the optimizer merges them as if there were no nulls.
//! - `(SELECT a FROM t)`: the planner considers it never null if the column is not nullable.
//! - `1e15` and `9223372036854775808`: numerics, not floats or unsigned integers.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DataType, ExactNumberInfo, Expr, Query, Select, SelectItem, SetExpr, Value,
    VisitMut, VisitorMut,
};

use crate::trees::{call, cast, string, take};
use tidemark_ledger::catalog::NUMERIC_PRECISION_MAX;
use tidemark_pg::functions::{MAYBE, PLAIN};
use tidemark_pg::text_input::numeric::Literal;

/// Rewrites each of these in `node` to an expression with the right meaning.
pub fn avoid<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Avoid);
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

struct Avoid;

impl VisitorMut for Avoid {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => bind_tighter(expr),
            Expr::Subquery(query) => may_be_null(query),
            Expr::Value(value) => {
                if let Value::Number(text, _) = &value.value
                    && let Some(number) = numeric(text)
                {
                    *expr = number;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for part in [&mut select.selection, &mut select.having].into_iter().flatten() {
            separate_in_lists(part);
        }
        for item in &mut select.projection {
            separate_in_lists(item);
        }
        ControlFlow::Continue(())
    }
}

/// Marks the value of a scalar subquery as nullable: it is null if there is no row. Aggregates are nullable
/// anyway.
fn may_be_null(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
        select.projection.as_mut_slice()
    else {
        return;
    };
    if matches!(value, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)) {
        *value = call(MAYBE, vec![take(value)]);
    }
}

/// Rewrites `x IS DISTINCT FROM (a AND b)`, if the user wrote no parentheses, to `(x IS DISTINCT FROM a) AND
/// b`: `IS` binds tighter than `AND` and `OR`.
fn bind_tighter(expr: &mut Expr) {
    let (Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right)) = expr else {
        return;
    };
    let is_logical = |expr: &Expr| {
        matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
    };
    if !is_logical(right) {
        return;
    }
    let (left, mut whole) = (take(left), take(right));
    let mut first = &mut whole;
    while is_logical(first) {
        let Expr::BinaryOp { left, .. } = first else { break };
        first = left;
    }
    let operand = Box::new(take(first));
    *first = match expr {
        Expr::IsDistinctFrom(..) => Expr::IsDistinctFrom(Box::new(left), operand),
        _ => Expr::IsNotDistinctFrom(Box::new(left), operand),
    };
    *expr = whole;
}

/// Wraps the operand of each further `IN` list over one expression, so that the optimizer sees different
/// expressions.
fn separate_in_lists<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut PartLists(HashSet::new()));
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

struct PartLists(HashSet<String>);

impl VisitorMut for PartLists {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::InList { expr: tested, .. } = expr
            && !self.0.insert(tested.to_string())
        {
            let mut wrapped = take(tested);
            // One layer more than for any list before it.
            while !self.0.insert(wrapped.to_string()) {
                wrapped = call(PLAIN, vec![wrapped]);
            }
            **tested = wrapped;
        }
        ControlFlow::Continue(())
    }
}

/// A number that has an exponent or is larger than any `bigint`, as a numeric of just its digits. One with too
/// many digits becomes a float.
fn numeric(text: &str) -> Option<Expr> {
    let is_large =
        || text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_err();
    if !text.contains(['e', 'E']) && !is_large() {
        return None;
    }
    let literal = Literal::scan(text)?;
    let scale = literal.scale();
    let precision = literal.precision();
    let digits = ExactNumberInfo::PrecisionAndScale(u64::try_from(precision).ok()?, scale);
    let data_type = match precision <= i64::from(NUMERIC_PRECISION_MAX) {
        true => DataType::Numeric(digits),
        false => DataType::DoublePrecision,
    };
    Some(cast(string(text), data_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    fn avoided(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap();
        avoid(&mut query);
        query.to_string()
    }

    #[test]
    fn is_distinct_binds_tighter_than_and() {
        let sql = "SELECT 1 FROM t WHERE x IS DISTINCT FROM 1 AND a = 2 OR b";
        let mut query = parse_query(sql).unwrap();
        avoid(&mut query);
        let body = query.body.as_select().unwrap();
        let Some(Expr::BinaryOp { op: BinaryOperator::Or, left, .. }) = &body.selection else {
            panic!("{query}");
        };
        let Expr::BinaryOp { op: BinaryOperator::And, left, .. } = &**left else {
            panic!("{query}");
        };
        assert_eq!(left.to_string(), "x IS DISTINCT FROM 1");
        let nested = "SELECT 1 FROM t WHERE x IS DISTINCT FROM (a AND b)";
        assert_eq!(avoided(nested), nested);
    }

    #[test]
    fn two_lists_over_one_column_stay_two() {
        let one = "SELECT 1 FROM t WHERE a IN (1, 2) AND b IN (3)";
        assert_eq!(avoided(one), one);
        let two = avoided("SELECT 1 FROM t WHERE a NOT IN (1) OR a NOT IN (2) OR a IN (3)");
        assert_eq!(two.matches(PLAIN).count(), 3, "{two}");
    }

    #[test]
    fn large_numbers_are_numerics() {
        for (number, wanted) in [
            ("1e15", "CAST('1e15' AS NUMERIC(16,0))"),
            ("1.25e1", "CAST('1.25e1' AS NUMERIC(3,1))"),
            ("1e-3", "CAST('1e-3' AS NUMERIC(3,3))"),
            ("9223372036854775808", "CAST('9223372036854775808' AS NUMERIC(19,0))"),
            ("1e300", "CAST('1e300' AS DOUBLE PRECISION)"),
            ("9223372036854775807", "9223372036854775807"),
        ] {
            assert_eq!(avoided(&format!("SELECT {number}")), format!("SELECT {wanted}"));
        }
    }
}
