//! Checks which clauses a call has, as PostgreSQL's parser does: `DISTINCT`, `ORDER BY`, `FILTER`, `WITHIN GROUP`, `OVER`.
//!
//! DataFusion accepts more, and ignores some.

use std::ops::ControlFlow;

use datafusion::execution::context::SessionState;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, OrderByExpr, Query, Visit as _, Visitor,
};

use crate::parser::folded;
use tidemark_pg::aggregates::{is_aggregate, is_ordered_set};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::window_functions::is_window_function;

/// Window functions that PostgreSQL also has as aggregates of a hypothetical row.
const HYPOTHETICAL: [&str; 4] = ["rank", "dense_rank", "percent_rank", "cume_dist"];

/// Checks every call in a query.
pub fn check_calls(query: &Query, state: &SessionState) -> Result<(), SqlError> {
    result(query.visit(&mut Checker { state }))
}

type Flow = ControlFlow<Box<SqlError>>;

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn result(flow: Flow) -> Result<(), SqlError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The name of a function, without PostgreSQL's schema.
fn name_of(function: &Function) -> String {
    let parts: Option<Vec<_>> =
        function.name.0.iter().map(|part| part.as_ident().map(folded)).collect();
    match parts.as_deref() {
        Some([schema, name]) if schema == "pg_catalog" => name.clone(),
        Some([name]) => name.clone(),
        _ => function.name.to_string(),
    }
}

struct Checker<'a> {
    state: &'a SessionState,
}

impl Visitor for Checker<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) => flow(self.check_call(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The parts of the parentheses of a call.
#[derive(Default)]
struct Arguments<'a> {
    args: &'a [FunctionArg],
    order_by: &'a [OrderByExpr],
    distinct: bool,
    null_treatment: bool,
}

impl<'a> Arguments<'a> {
    fn of(function: &'a Function) -> Self {
        let null_treatment = function.null_treatment.is_some();
        let FunctionArguments::List(list) = &function.args else {
            return Self { null_treatment, ..Self::default() };
        };
        let order_by = list.clauses.iter().find_map(|clause| match clause {
            FunctionArgumentClause::OrderBy(exprs) => Some(exprs.as_slice()),
            _ => None,
        });
        let treats_nulls = |clause: &FunctionArgumentClause| {
            matches!(clause, FunctionArgumentClause::IgnoreOrRespectNulls(_))
        };
        Self {
            args: &list.args,
            order_by: order_by.unwrap_or_default(),
            distinct: list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
            null_treatment: null_treatment || list.clauses.iter().any(treats_nulls),
        }
    }

    fn is_star(&self) -> bool {
        let star =
            |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
        self.args.iter().any(star)
    }

    /// Whether the expression is one of the arguments.
    fn contains(&self, expr: &Expr) -> bool {
        self.args.iter().any(
            |arg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) if arg == expr),
        )
    }
}

fn wrong_object(message: String) -> SqlError {
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)
}

fn not_over_windows(clause: &str) -> SqlError {
    let message = format!("{clause} is not implemented for window functions");
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

impl Checker<'_> {
    fn check_call(&self, function: &Function) -> Result<(), SqlError> {
        let name = name_of(function);
        let arguments = Arguments::of(function);
        if arguments.null_treatment {
            return Err(SqlError::syntax("syntax error at or near \"NULLS\""));
        }
        if !function.within_group.is_empty() && HYPOTHETICAL.contains(&name.as_str()) {
            let what = format!("the hypothetical-set aggregate {name}");
            return Err(SqlError::unsupported(what));
        }
        if is_aggregate(&name) {
            check_aggregate(&name, function, &arguments)?;
        } else if is_window_function(&name) {
            check_window_function(&name, function, &arguments)?;
        } else if self.state.scalar_functions().contains_key(&name) {
            check_scalar(&name, function, &arguments)?;
        }
        Ok(())
    }
}

fn check_aggregate(
    name: &str,
    function: &Function,
    arguments: &Arguments<'_>,
) -> Result<(), SqlError> {
    if name == "count" && arguments.args.is_empty() {
        let message = "count(*) must be used to call a parameterless aggregate function";
        return Err(wrong_object(message.to_owned()));
    }
    if (name == "count" && arguments.args.len() > 1) || (name != "count" && arguments.is_star()) {
        let message = format!("function {name} with these arguments does not exist");
        return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message));
    }
    let ordered_set = is_ordered_set(name);
    if ordered_set && function.over.is_some() {
        return Err(SqlError::unsupported(format!("OVER for ordered-set aggregate {name}")));
    }
    if ordered_set && function.within_group.is_empty() {
        let message = format!("WITHIN GROUP is required for ordered-set aggregate {name}");
        return Err(wrong_object(message));
    }
    if !ordered_set && !function.within_group.is_empty() {
        let message =
            format!("{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP");
        return Err(wrong_object(message));
    }
    if function.over.is_some() && arguments.distinct {
        return Err(not_over_windows("DISTINCT"));
    }
    if function.over.is_some() && !arguments.order_by.is_empty() {
        return Err(not_over_windows("aggregate ORDER BY"));
    }
    if arguments.distinct && ordered_set {
        return Err(SqlError::syntax("cannot use DISTINCT with WITHIN GROUP"));
    }
    let sorted_by_others = |sort: &OrderByExpr| !arguments.contains(&sort.expr);
    if arguments.distinct && arguments.order_by.iter().any(sorted_by_others) {
        let message =
            "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
        return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
    }
    Ok(())
}

fn check_window_function(
    name: &str,
    function: &Function,
    arguments: &Arguments<'_>,
) -> Result<(), SqlError> {
    if function.over.is_none() {
        let message = format!("window function {name} requires an OVER clause");
        return Err(wrong_object(message));
    }
    if function.filter.is_some() {
        let message = "FILTER is not implemented for non-aggregate window functions";
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    if arguments.distinct {
        return Err(not_over_windows("DISTINCT"));
    }
    Ok(())
}

fn check_scalar(
    name: &str,
    function: &Function,
    arguments: &Arguments<'_>,
) -> Result<(), SqlError> {
    if function.over.is_some() {
        let message = format!(
            "OVER specified, but {name} is not a window function nor an aggregate function"
        );
        return Err(wrong_object(message));
    }
    let clauses = [
        (arguments.distinct, "DISTINCT"),
        (!arguments.order_by.is_empty(), "ORDER BY"),
        (function.filter.is_some(), "FILTER"),
        (!function.within_group.is_empty(), "WITHIN GROUP"),
    ];
    match clauses.into_iter().find(|(present, _)| *present) {
        Some((_, clause)) => Err(wrong_object(format!(
            "{clause} specified, but {name} is not an aggregate function"
        ))),
        None => Ok(()),
    }
}
