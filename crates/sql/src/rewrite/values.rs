//! `VALUES` of several rows: DataFusion requires the same metadata in every cell of a column, but only casts
//! have any.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, SetExpr, VisitMut, VisitorMut};

use crate::trees::{call, take};
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
        SetExpr::Values(values) if values.rows.len() > 1 => {
            let cells = values.rows.iter_mut().flat_map(|row| &mut row.content);
            for cell in cells.filter(|cell| !matches!(cell, Expr::Value(_))) {
                *cell = call(PLAIN, vec![take(cell)]);
            }
        }
        _ => {}
    }
}
