//! `VALUES`: of several rows DataFusion requires the same metadata in every cell of a column, but only casts have
//! any; and it evaluates the cells before it runs subqueries.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Parens, Query, SetExpr, SetOperator, SetQuantifier, Values, VisitMut, VisitorMut,
};

use crate::trees::{self, balanced, call, has_query, named, take};
use tidemark_pg::functions::PLAIN;

/// Wraps the computed cells of `VALUES` to drop their metadata.
pub fn plain_values<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Plain);
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

struct Plain;

impl VisitorMut for Plain {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        plain_body(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn plain_body(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            plain_body(left);
            plain_body(right);
        }
        SetExpr::Values(values)
            if values.rows.iter().any(|row| row.content.iter().any(has_query)) =>
        {
            *body = selects(values);
        }
        SetExpr::Values(values) if values.rows.len() > 1 => {
            let cells = values.rows.iter_mut().flat_map(|row| &mut row.content);
            for cell in cells.filter(|cell| !matches!(cell, Expr::Value(_))) {
                *cell = call(PLAIN, vec![take(cell)]);
            }
        }
        _ => {}
    }
}

/// Rewrites `VALUES` as a `SELECT` per row, with the names that the columns of `VALUES` have.
fn selects(values: &Values) -> SetExpr {
    let select = |row: &Parens<Vec<Expr>>| {
        let cells = row.content.iter().cloned().enumerate();
        let items = cells.map(|(index, cell)| named(cell, format!("column{}", index + 1)));
        trees::select(items.collect()).body()
    };
    let union = |left: SetExpr, right: SetExpr| SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(left),
        right: Box::new(right),
    };
    let rows = balanced(values.rows.iter().map(select).collect(), union);
    rows.unwrap_or_else(|| SetExpr::Values(values.clone()))
}
