//! `tableoid`: a hidden column of every table, unknown to DataFusion. It is replaced before column names are
//! chosen, as these derive from the written expression.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, ObjectName, Select, SelectItem, TableFactor, TableWithJoins, VisitMut, VisitorMut,
    visit_expressions, visit_expressions_mut,
};

use super::output_names::column_name;
use crate::parser::folded;
use crate::trees::{call, named, string, take};

const TABLEOID: &str = "tableoid";

/// Replaces `t.tableoid` with the oid of the table that `t` refers to.
pub fn reveal<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Revealer);
    debug_assert!(flow.is_continue(), "revealing never stops");
}

struct Revealer;

impl VisitorMut for Revealer {
    type Break = ();

    // Runs after the subqueries, where the same name may be another table.
    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut tables = vec![];
        select.from.iter().for_each(|from| collect_tables(from, &mut tables));
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && mentions_any(expr, &tables)
            {
                let name = column_name(expr);
                *item = named(take(expr), name);
            }
        }
        visit_expressions_mut(select, |expr| {
            if let Some(table) = table_of(expr, &tables) {
                *expr = call("to_regclass_oid", vec![string(table.to_string())]);
            }
            ControlFlow::Continue(())
        })
    }
}

/// The table whose hidden column the expression is.
fn table_of<'a>(expr: &Expr, tables: &'a [(String, ObjectName)]) -> Option<&'a ObjectName> {
    match expr {
        Expr::Identifier(column) if folded(column) == TABLEOID => match tables {
            [(_, table)] => Some(table),
            _ => None,
        },
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., table, column] if folded(column) == TABLEOID => {
                let wanted = folded(table);
                tables.iter().find(|(name, _)| *name == wanted).map(|(_, table)| table)
            }
            _ => None,
        },
        _ => None,
    }
}

fn mentions_any(expr: &Expr, tables: &[(String, ObjectName)]) -> bool {
    let flow = visit_expressions(expr, |inner| match table_of(inner, tables) {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    });
    flow.is_break()
}

/// Collects the tables of a query with the names they are referred to by.
fn collect_tables(from: &TableWithJoins, tables: &mut Vec<(String, ObjectName)>) {
    let factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation));
    for factor in factors {
        match factor {
            TableFactor::Table { name, args: None, alias, .. } => {
                let last = name.0.last().and_then(|part| part.as_ident());
                let called = alias.as_ref().map(|alias| &alias.name).or(last);
                tables.extend(called.map(|called| (folded(called), name.clone())));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                collect_tables(table_with_joins, tables);
            }
            _ => {}
        }
    }
}
