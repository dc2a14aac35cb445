//! Refuses aggregates, window functions and functions that return sets where SQL does not allow them, constants
//! in `ORDER BY` and `GROUP BY`, and two tables of one name, with PostgreSQL's errors.
//!
//! DataFusion finds most of these late, and describes them with its own structures; some it ignores.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    JoinConstraint, ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr,
    Spanned, TableFactor, TableWithJoins, UnaryOperator, Value, Values, Visit, Visitor, WindowType,
};

use crate::parser::folded;
use crate::trees::join_constraint;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Fails with the first expression in `node` that is where it may not be.
pub fn check<N: Visit>(node: &N) -> Result<(), SqlError> {
    match node.visit(&mut Checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Checks the expression of a `LIMIT` or `OFFSET`, which is named `clause`.
pub fn check_limit(expr: &Expr, clause: &'static str) -> Result<(), SqlError> {
    forbid(expr, clause, EVERYTHING)?;
    let column = outer_expressions(expr, |inner| match inner {
        Expr::Identifier(ident) => ControlFlow::Break(ident.span.start),
        Expr::CompoundIdentifier(idents) => {
            let at = idents.first().map(|ident| ident.span.start);
            at.map_or(ControlFlow::Continue(()), ControlFlow::Break)
        }
        _ => ControlFlow::Continue(()),
    });
    match column {
        None => Ok(()),
        Some(at) => {
            let message = format!("argument of {clause} must not contain variables");
            let error = SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message);
            Err(error.at(at.line, at.column))
        }
    }
}

/// Checks an expression of a clause that allows none of these calls, such as `UPDATE`.
pub fn check_plain(expr: &Expr, clause: &str) -> Result<(), SqlError> {
    forbid(expr, clause, EVERYTHING)
}

/// Aggregates, by PostgreSQL's names.
const AGGREGATES: &str = "any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop \
    covar_samp every json_agg json_object_agg jsonb_agg jsonb_object_agg max min mode percentile_cont \
    percentile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy \
    stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg";

/// Functions that need a window.
const WINDOW_ONLY: &str = "cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number";

/// Functions of one row that people put before `OVER`: the engine ignores the window.
const SCALARS: &str = "abs ceil char_length coalesce concat floor greatest initcap least left length lower lpad ltrim \
    md5 mod now nullif power random replace right round rpad rtrim sign sqrt substr substring trim trunc upper";

/// Functions that return sets.
const SETS: &str = "generate_series generate_subscripts json_array_elements json_array_elements_text json_each \
    json_each_text json_object_keys jsonb_array_elements jsonb_array_elements_text jsonb_each jsonb_each_text \
    jsonb_object_keys jsonb_path_query regexp_matches regexp_split_to_table string_to_table unnest";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Aggregate,
    Window,
    Set,
}

impl Kind {
    fn named(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate functions",
            Self::Window => "window functions",
            Self::Set => "set-returning functions",
        }
    }

    fn sqlstate(self) -> SqlState {
        match self {
            Self::Aggregate => SqlState::GROUPING_ERROR,
            Self::Window => SqlState::WINDOWING_ERROR,
            Self::Set => SqlState::FEATURE_NOT_SUPPORTED,
        }
    }
}

const EVERYTHING: &[Kind] = &[Kind::Aggregate, Kind::Window, Kind::Set];

struct Checker;

type Flow = ControlFlow<Box<SqlError>>;

impl Visitor for Checker {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        flow(check_order(query).and_then(|()| check_values(&query.body)))
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        flow(check_select(select))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) => flow(check_call(function)),
            Expr::Case { .. } => flow(forbid_sets(expr, "CASE")),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// Visits the expressions of `node` outside of subqueries, which have clauses of their own.
pub(super) fn outer_expressions<N: Visit, B>(
    node: &N,
    look: impl FnMut(&Expr) -> ControlFlow<B>,
) -> Option<B> {
    struct Outer<F> {
        depth: usize,
        look: F,
    }
    impl<B, F: FnMut(&Expr) -> ControlFlow<B>> Visitor for Outer<F> {
        type Break = B;

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<B> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<B> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<B> {
            if self.depth == 0 { (self.look)(expr) } else { ControlFlow::Continue(()) }
        }
    }
    match node.visit(&mut Outer { depth: 0, look }) {
        ControlFlow::Break(found) => Some(found),
        ControlFlow::Continue(()) => None,
    }
}

fn kind_of(function: &Function) -> Option<Kind> {
    if function.over.is_some() {
        return Some(Kind::Window);
    }
    let name = name_of(function)?;
    if is_listed(AGGREGATES, &name) {
        return Some(Kind::Aggregate);
    }
    is_listed(SETS, &name).then_some(Kind::Set)
}

/// Whether an aggregate is called in `node`, outside of subqueries.
pub(super) fn has_aggregate<N: Visit>(node: &N) -> bool {
    let found = outer_expressions(node, |expr| match expr {
        Expr::Function(function) if kind_of(function) == Some(Kind::Aggregate) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_some()
}

fn name_of(function: &Function) -> Option<String> {
    function.name.0.last().and_then(|part| part.as_ident()).map(folded)
}

fn is_listed(names: &str, name: &str) -> bool {
    names.split_whitespace().any(|listed| listed == name)
}

fn located(error: SqlError, function: &Function) -> SqlError {
    let at = function.name.span().start;
    error.at(at.line, at.column)
}

/// Fails if one of the kinds is in the expression.
fn forbid<N: Visit>(node: &N, clause: &str, kinds: &[Kind]) -> Result<(), SqlError> {
    let found = outer_expressions(node, |expr| match expr {
        Expr::Function(function) => match kind_of(function).filter(|kind| kinds.contains(kind)) {
            Some(kind) => {
                let message = format!("{} are not allowed in {clause}", kind.named());
                let error = SqlError::new(kind.sqlstate(), message);
                ControlFlow::Break(located(error, function))
            }
            None => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    found.map_or(Ok(()), Err)
}

fn forbid_sets<N: Visit>(node: &N, clause: &str) -> Result<(), SqlError> {
    forbid(node, clause, &[Kind::Set]).map_err(|error| {
        error.hint("You might be able to move the set-returning function into a LATERAL FROM item.")
    })
}

fn check_select(select: &Select) -> Result<(), SqlError> {
    if let Some(filter) = &select.selection {
        forbid(filter, "WHERE", EVERYTHING)?;
    }
    for table in &select.from {
        check_joins(table)?;
    }
    if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
        forbid(exprs, "GROUP BY", &[Kind::Aggregate, Kind::Window])?;
        exprs.iter().try_for_each(|expr| check_constant(expr, "GROUP BY", select))?;
    }
    if let Some(having) = &select.having {
        forbid(having, "HAVING", &[Kind::Window, Kind::Set])?;
    }
    if let Some(Distinct::On(exprs)) = &select.distinct {
        exprs.iter().try_for_each(|expr| check_constant(expr, "DISTINCT ON", select))?;
    }
    let mut names = vec![];
    select.from.iter().try_for_each(|table| check_names(table, &mut names))
}

fn check_joins(table: &TableWithJoins) -> Result<(), SqlError> {
    for join in &table.joins {
        if let Some(JoinConstraint::On(condition)) = join_constraint(&join.join_operator) {
            forbid(condition, "JOIN conditions", EVERYTHING)?;
        }
    }
    Ok(())
}

/// The name by which a table of `FROM` is referred to, and the table if it has no other.
type TableName<'a> = (String, Option<&'a ObjectName>);

/// Fails if a name is that of an earlier table (42712). Two tables of different schemas may have one name.
fn check_names<'a>(
    table: &'a TableWithJoins,
    names: &mut Vec<TableName<'a>>,
) -> Result<(), SqlError> {
    let factors =
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation));
    for factor in factors {
        let named = match factor {
            TableFactor::Table { name, alias: None, args: None, .. } => {
                name.0.last().and_then(|part| part.as_ident()).map(|ident| (ident, Some(name)))
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. } => Some((&alias.name, None)),
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                check_names(table_with_joins, names)?;
                None
            }
            _ => None,
        };
        let Some((ident, relation)) = named else { continue };
        let name = folded(ident);
        let is_same = |(other, of): &TableName<'_>| {
            *other == name
                && !matches!((of, relation), (Some(of), Some(relation)) if *of != relation)
        };
        if names.iter().any(is_same) {
            let message = format!("table name \"{name}\" specified more than once");
            return Err(SqlError::new(SqlState::DUPLICATE_ALIAS, message));
        }
        names.push((name, relation));
    }
    Ok(())
}

fn check_values(body: &SetExpr) -> Result<(), SqlError> {
    match body {
        SetExpr::Values(Values { rows, .. }) => {
            rows.iter().try_for_each(|row| forbid(&row.content, "VALUES", EVERYTHING))
        }
        _ => Ok(()),
    }
}

fn check_order(query: &Query) -> Result<(), SqlError> {
    let Some(order_by) = &query.order_by else { return Ok(()) };
    let (OrderByKind::Expressions(exprs), Some(select)) = (&order_by.kind, query.body.as_select())
    else {
        return Ok(());
    };
    for OrderByExpr { expr, .. } in exprs {
        check_constant(expr, "ORDER BY", select)?;
        check_ambiguous(expr, select)?;
    }
    Ok(())
}

/// Fails for a constant that is not the number of a column of the select list.
fn check_constant(expr: &Expr, clause: &str, select: &Select) -> Result<(), SqlError> {
    let number = match expr {
        Expr::Nested(inner) => return check_constant(inner, clause, select),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match inner.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(text, _) => format!("-{text}"),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        },
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.clone(),
            Value::Placeholder(_) => return Ok(()),
            _ => String::new(),
        },
        _ => return Ok(()),
    };
    let at = expr.span().start;
    let Ok(number) = number.parse::<i64>() else {
        let message = format!("non-integer constant in {clause}");
        return Err(SqlError::syntax(message).at(at.line, at.column));
    };
    let has_wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let listed = usize::try_from(number)
        .is_ok_and(|number| number > 0 && (has_wildcard || number <= select.projection.len()));
    if listed {
        return Ok(());
    }
    let message = format!("{clause} position {number} is not in select list");
    Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(at.line, at.column))
}

/// Fails if a name in `ORDER BY` is that of two different columns of the result (42702).
fn check_ambiguous(expr: &Expr, select: &Select) -> Result<(), SqlError> {
    let Expr::Identifier(ident) = expr else { return Ok(()) };
    let name = folded(ident);
    let mut found: Option<&Expr> = None;
    for item in &select.projection {
        let (column, value) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (folded(alias), expr),
            SelectItem::UnnamedExpr(expr @ Expr::Identifier(ident)) => (folded(ident), expr),
            SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(idents)) => {
                (idents.last().map(folded).unwrap_or_default(), expr)
            }
            _ => continue,
        };
        if column != name {
            continue;
        }
        if found.is_some_and(|other| other != value) {
            let message = format!("ORDER BY \"{name}\" is ambiguous");
            let at = ident.span.start;
            let error = SqlError::new(SqlState::AMBIGUOUS_COLUMN, message);
            return Err(error.at(at.line, at.column));
        }
        found = Some(value);
    }
    Ok(())
}

/// Checks what is inside of one call.
fn check_call(function: &Function) -> Result<(), SqlError> {
    let name = name_of(function).unwrap_or_default();
    let kind = kind_of(function);
    let FunctionArguments::List(list) = &function.args else { return Ok(()) };
    match kind {
        Some(Kind::Aggregate) => {
            check_nested(&list.args, "aggregate function calls cannot be nested", Kind::Aggregate)?;
            let message = "aggregate function calls cannot contain window function calls";
            check_nested(&list.args, message, Kind::Window)?;
        }
        Some(Kind::Window) => {
            check_nested(&list.args, "window function calls cannot be nested", Kind::Window)?;
            if list.duplicate_treatment.is_some() {
                let message = "DISTINCT is not implemented for window functions";
                let error = SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message);
                return Err(located(error, function));
            }
            check_window_function(function, &name)?;
            if let Some(WindowType::WindowSpec(spec)) = &function.over {
                forbid(&spec.partition_by, "window definitions", &[Kind::Window])?;
            }
        }
        None if function.within_group.is_empty() && is_listed(WINDOW_ONLY, &name) => {
            let message = format!("window function {name} requires an OVER clause");
            return Err(located(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message), function));
        }
        _ if ["coalesce", "greatest", "least"].contains(&name.as_str()) => {
            forbid_sets(&list.args, &name.to_uppercase())?;
        }
        _ => {}
    }
    match &function.filter {
        Some(filter) => forbid(filter.as_ref(), "FILTER", EVERYTHING),
        None => Ok(()),
    }
}

/// Fails if a function with `OVER` is none that computes over a window, or has an argument that it refuses.
fn check_window_function(function: &Function, name: &str) -> Result<(), SqlError> {
    if is_listed(SCALARS, name) {
        let message = format!(
            "OVER specified, but {name} is not a window function nor an aggregate function"
        );
        return Err(located(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message), function));
    }
    let FunctionArguments::List(list) = &function.args else { return Ok(()) };
    if name == "nth_value"
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) =
            list.args.get(1)
        && let Value::Number(number, _) = &value.value
        && number == "0"
    {
        let message = "argument of nth_value must be greater than zero";
        return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_NTH_VALUE, message));
    }
    Ok(())
}

/// Fails if a call of this kind is among the arguments.
fn check_nested(args: &[FunctionArg], message: &str, kind: Kind) -> Result<(), SqlError> {
    let exprs = args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    for expr in exprs {
        let found = outer_expressions(expr, |inner| match inner {
            Expr::Function(function) if kind_of(function) == Some(kind) => {
                let sqlstate = match message.starts_with("aggregate") {
                    true => SqlState::GROUPING_ERROR,
                    false => SqlState::WINDOWING_ERROR,
                };
                ControlFlow::Break(located(SqlError::new(sqlstate, message), function))
            }
            _ => ControlFlow::Continue(()),
        });
        found.map_or(Ok(()), Err)?;
    }
    Ok(())
}
