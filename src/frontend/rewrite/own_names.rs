//! Calls of functions under the names they were defined with.
//!
//! Of a call under another name, `row(a)` for `struct(a)`, DataFusion keeps the text of the call as an alias,
//! inside of which is the text of its arguments and their aliases: twice as much for each level of
//! `row(row(row(…)))`. What columns are called is for [`super::output_names()`].

use std::ops::ControlFlow;

use datafusion::execution::context::SessionState;
use sqlparser::ast::{Expr, Ident, ObjectNamePart, VisitMut, visit_expressions_mut};

use crate::frontend::parser::folded;

/// Gives every call in `node` the own name of what it calls.
pub fn own_names<N: VisitMut>(node: &mut N, state: &SessionState) {
    let flow: ControlFlow<()> = visit_expressions_mut(node, |expr| {
        if let Expr::Function(function) = expr
            && let [ObjectNamePart::Identifier(name)] = function.name.0.as_mut_slice()
            && let Some(own) = own_name(&folded(name), function.over.is_some(), state)
        {
            *name = Ident::with_quote('"', own);
        }
        ControlFlow::Continue(())
    });
    debug_assert!(flow.is_continue(), "the visitor never breaks off");
}

/// The name of the function that is found under another one, in the order in which the planner looks.
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
