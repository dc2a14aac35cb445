//! Refuses the clauses that DataFusion's planner silently ignores.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, JoinConstraint,
    JoinOperator, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem,
    SetExpr, SetOperator, SetQuantifier, TableAlias, TableFactor, TableWithJoins, Visit, Visitor,
};

use crate::trees::join_constraint;
use tidemark_pg::error::SqlError;

/// Fails with the first clause in `node` that would be ignored (0A000).
pub fn reject_ignored<N: Visit>(node: &N) -> Result<(), SqlError> {
    match node.visit(&mut Rejector) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Rejector;

type Flow = ControlFlow<Box<SqlError>>;

impl Visitor for Rejector {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        flow(check_query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        flow(check_select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        flow(check_table_factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        flow(check_expr(expr))
    }
}

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// Fails with the first clause that is present.
fn refuse<const N: usize>(clauses: [(bool, &str); N]) -> Result<(), SqlError> {
    match clauses.iter().find(|(present, _)| *present) {
        Some((_, clause)) => Err(SqlError::unsupported(clause)),
        None => Ok(()),
    }
}

fn check_query(query: &Query) -> Result<(), SqlError> {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch: _,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if let Some(lock) = locks.first() {
        return Err(SqlError::unsupported(format!("FOR {}", lock.lock_type))
            .hint("Nothing is locked: of two writers of one row the later one gets 40001."));
    }
    refuse([
        (for_clause.is_some(), "FOR XML or JSON"),
        (settings.is_some(), "SETTINGS"),
        (format_clause.is_some(), "FORMAT"),
        (!pipe_operators.is_empty(), "|>"),
        (matches!(limit_clause, Some(LimitClause::OffsetCommaLimit { .. })), "LIMIT #,#"),
    ])?;
    if let Some(with) = with {
        refuse([(
            with.cte_tables.iter().any(|cte| cte.from.is_some()),
            "FROM after a WITH query",
        )])?;
        with.cte_tables.iter().try_for_each(|cte| check_alias(&cte.alias))?;
    }
    if let Some(order_by) = order_by {
        refuse([(order_by.interpolate.is_some(), "INTERPOLATE")])?;
        match &order_by.kind {
            OrderByKind::All(_) => return Err(SqlError::unsupported("ORDER BY ALL")),
            OrderByKind::Expressions(exprs) => check_order_by(exprs)?,
        }
    }
    check_body(body)
}

fn check_order_by(exprs: &[OrderByExpr]) -> Result<(), SqlError> {
    for OrderByExpr { expr: _, options: _, with_fill } in exprs {
        refuse([(with_fill.is_some(), "WITH FILL")])?;
    }
    Ok(())
}

/// Checks the set operations of a body; nested queries and selects are visited separately.
fn check_body(body: &SetExpr) -> Result<(), SqlError> {
    let mut open = vec![body];
    while let Some(body) = open.pop() {
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) => {}
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                // The planner implements them as semi joins, which ignore duplicates.
                let counted = *set_quantifier == SetQuantifier::All && *op != SetOperator::Union;
                refuse([(counted, "INTERSECT ALL or EXCEPT ALL")])?;
                let by_name = matches!(
                    set_quantifier,
                    SetQuantifier::ByName
                        | SetQuantifier::AllByName
                        | SetQuantifier::DistinctByName
                );
                refuse([(by_name, "a set operation BY NAME")])?;
                open.extend([left.as_ref(), right.as_ref()]);
            }
            SetExpr::Values(values) => refuse([(values.explicit_row, "ROW in VALUES")])?,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return Err(SqlError::unsupported("a data-modifying statement in WITH"));
            }
            SetExpr::Table(_) => {
                return Err(SqlError::unsupported("TABLE inside another statement")
                    .hint("Write SELECT * FROM."));
            }
        }
    }
    Ok(())
}

fn is_named_by_string(item: &SelectItem) -> bool {
    matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.quote_style == Some('\''))
}

fn check_select(select: &Select) -> Result<(), SqlError> {
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    if into.is_some() {
        return Err(SqlError::unsupported("SELECT INTO").hint("Use CREATE TABLE ... AS."));
    }
    if projection.iter().any(is_named_by_string) {
        return Err(SqlError::syntax("a string cannot be the name of a column").hint(
            "Names are in double quotes. Strings are joined if each is on a line of its own.",
        ));
    }
    let modifiers = match group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    refuse([
        (select_modifiers.is_some(), "a modifier after SELECT"),
        (top.is_some(), "TOP"),
        (exclude.is_some(), "EXCLUDE"),
        (!lateral_views.is_empty(), "LATERAL VIEW"),
        (prewhere.is_some(), "PREWHERE"),
        (!connect_by.is_empty(), "CONNECT BY"),
        (!modifiers.is_empty(), "a modifier after GROUP BY"),
        (!cluster_by.is_empty(), "CLUSTER BY"),
        (!distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!sort_by.is_empty(), "SORT BY"),
        (value_table_mode.is_some(), "AS VALUE"),
        (*flavor != SelectFlavor::Standard, "FROM before SELECT"),
    ])?;
    from.iter().try_for_each(check_joins)
}

fn check_joins(table: &TableWithJoins) -> Result<(), SqlError> {
    for join in &table.joins {
        refuse([(join.global, "GLOBAL JOIN")])?;
        match (&join.join_operator, join_constraint(&join.join_operator)) {
            (JoinOperator::CrossJoin(JoinConstraint::None), _) => {}
            (JoinOperator::CrossJoin(_), _) | (_, None) => {
                return Err(SqlError::unsupported("this kind of join"));
            }
            (_, Some(JoinConstraint::None)) => {
                return Err(SqlError::syntax("a join needs ON, USING or NATURAL")
                    .hint("Write CROSS JOIN for all pairs."));
            }
            (_, Some(_)) => {}
        }
    }
    Ok(())
}

fn check_alias(alias: &TableAlias) -> Result<(), SqlError> {
    let TableAlias { explicit: _, name: _, columns, at } = alias;
    refuse([
        (columns.iter().any(|column| column.data_type.is_some()), "a column definition list"),
        (at.is_some(), "AT"),
    ])
}

fn check_table_factor(factor: &TableFactor) -> Result<(), SqlError> {
    let alias = match factor {
        TableFactor::Table {
            name: _,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            if version.is_some() {
                return Err(SqlError::unsupported("a table's version")
                    .hint("Use SET QUERY_EPOCH to read the past."));
            }
            let settings = args.as_ref().is_some_and(|args| args.settings.is_some());
            refuse([
                (sample.is_some(), "TABLESAMPLE"),
                (*with_ordinality, "WITH ORDINALITY"),
                (!with_hints.is_empty() || !index_hints.is_empty(), "a hint for a table"),
                (!partitions.is_empty(), "PARTITION after a table"),
                (json_path.is_some(), "a path after a table"),
                (settings, "SETTINGS"),
            ])?;
            alias
        }
        TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
            refuse([(sample.is_some(), "TABLESAMPLE")])?;
            alias
        }
        TableFactor::Function { lateral: _, name: _, args: _, with_ordinality, alias } => {
            refuse([(*with_ordinality, "WITH ORDINALITY")])?;
            alias
        }
        TableFactor::UNNEST {
            alias,
            array_exprs: _,
            with_offset,
            with_offset_alias: _,
            with_ordinality,
        } => {
            refuse([(*with_ordinality, "WITH ORDINALITY"), (*with_offset, "WITH OFFSET")])?;
            alias
        }
        TableFactor::NestedJoin { table_with_joins, alias } => {
            check_joins(table_with_joins)?;
            alias
        }
        // The planner refuses all others.
        _ => return Ok(()),
    };
    alias.as_ref().map_or(Ok(()), check_alias)
}

fn check_expr(expr: &Expr) -> Result<(), SqlError> {
    match expr {
        Expr::Function(function) => check_function(function),
        Expr::Trim { trim_characters: Some(characters), .. } => {
            refuse([(characters.len() > 1, "TRIM with more than two arguments")])
        }
        Expr::QualifiedWildcard(..) => Err(whole_row()),
        _ => Ok(()),
    }
}

/// A row of a table as a value: DataFusion would take it for something else, as `count(t.*)` for `count(*)`.
fn whole_row() -> SqlError {
    SqlError::unsupported("a row of a table as a value")
        .hint("Write its columns, as count(t.key) for count(t.*).")
}

fn is_whole_row(arg: &FunctionArg) -> bool {
    matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(..)))
}

fn check_function(function: &Function) -> Result<(), SqlError> {
    let Function {
        name,
        uses_odbc_syntax: _,
        parameters,
        args,
        filter: _,
        null_treatment: _,
        over: _,
        within_group: _,
    } = function;
    if let FunctionArguments::List(list) = args
        && list.args.iter().any(is_whole_row)
    {
        return Err(whole_row());
    }
    let last = name.0.last().and_then(|part| part.as_ident());
    if last.is_some_and(|name| name.value.eq_ignore_ascii_case("generate_series")) {
        return Err(SqlError::unsupported("generate_series outside FROM")
            .hint("Write SELECT g FROM generate_series(1, 3) AS g(g)."));
    }
    let is_array = name.to_string().eq_ignore_ascii_case("array");
    let subquery = matches!(args, FunctionArguments::Subquery(_)) && !is_array;
    refuse([
        (*parameters != FunctionArguments::None, "a function with parameters"),
        (subquery, "a query without parentheses as an argument"),
    ])
}
