//! Replaces aliases of functions in nested calls with the functions' defined names.
//!
//! For a call by an alias, as `row(a)` for `struct(a)`, DataFusion keeps the text of the call as a column
//! alias, which contains the text of the arguments and their aliases: it doubles with each level of
//! `row(row(row(…)))`. [`super::output_names()`] names the columns.

use std::ops::ControlFlow;

use datafusion::execution::context::SessionState;
use sqlparser::ast::{Expr, ObjectNamePart, Query, VisitMut, VisitorMut};

use crate::parser::folded;
use crate::trees::quoted;

/// Rewrites the calls in `node` that are arguments of other calls. The outermost keep their names, by which
/// the planner distinguishes columns, as `now()` and `current_timestamp`.
pub fn own_names<N: VisitMut>(node: &mut N, state: &SessionState) {
    let flow = node.visit(&mut OwnNames { state, calls: vec![0] });
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

struct OwnNames<'a> {
    state: &'a SessionState,
    /// Depth of calls, for each enclosing query.
    calls: Vec<usize>,
}

impl VisitorMut for OwnNames<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.calls.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.calls.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (Expr::Function(function), Some(calls)) = (expr, self.calls.last_mut()) else {
            return ControlFlow::Continue(());
        };
        *calls += 1;
        if *calls > 1
            && let [ObjectNamePart::Identifier(name)] = function.name.0.as_mut_slice()
            && let Some(own) = own_name(&folded(name), function.over.is_some(), self.state)
        {
            *name = quoted(own);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (Expr::Function(_), Some(calls)) = (expr, self.calls.last_mut()) {
            *calls -= 1;
        }
        ControlFlow::Continue(())
    }
}

/// Returns the defined name of the function behind an alias, in the planner's lookup order.
fn own_name(name: &str, is_window: bool, state: &SessionState) -> Option<String> {
    let scalars = state.scalar_functions();
    if let Some(function) = scalars.get(name) {
        return other(name, function.name(), |own| scalars.get(own) == Some(function));
    }
    let aggregates = state.aggregate_functions();
    if let Some(function) = aggregates.get(name) {
        return other(name, function.name(), |own| aggregates.get(own) == Some(function));
    }
    let windows = state.window_functions();
    let function = windows.get(name).filter(|_| is_window)?;
    other(name, function.name(), |own| windows.get(own) == Some(function))
}

fn other(name: &str, own: &str, is_same: impl Fn(&str) -> bool) -> Option<String> {
    (own != name && is_same(own)).then(|| own.to_owned())
}
