//! `count(t.*)`: the number of rows that have a row of `t`, which an outer join may leave out.
//!
//! DataFusion would take it for `count(*)`. Where the relation always has a row, it is; elsewhere the relation gets a
//! column that is never null in its rows.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinOperator, Query,
    Select, SelectItem, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
    WildcardAdditionalOptions,
};

use crate::parser::folded;
use crate::trees::{named, quoted, relation, select, table_alias};

/// The column of such a relation; no user can write it.
const PRESENT: &str = "\u{1}present";

/// Rewrites every such call in `node`. Those of relations that it does not understand stay, to be refused.
pub fn count_rows<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Counter);
    debug_assert!(flow.is_continue(), "counting never stops");
}

struct Counter;

impl VisitorMut for Counter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let Select { from, projection, having, .. } = select;
        let mut calls = Calls { depth: 0, from, shows_all: shows_all(projection) };
        for item in projection.iter_mut() {
            item.visit(&mut calls)?;
        }
        having.visit(&mut calls)
    }
}

fn shows_all(projection: &[SelectItem]) -> bool {
    projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)))
}

/// The calls of one select, outside of its subqueries.
struct Calls<'a> {
    depth: usize,
    from: &'a mut [TableWithJoins],
    shows_all: bool,
}

impl VisitorMut for Calls<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Function(function) = expr
            && let Some((arg, table)) = counted_row(function)
            && let Some(counted) = self.count(&table)
        {
            *arg = FunctionArg::Unnamed(counted);
        }
        ControlFlow::Continue(())
    }
}

/// The argument of `count(t.*)`, and the name of the relation.
fn counted_row(function: &mut Function) -> Option<(&mut FunctionArg, Ident)> {
    if !function.name.to_string().eq_ignore_ascii_case("count") {
        return None;
    }
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let [arg] = list.args.as_mut_slice() else { return None };
    if list.duplicate_treatment.is_some() {
        return None;
    }
    let table = match &*arg {
        FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
            let [part] = name.0.as_slice() else { return None };
            part.as_ident()?.clone()
        }
        _ => return None,
    };
    Some((arg, table))
}

impl Calls<'_> {
    /// What to count for the rows of the relation; `None` if the relation is not understood.
    fn count(&mut self, table: &Ident) -> Option<FunctionArgExpr> {
        let shows_all = self.shows_all;
        let (factor, may_lack) = find(self.from, table)?;
        if !may_lack {
            return Some(FunctionArgExpr::Wildcard);
        }
        if shows_all {
            return None;
        }
        if !is_marked(factor) {
            mark(factor, table);
        }
        let column = vec![table.clone(), quoted(PRESENT)];
        Some(FunctionArgExpr::Expr(Expr::CompoundIdentifier(column)))
    }
}

/// The relation of a name, and whether an outer join may have no row of it.
fn find<'a>(from: &'a mut [TableWithJoins], table: &Ident) -> Option<(&'a mut TableFactor, bool)> {
    let wanted = folded(table);
    for tables in from {
        let mut found = is_called(&tables.relation, &wanted).then_some((0, false));
        for (at, join) in tables.joins.iter().enumerate() {
            let (left, right) = lacks(&join.join_operator)?;
            if let Some((_, may_lack)) = &mut found {
                *may_lack |= left;
            }
            if is_called(&join.relation, &wanted) {
                found = Some((at + 1, right));
            }
        }
        match found {
            Some((0, may_lack)) => return Some((&mut tables.relation, may_lack)),
            Some((at, may_lack)) => return Some((&mut tables.joins[at - 1].relation, may_lack)),
            None => {}
        }
    }
    None
}

/// Whether a join may have no row of its left and of its right side.
fn lacks(join: &JoinOperator) -> Option<(bool, bool)> {
    match join {
        JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {
            Some((false, false))
        }
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => Some((false, true)),
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Some((true, false)),
        JoinOperator::FullOuter(_) => Some((true, true)),
        _ => None,
    }
}

fn is_called(factor: &TableFactor, wanted: &str) -> bool {
    let name = match factor {
        TableFactor::Table { name, alias: None, args: None, .. } => {
            name.0.last().and_then(|part| part.as_ident())
        }
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), lateral: false, .. } => Some(&alias.name),
        _ => None,
    };
    name.is_some_and(|name| folded(name) == wanted)
}

fn is_marked(factor: &TableFactor) -> bool {
    let TableFactor::Derived { subquery, .. } = factor else { return false };
    let Some(select) = subquery.body.as_select() else { return false };
    select.projection.iter().any(
        |item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.value == PRESENT),
    )
}

/// Rewrites a relation to `(SELECT *, true AS present FROM relation)`.
fn mark(factor: &mut TableFactor, table: &Ident) {
    let marked = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(select(vec![]).query()),
        alias: Some(table_alias(table.clone())),
        sample: None,
    };
    let plain = std::mem::replace(factor, marked);
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    let present = named(Expr::value(Value::Boolean(true)), PRESENT);
    if let TableFactor::Derived { subquery, .. } = factor {
        **subquery = select(vec![all, present]).from([relation(plain)]).query();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::parse_query;

    fn rewritten(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap();
        count_rows(&mut query);
        query.to_string().replace('\u{1}', "")
    }

    #[test]
    fn rows_that_are_always_there_are_counted() {
        for from in ["a", "a JOIN b ON true", "a LEFT JOIN b ON true", "b RIGHT JOIN a ON true"] {
            assert_eq!(
                rewritten(&format!("SELECT count(a.*) FROM {from}")),
                format!("SELECT count(*) FROM {from}")
            );
        }
    }

    #[test]
    fn rows_that_may_be_missing_are_marked() {
        assert_eq!(
            rewritten("SELECT count(b.*) FROM a LEFT JOIN t AS b ON true"),
            "SELECT count(b.\"present\") FROM a LEFT JOIN \
             (SELECT *, true AS \"present\" FROM t AS b) AS b ON true"
        );
        for other in
            ["SELECT *, count(b.*) OVER () FROM a LEFT JOIN b ON true", "SELECT count(c.*) FROM a"]
        {
            assert_eq!(rewritten(other), other);
        }
    }
}
