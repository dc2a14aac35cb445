//! Checks the calls of functions as PostgreSQL's parser does: which clauses a function may have, and where aggregates
//! and window functions may stand.
//!
//! DataFusion accepts more, and ignores some clauses.

use std::ops::ControlFlow;

use datafusion::execution::context::SessionState;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, OrderByExpr, Query,
    Select, SetExpr, TableFactor, TableWithJoins, Visit, Visitor, WindowType,
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

/// Refuses aggregates and window functions in a clause, outside of subqueries.
pub fn refuse_aggregates<N: Visit>(node: &N, clause: &str) -> Result<(), SqlError> {
    refuse(node, &|kind| not_allowed(kind, clause))
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

/// The kinds of calls that may not stand everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Aggregate,
    Window,
}

fn not_allowed(kind: Kind, clause: &str) -> Option<SqlError> {
    Some(match kind {
        Kind::Aggregate => {
            let message = format!("aggregate functions are not allowed in {clause}");
            SqlError::new(SqlState::GROUPING_ERROR, message)
        }
        Kind::Window => windowing(format!("window functions are not allowed in {clause}")),
    })
}

fn windowing(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::WINDOWING_ERROR, message)
}

fn grouping(message: &str) -> SqlError {
    SqlError::new(SqlState::GROUPING_ERROR, message)
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

fn kind(function: &Function) -> Option<Kind> {
    if function.over.is_some() {
        return Some(Kind::Window);
    }
    is_aggregate(&name_of(function)).then_some(Kind::Aggregate)
}

/// Finds the first call for which `error` has one, outside of subqueries.
fn refuse<N: Visit>(
    node: &N,
    error: &dyn Fn(Kind) -> Option<SqlError>,
) -> Result<(), SqlError> {
    result(node.visit(&mut Finder { error, queries: 0 }))
}

struct Finder<'a> {
    error: &'a dyn Fn(Kind) -> Option<SqlError>,
    queries: usize,
}

impl Visitor for Finder<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, _query: &Query) -> Flow {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> Flow {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) if self.queries == 0 => {
                let error = kind(function).and_then(self.error);
                flow(error.map_or(Ok(()), Err))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

struct Checker<'a> {
    state: &'a SessionState,
}

impl Visitor for Checker<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        flow(check_query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        flow(check_select(select))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) => flow(self.check_call(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check_query(query: &Query) -> Result<(), SqlError> {
    if let SetExpr::Values(values) = query.body.as_ref() {
        for expr in values.rows.iter().flat_map(|row| &row.content) {
            refuse_aggregates(expr, "VALUES")?;
        }
    }
    if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
        limit.iter().try_for_each(|limit| refuse_aggregates(limit, "LIMIT"))?;
        offset.iter().try_for_each(|offset| refuse_aggregates(offset, "OFFSET"))?;
    }
    Ok(())
}

fn check_select(select: &Select) -> Result<(), SqlError> {
    select.from.iter().try_for_each(check_table)?;
    select.selection.iter().try_for_each(|filter| refuse_aggregates(filter, "WHERE"))?;
    if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
        exprs.iter().try_for_each(|expr| refuse_aggregates(expr, "GROUP BY"))?;
    }
    let window_in_having = |kind| match kind {
        Kind::Window => not_allowed(kind, "HAVING"),
        Kind::Aggregate => None,
    };
    select.having.iter().try_for_each(|having| refuse(having, &window_in_having))
}

fn check_table(table: &TableWithJoins) -> Result<(), SqlError> {
    check_factor(&table.relation)?;
    for join in &table.joins {
        check_factor(&join.relation)?;
        if let JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) = &join.join_operator
            && let JoinConstraint::On(condition) = constraint
        {
            refuse_aggregates(condition, "JOIN conditions")?;
        }
    }
    Ok(())
}

fn check_factor(factor: &TableFactor) -> Result<(), SqlError> {
    let clause = "functions in FROM";
    match factor {
        TableFactor::Table { args: Some(args), .. } => {
            args.args.iter().try_for_each(|arg| refuse_aggregates(arg, clause))
        }
        TableFactor::Function { args, .. } => {
            args.iter().try_for_each(|arg| refuse_aggregates(arg, clause))
        }
        TableFactor::UNNEST { array_exprs, .. } => {
            array_exprs.iter().try_for_each(|array| refuse_aggregates(array, clause))
        }
        TableFactor::NestedJoin { table_with_joins, .. } => check_table(table_with_joins),
        _ => Ok(()),
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
        let star = |arg: &FunctionArg| {
            matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard))
        };
        self.args.iter().any(star)
    }

    /// Whether the expression is one of the arguments.
    fn contains(&self, expr: &Expr) -> bool {
        self.args.iter().any(|arg| {
            matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) if arg == expr)
        })
    }
}

fn wrong_object(message: String) -> SqlError {
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)
}

impl Checker<'_> {
    fn check_call(&self, function: &Function) -> Result<(), SqlError> {
        let name = name_of(function);
        let arguments = Arguments::of(function);
        if arguments.null_treatment {
            return Err(SqlError::syntax("syntax error at or near \"NULLS\""));
        }
        let aggregate = is_aggregate(&name);
        if !function.within_group.is_empty() && HYPOTHETICAL.contains(&name.as_str()) {
            let what = format!("the hypothetical-set aggregate {name}");
            return Err(SqlError::unsupported(what));
        }
        if aggregate {
            check_aggregate(&name, function, &arguments)?;
        } else if is_window_function(&name) {
            check_window_function(&name, function, &arguments)?;
        } else if self.state.scalar_functions().contains_key(&name) {
            check_scalar(&name, function, &arguments)?;
        }
        match &function.over {
            Some(window) => check_nested_in_window(function, window),
            None if aggregate => check_nested_in_aggregate(function),
            None => Ok(()),
        }
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
        return Err(SqlError::unsupported("DISTINCT in a window function"));
    }
    if function.over.is_some() && !arguments.order_by.is_empty() {
        return Err(SqlError::unsupported("ORDER BY in a window function"));
    }
    if arguments.distinct && ordered_set {
        return Err(SqlError::syntax("cannot use DISTINCT with WITHIN GROUP"));
    }
    let sorted_by_others = |sort: &OrderByExpr| !arguments.contains(&sort.expr);
    if arguments.distinct && arguments.order_by.iter().any(sorted_by_others) {
        let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
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
        return Err(SqlError::unsupported("FILTER for a window function that is no aggregate"));
    }
    if arguments.distinct {
        return Err(SqlError::unsupported("DISTINCT in a window function"));
    }
    Ok(())
}

fn check_scalar(
    name: &str,
    function: &Function,
    arguments: &Arguments<'_>,
) -> Result<(), SqlError> {
    if function.over.is_some() {
        let message =
            format!("OVER specified, but {name} is not a window function nor an aggregate function");
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

fn check_nested_in_aggregate(function: &Function) -> Result<(), SqlError> {
    let nested = |kind| {
        Some(match kind {
            Kind::Aggregate => grouping("aggregate function calls cannot be nested"),
            Kind::Window => {
                grouping("aggregate function calls cannot contain window function calls")
            }
        })
    };
    refuse(&function.args, &nested)?;
    refuse(&function.within_group, &nested)?;
    function.filter.iter().try_for_each(|filter| refuse_aggregates(filter.as_ref(), "FILTER"))
}

fn check_nested_in_window(function: &Function, window: &WindowType) -> Result<(), SqlError> {
    let nested = |kind| {
        (kind == Kind::Window).then(|| windowing("window function calls cannot be nested"))
    };
    refuse(&function.args, &nested)?;
    let in_filter = |kind| match kind {
        Kind::Window => not_allowed(kind, "FILTER"),
        Kind::Aggregate => None,
    };
    function.filter.iter().try_for_each(|filter| refuse(filter.as_ref(), &in_filter))?;
    let in_definition = |kind| match kind {
        Kind::Window => not_allowed(kind, "window definitions"),
        Kind::Aggregate => None,
    };
    refuse(window, &in_definition)
}
