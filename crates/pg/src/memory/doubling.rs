//! Refuses expressions and queries whose planning time doubles with each nesting level, before anything is
//! planned.
//!
//! DataFusion resolves the relations of a query in `WITH` once for the query around it and once for itself.
//! It derives a `CASE` that is an argument of a call twice, once for its type and once for its nullability,
//! and each pass derives both for the arguments of the calls inside. It plans the arguments of `map` twice,
//! and rewrites `coalesce(a, b)` to a `CASE` that contains `a` twice; row comparisons behave alike. A dozen
//! levels take thousands of times the work, and twenty more than anyone waits for. Much of that work runs
//! without a checkpoint, so neither a timeout nor a cancel request can stop it.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Function, Query, Visit, Visitor};

use super::planning::too_complex;
use crate::error::SqlError;

/// Most queries with a `WITH` nested inside each other.
const WITHS_MAX: usize = 8;
/// Most derivations for one expression, if that is also far more than the number of its parts.
const DERIVED_MAX: usize = 50_000;
const DERIVED_PER_PART: usize = 8;

/// Refuses an expression or query whose planning time doubles at each of many levels (54001).
pub fn check<N: Visit>(node: &N) -> Result<(), SqlError> {
    let mut doubling = Doubling { withs: 0, parts: 0, open: vec![vec![]] };
    match node.visit(&mut doubling) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// How many expressions are derived to learn the name, type and nullability of one expression: all three, the
/// type only, or the nullability only.
#[derive(Clone, Copy, Default)]
struct Derived {
    all: usize,
    of_type: usize,
    of_null: usize,
}

impl Derived {
    fn and(self, other: Self) -> Self {
        Self {
            all: self.all.saturating_add(other.all),
            of_type: self.of_type.saturating_add(other.of_type),
            of_null: self.of_null.saturating_add(other.of_null),
        }
    }

    /// An expression that derives everything of its parts, whatever is asked of it.
    fn same(all: usize) -> Self {
        Self { all, of_type: all, of_null: all }
    }
}

struct Doubling {
    /// Depth of enclosing queries with a `WITH`.
    withs: usize,
    /// Number of expressions seen.
    parts: usize,
    /// The direct parts of each open expression, innermost last.
    open: Vec<Vec<Derived>>,
}

impl Doubling {
    fn close(&mut self) -> Vec<Derived> {
        self.open.pop().unwrap_or_default()
    }
}

impl Visitor for Doubling {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        // The properties of an expression do not depend on the inside of its subqueries.
        self.open.push(vec![]);
        self.withs += usize::from(query.with.is_some());
        if self.withs > WITHS_MAX {
            return ControlFlow::Break(Box::new(nested_with()));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.close();
        self.withs -= usize::from(query.with.is_some());
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<Self::Break> {
        self.parts += 1;
        self.open.push(vec![]);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let derived = derived(expr, &self.close());
        if derived.all > DERIVED_MAX.max(DERIVED_PER_PART * self.parts) {
            return ControlFlow::Break(Box::new(nested_case()));
        }
        if let Some(around) = self.open.last_mut() {
            around.push(derived);
        }
        ControlFlow::Continue(())
    }
}

fn derived(expr: &Expr, parts: &[Derived]) -> Derived {
    let sum = |parts: &[Derived]| parts.iter().fold(Derived::default(), |sum, part| sum.and(*part));
    let all = sum(parts).all.saturating_add(1);
    match expr {
        Expr::Nested(_) => sum(parts).and(Derived { all: 1, ..Derived::default() }),
        Expr::Case { operand, .. } => case(operand.is_some(), parts),
        Expr::Function(function) if is_planned_twice(function) => {
            Derived::same(all.saturating_mul(2))
        }
        Expr::Function(function) if is_held_twice(function) => {
            let tested = parts.split_last().map_or(0, |(_, tested)| sum(tested).all);
            Derived::same(all.saturating_add(tested))
        }
        // All columns of the rows but the last are compared twice.
        Expr::BinaryOp { left, right, .. } if is_row(left) && is_row(right) => {
            Derived::same(all.saturating_mul(2))
        }
        Expr::InList { expr: tested, list, .. } if is_row(tested) => {
            let tested = parts.first().map_or(0, |tested| tested.all);
            Derived::same(all.saturating_add(tested.saturating_mul(list.len())))
        }
        // Operators and casts may be rewritten to calls.
        _ => Derived::same(all),
    }
}

/// The parts are the operand, if there is one, then each condition with its result, then the `ELSE`.
fn case(has_operand: bool, parts: &[Derived]) -> Derived {
    let arms = parts.get(usize::from(has_operand)..).unwrap_or_default();
    let (arms, other) = arms.as_chunks::<2>();
    let (mut of_type, mut of_null) = (1_usize, 1_usize);
    for [condition, result] in arms {
        of_type = of_type.saturating_add(result.of_type);
        of_null = of_null.saturating_add(condition.of_null).saturating_add(result.of_null);
    }
    for other in other {
        of_type = of_type.saturating_add(other.of_type);
        of_null = of_null.saturating_add(other.of_null);
    }
    Derived { all: of_type.saturating_add(of_null), of_type, of_null }
}

fn is_row(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_row(inner),
        expr => matches!(expr, Expr::Tuple(_)),
    }
}

fn is_planned_twice(function: &Function) -> bool {
    is_named(function, &["map"])
}

/// Whether the call is rewritten to a `CASE` that tests and yields all arguments but the last.
fn is_held_twice(function: &Function) -> bool {
    is_named(function, &["coalesce", "nvl", "ifnull"])
}

fn is_named(function: &Function, names: &[&str]) -> bool {
    let name = function.name.0.last().and_then(|name| name.as_ident());
    name.is_some_and(|name| names.iter().any(|one| name.value.eq_ignore_ascii_case(one)))
}

fn nested_with() -> SqlError {
    too_complex(format!("More than {WITHS_MAX} queries with a WITH are inside each other."))
        .hint("Write the queries one after the other into one WITH.")
}

fn nested_case() -> SqlError {
    too_complex("Calls and CASE are inside each other, in turns, on too many levels.".to_owned())
        .hint("Compute what is inside in a subquery, and refer to its column.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::parse_query;
    use crate::sqlstate::SqlState;

    fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
        format!("SELECT {}{inner}{} FROM t", open.repeat(levels), close.repeat(levels))
    }

    fn checked(text: &str) -> Option<SqlState> {
        check(&parse_query(text)).err().map(|error| error.sqlstate)
    }

    #[test]
    fn what_doubles_at_each_level_is_bounded() {
        for (open, close) in [
            ("abs(CASE WHEN a = 1 THEN ", " END)"),
            ("coalesce(CASE a WHEN 1 THEN 2 ELSE ", " END, 2)"),
            ("(CASE WHEN a = 1 THEN ", " END + 1)"),
            ("map(1, ", ")"),
            ("coalesce(", ", 1)"),
            ("((", ", 1) < (1, 1))"),
            ("((", ", 1) IN ((1, 1), (2, 2)))"),
        ] {
            assert_eq!(checked(&nested(open, "a", close, 6)), None, "{open}");
            let refused = checked(&nested(open, "a", close, 20));
            assert_eq!(refused, Some(SqlState::STATEMENT_TOO_COMPLEX), "{open}");
        }
        let with = |levels: usize| {
            let (open, close) = ("WITH a AS (".repeat(levels), ") SELECT 1".repeat(levels));
            format!("{open}SELECT 1{close}")
        };
        assert_eq!(checked(&with(WITHS_MAX)), None);
        assert_eq!(checked(&with(WITHS_MAX + 1)), Some(SqlState::STATEMENT_TOO_COMPLEX));
    }

    #[test]
    fn what_does_not_double_may_nest() {
        for (open, close) in [
            ("CASE WHEN a = 1 THEN 2 ELSE ", " END"),
            ("(CASE a WHEN 1 THEN ", " END)"),
            ("CASE WHEN abs(", ") = 1 THEN 1 END"),
            ("abs(", ")"),
            ("coalesce(1, abs(", "))"),
        ] {
            assert_eq!(checked(&nested(open, "a", close, 50)), None, "{open}");
        }
        let flat = format!("SELECT abs(CASE {} END)", "WHEN a = 1 THEN b + 1 ".repeat(20_000));
        assert_eq!(checked(&flat), None);
    }
}
