//! Rewrites row comparisons, `(a, b) = (1, 2)`, to comparisons of their columns: DataFusion compares rows as
//! structs, in which null is an ordinary value.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Query, Select, SelectItem, TableAliasColumnDef, TableFactor, UnaryOperator, Value, VisitMut,
    VisitorMut,
};

use crate::trees::{
    balanced, binary, call, named, nested, null, quoted, relation, select, table_alias, take,
};
use tidemark_pg::error::SqlError;

/// The name of a subquery whose rows are compared; no user can write it.
const ROWS: &str = "\u{1}rows";

/// Rewrites every row comparison in `node`.
pub fn compare_columns<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Comparer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Comparer;

impl VisitorMut for Comparer {
    type Break = SqlError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        if let Some(condition) = &mut select.selection {
            join_where_true(condition);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match rewrite(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// `(a, b) IN (query)` where null is as good as false: an `EXISTS`, which the engine can join.
fn join_where_true(condition: &mut Expr) {
    match condition {
        Expr::Nested(inner) => join_where_true(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            join_where_true(left);
            join_where_true(right);
        }
        Expr::InSubquery { expr, subquery, negated: false } => {
            let Some(tested) = row(expr) else { return };
            let columns = columns(tested.len());
            let Some(equal) = compared(&tested, &BinaryOperator::Eq, &columns) else { return };
            let query = take_query(subquery);
            let one = SelectItem::UnnamedExpr(Expr::value(Value::Boolean(true)));
            let found = select(vec![one]).from([relation(rows_of(query, columns.len()))]);
            let subquery = Box::new(found.filter(Some(equal)).query());
            *condition = Expr::Exists { subquery, negated: false };
        }
        _ => {}
    }
}

fn rewrite(expr: &mut Expr) -> Result<(), SqlError> {
    let rewritten = match expr {
        Expr::Nested(inner) if matches!(**inner, Expr::Tuple(_)) => Some(take(inner)),
        Expr::BinaryOp { left, op, right } => binary_op(left, op, right)?,
        Expr::IsNull(inner) => row(inner).and_then(|row| all(&row, Expr::IsNull)),
        Expr::IsNotNull(inner) => row(inner).and_then(|row| all(&row, Expr::IsNotNull)),
        Expr::IsDistinctFrom(left, right) => {
            distinct(left, right, Expr::IsDistinctFrom, &BinaryOperator::Or)?
        }
        Expr::IsNotDistinctFrom(left, right) => {
            distinct(left, right, Expr::IsNotDistinctFrom, &BinaryOperator::And)?
        }
        Expr::Between { expr, negated, low, high } => between(expr, low, high, *negated)?,
        Expr::InList { expr: tested, list, negated } => in_list(tested, list, *negated)?,
        Expr::InSubquery { expr: tested, subquery, negated } => row(tested)
            .and_then(|tested| quantified(&tested, &BinaryOperator::Eq, subquery, true))
            .map(|any| negated_if(any, *negated)),
        Expr::AnyOp { left, compare_op, right, .. } => against(left, compare_op, right, true),
        Expr::AllOp { left, compare_op, right } => against(left, compare_op, right, false),
        _ => None,
    };
    if let Some(rewritten) = rewritten {
        *expr = rewritten;
    }
    Ok(())
}

fn binary_op(
    left: &mut Expr,
    op: &BinaryOperator,
    right: &mut Expr,
) -> Result<Option<Expr>, SqlError> {
    match (row(left), row(right)) {
        (Some(left), Some(right)) => {
            same_length(&left, &right)?;
            Ok(compared(&left, op, &right))
        }
        (Some(left), None) => Ok(scalar(right, |columns| compared(&left, op, columns), left.len())),
        (None, Some(right)) => {
            Ok(scalar(left, |columns| compared(columns, op, &right), right.len()))
        }
        (None, None) => Ok(None),
    }
}

/// The comparison with the only row of a subquery.
fn scalar(
    side: &mut Expr,
    compared: impl FnOnce(&[Expr]) -> Option<Expr>,
    count: usize,
) -> Option<Expr> {
    let Expr::Subquery(query) = side else { return None };
    let compared = compared(&columns(count))?;
    let rows = rows_of(take_query(query), count);
    let query = select(vec![named(compared, "compared")]).from([relation(rows)]).query();
    Some(Expr::Subquery(Box::new(query)))
}

fn against(left: &Expr, op: &BinaryOperator, right: &mut Expr, any: bool) -> Option<Expr> {
    let left = row(left)?;
    let mut right = right;
    while let Expr::Nested(inner) = right {
        right = inner;
    }
    match right {
        Expr::Subquery(query) => quantified(&left, op, query, any),
        _ => None,
    }
}

/// Whether a row compares with any, or all, rows of a subquery.
fn quantified(left: &[Expr], op: &BinaryOperator, query: &mut Query, any: bool) -> Option<Expr> {
    let compared = compared(left, op, &columns(left.len()))?;
    let decides = if any { compared.clone() } else { negated_if(compared.clone(), true) };
    let unknown = Expr::IsNull(Box::new(compared));
    let exists = |condition: Expr| call("bool_or", vec![condition]);
    let is = |value: bool| Expr::value(Value::Boolean(value));
    let case = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![
            CaseWhen { condition: exists(decides), result: is(any) },
            CaseWhen { condition: exists(unknown), result: null() },
        ],
        else_result: Some(Box::new(is(!any))),
    };
    let rows = rows_of(take_query(query), left.len());
    let query = select(vec![named(case, "compared")]).from([relation(rows)]).query();
    Some(Expr::Subquery(Box::new(query)))
}

fn take_query(query: &mut Query) -> Query {
    std::mem::replace(query, select(vec![]).query())
}

/// A subquery in `FROM` whose columns are [`columns`].
fn rows_of(query: Query, count: usize) -> TableFactor {
    let mut alias = table_alias(quoted(ROWS));
    let column = |at| TableAliasColumnDef { name: quoted(column_name(at)), data_type: None };
    alias.columns = (0..count).map(column).collect();
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(alias),
        sample: None,
    }
}

fn columns(count: usize) -> Vec<Expr> {
    (0..count).map(|at| Expr::Identifier(quoted(column_name(at)))).collect()
}

fn column_name(at: usize) -> String {
    format!("{ROWS}{at}")
}

fn all(row: &[Expr], test: fn(Box<Expr>) -> Expr) -> Option<Expr> {
    let tests = row.iter().map(|column| test(Box::new(column.clone()))).collect();
    joined(tests, &BinaryOperator::And).map(nested)
}

fn distinct(
    left: &Expr,
    right: &Expr,
    test: fn(Box<Expr>, Box<Expr>) -> Expr,
    op: &BinaryOperator,
) -> Result<Option<Expr>, SqlError> {
    let (Some(left), Some(right)) = (row(left), row(right)) else { return Ok(None) };
    same_length(&left, &right)?;
    let pairs = left.into_iter().zip(right);
    let tests = pairs.map(|(left, right)| test(Box::new(left), Box::new(right))).collect();
    Ok(joined(tests, op).map(nested))
}

fn between(
    tested: &Expr,
    low: &Expr,
    high: &Expr,
    negated: bool,
) -> Result<Option<Expr>, SqlError> {
    let (Some(tested), Some(low), Some(high)) = (row(tested), row(low), row(high)) else {
        return Ok(None);
    };
    same_length(&tested, &low)?;
    same_length(&tested, &high)?;
    let above = compared(&tested, &BinaryOperator::GtEq, &low);
    let below = compared(&tested, &BinaryOperator::LtEq, &high);
    let both = above.zip(below).map(|(above, below)| binary(above, BinaryOperator::And, below));
    Ok(both.map(|both| negated_if(nested(both), negated)))
}

fn in_list(tested: &Expr, list: &[Expr], negated: bool) -> Result<Option<Expr>, SqlError> {
    let Some(tested) = row(tested) else { return Ok(None) };
    let mut equal = vec![];
    for item in list {
        let Some(item) = row(item) else { return Ok(None) };
        same_length(&tested, &item)?;
        equal.extend(compared(&tested, &BinaryOperator::Eq, &item));
    }
    Ok(joined(equal, &BinaryOperator::Or).map(|any| negated_if(nested(any), negated)))
}

fn negated_if(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) } } else { expr }
}

fn same_length(left: &[Expr], right: &[Expr]) -> Result<(), SqlError> {
    if left.len() == right.len() {
        return Ok(());
    }
    Err(SqlError::syntax("unequal number of entries in row expressions"))
}

/// The columns of an expression that is a row.
fn row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(columns) if columns.len() > 1 => Some(columns.clone()),
        Expr::Nested(inner) => row(inner),
        Expr::Function(Function {
            name, args: FunctionArguments::List(list), over: None, ..
        }) if name.to_string().eq_ignore_ascii_case("row") && !list.args.is_empty() => {
            let columns = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(column)) => Some(column.clone()),
                _ => None,
            });
            columns.collect()
        }
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
            ("(a, NULL) IS NULL", "(a IS NULL AND NULL IS NULL)"),
            ("ROW(a, b) IS DISTINCT FROM (1, 2)", "(a IS DISTINCT FROM 1 OR b IS DISTINCT FROM 2)"),
            ("a = 1", "a = 1"),
        ];
        for (given, expected) in cases {
            let mut query = parse_query(&format!("SELECT {given}")).unwrap();
            compare_columns(&mut query).unwrap();
            assert_eq!(query.to_string(), format!("SELECT {expected}"));
        }
    }
}
