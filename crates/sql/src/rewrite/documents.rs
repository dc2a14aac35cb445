//! Makes documents of the arguments of `jsonb_agg` and `jsonb_object_agg`, so that only scalar functions know how.

use std::ops::ControlFlow;

use sqlparser::ast::{
    DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, VisitMut, VisitorMut,
};

use crate::trees::{call, take};
use tidemark_pg::error::SqlError;

/// Rewrites every such call in `node`.
pub fn make_documents<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Documents) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Documents;

impl VisitorMut for Documents {
    type Break = Box<SqlError>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<SqlError>> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        if !matches!(name.as_str(), "jsonb_agg" | "jsonb_object_agg") {
            return ControlFlow::Continue(());
        }
        let FunctionArguments::List(list) = &mut function.args else {
            return ControlFlow::Continue(());
        };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            let error = SqlError::unsupported(format!("DISTINCT in {name}"));
            return ControlFlow::Break(Box::new(error));
        }
        for arg in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg {
                *value = call("to_jsonb", vec![take(value)]);
            }
        }
        ControlFlow::Continue(())
    }
}
