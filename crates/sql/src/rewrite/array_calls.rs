//! `ARRAY[…]` with columns as the call that DataFusion makes of it: its planner looks for the columns of an array
//! in the innermost query only.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, VisitMut, visit_expressions, visit_expressions_mut};

use crate::trees::{call, take};

/// Rewrites every such array in `node`.
pub fn call_arrays<N: VisitMut>(node: &mut N) {
    let flow: ControlFlow<()> = visit_expressions_mut(node, |expr| {
        if let Expr::Array(array) = expr
            && array.elem.iter().any(has_column)
        {
            let elements = array.elem.iter_mut().map(take).collect();
            *expr = call("make_array", elements);
        }
        ControlFlow::Continue(())
    });
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

fn has_column(expr: &Expr) -> bool {
    let flow = visit_expressions(expr, |inner| match inner {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}
