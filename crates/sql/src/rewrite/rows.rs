//! Rewrites row comparisons, `(a, b) = (1, 2)`, to comparisons of their columns: DataFusion compares rows as
//! structs, in which null is an ordinary value.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, VisitMut, visit_expressions_mut};

use crate::trees::{balanced, binary, nested, take};

/// Rewrites every row comparison in `node`.
pub fn compare_columns<N: VisitMut>(node: &mut N) {
    let flow: ControlFlow<()> = visit_expressions_mut(node, |expr| {
        rewrite(expr);
        ControlFlow::Continue(())
    });
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::Nested(inner) if matches!(**inner, Expr::Tuple(_)) => *expr = take(inner),
        Expr::BinaryOp { left, op, right } => {
            if let (Some(left), Some(right)) = (row(left), row(right))
                && left.len() == right.len()
                && let Some(compared) = compared(left, op, right)
            {
                *expr = compared;
            }
        }
        Expr::InList { expr: tested, list, negated } => {
            let Some(tested) = row(tested) else { return };
            let equal = list.iter().map(|item| {
                row(item)
                    .filter(|item| item.len() == tested.len())
                    .and_then(|item| compared(tested, &BinaryOperator::Eq, item))
            });
            let Some(equal) = equal.collect::<Option<Vec<_>>>() else { return };
            let Some(any) = joined(equal, &BinaryOperator::Or) else { return };
            let any = nested(any);
            *expr = if *negated {
                Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) }
            } else {
                any
            };
        }
        _ => {}
    }
}

/// Returns the columns of an expression that is a row.
fn row(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(columns) if columns.len() > 1 => Some(columns),
        Expr::Nested(inner) => row(inner),
        _ => None,
    }
}

fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    let each = |op: &BinaryOperator| {
        let pairs = left.iter().zip(right);
        pairs.map(|(left, right)| binary(left.clone(), op.clone(), right.clone())).collect()
    };
    let compared = match op {
        BinaryOperator::Eq => joined(each(op), &BinaryOperator::And),
        BinaryOperator::NotEq => joined(each(op), &BinaryOperator::Or),
        BinaryOperator::Lt | BinaryOperator::LtEq => ordered(left, &BinaryOperator::Lt, op, right),
        BinaryOperator::Gt | BinaryOperator::GtEq => ordered(left, &BinaryOperator::Gt, op, right),
        _ => None,
    };
    compared.map(nested)
}

/// Builds `a < x OR (a = x AND …)`, with `last` as the operator of the last column. Splits the columns in
/// halves, for a tree of minimum depth.
fn ordered(
    left: &[Expr],
    strictly: &BinaryOperator,
    last: &BinaryOperator,
    right: &[Expr],
) -> Option<Expr> {
    let half = match left {
        [] => return None,
        [left] => return Some(binary(left.clone(), last.clone(), right.first()?.clone())),
        more => more.len() / 2,
    };
    let ((first, rest), (other, others)) = (left.split_at(half), right.split_at_checked(half)?);
    let less = ordered(first, strictly, strictly, other)?;
    let equal = first.iter().zip(other);
    let equal = equal.map(|(left, right)| binary(left.clone(), BinaryOperator::Eq, right.clone()));
    let equal = joined(equal.collect(), &BinaryOperator::And)?;
    let rest = ordered(rest, strictly, last, others)?;
    let rest = binary(equal, BinaryOperator::And, nested(rest));
    Some(binary(less, BinaryOperator::Or, nested(rest)))
}

fn joined(parts: Vec<Expr>, op: &BinaryOperator) -> Option<Expr> {
    balanced(parts, |left, right| binary(left, op.clone(), right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    #[test]
    fn rows_are_compared_column_by_column() {
        let cases = [
            ("(a, b) = (1, 2)", "(a = 1 AND b = 2)"),
            ("(a, b) <> (1, 2)", "(a <> 1 OR b <> 2)"),
            ("(a, b) <= (1, 2)", "(a < 1 OR (a = 1 AND (b <= 2)))"),
            (
                "(a, b, c, d) < (1, 2, 3, 4)",
                "(a < 1 OR (a = 1 AND (b < 2)) OR (a = 1 AND b = 2 AND (c < 3 OR (c = 3 AND (d < 4)))))",
            ),
            ("(a, b) IN ((1, 2), (3, 4))", "((a = 1 AND b = 2) OR (a = 3 AND b = 4))"),
            ("a = 1", "a = 1"),
        ];
        for (given, expected) in cases {
            let mut query = parse_query(&format!("SELECT {given}")).unwrap();
            compare_columns(&mut query);
            assert_eq!(query.to_string(), format!("SELECT {expected}"));
        }
    }
}
