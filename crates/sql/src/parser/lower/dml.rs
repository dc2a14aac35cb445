//! `INSERT`, `UPDATE`, `DELETE` and `TRUNCATE`.

use sqlparser::ast::{
    self, AssignmentTarget, ConflictTarget, DoUpdate, Expr, FromTable, FunctionArg,
    FunctionArgExpr, FunctionArguments, OnConflictAction, OnInsert, Query, SelectItem, TableAlias,
    TableAliasColumnDef, TableFactor, TableObject, TableWithJoins, Truncate,
    TruncateIdentityOption, UpdateTableFromKind,
};

use super::{refuse, single_name};
use crate::parser::ast::{
    Assignment, Delete, Insert, InsertSource, OnConflict, RelationName, Statement, Target, Update,
    folded,
};
use crate::trees::{quoted, relation, select, table_alias};
use tidemark_pg::error::SqlError;

/// The name of a subquery whose columns are assigned; no user can write it.
const ASSIGNED: &str = "\u{1}assigned";

pub fn lower_insert(insert: ast::Insert) -> Result<Statement, SqlError> {
    let ast::Insert {
        insert_token: _,
        optimizer_hints: _,
        or,
        ignore,
        into: _,
        table,
        table_alias,
        columns,
        overwrite,
        source,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword,
        on,
        returning,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    let on_conflict = on.map(lower_on_insert).transpose()?;
    refuse(
        "INSERT",
        [
            (or.is_some(), "OR"),
            (ignore, "IGNORE"),
            (overwrite, "OVERWRITE"),
            (!assignments.is_empty(), "SET"),
            (partitioned.is_some() || !after_columns.is_empty(), "PARTITION"),
            (has_table_keyword, "TABLE"),
            (output.is_some(), "OUTPUT"),
            (replace_into, "REPLACE"),
            (priority.is_some(), "PRIORITY"),
            (insert_alias.is_some(), "AS"),
            (settings.is_some(), "SETTINGS"),
            (format_clause.is_some(), "FORMAT"),
            (
                multi_table_insert_type.is_some()
                    || !multi_table_into_clauses.is_empty()
                    || !multi_table_when_clauses.is_empty()
                    || multi_table_else_clause.is_some(),
                "ALL",
            ),
        ],
    )?;
    let TableObject::TableName(name) = table else {
        return Err(SqlError::unsupported("INSERT into something other than a table"));
    };
    let target = Target {
        name: RelationName::try_from(&name)?,
        alias: table_alias.map(|alias| folded(&alias.alias)),
    };
    let columns = columns.iter().map(single_name).collect::<Result<_, _>>()?;
    let source = source.map_or(InsertSource::DefaultValues, InsertSource::Query);
    let insert = Insert { target, columns, source, on_conflict, returning };
    Ok(Statement::Insert(Box::new(insert)))
}

fn lower_on_insert(on: OnInsert) -> Result<OnConflict, SqlError> {
    let OnInsert::OnConflict(ast::OnConflict { conflict_target, action }) = on else {
        return Err(SqlError::unsupported("INSERT ... ON DUPLICATE KEY"));
    };
    let update = match action {
        OnConflictAction::DoNothing => None,
        OnConflictAction::DoUpdate(DoUpdate { assignments, selection }) => {
            Some((lower_assignments(assignments)?, selection))
        }
    };
    let key = match conflict_target {
        None => None,
        Some(ConflictTarget::Columns(columns)) => Some(columns.iter().map(folded).collect()),
        Some(ConflictTarget::OnConstraint(_)) => {
            return Err(SqlError::unsupported("ON CONFLICT ON CONSTRAINT")
                .hint("Name the columns of the primary key."));
        }
    };
    match (key, update) {
        (key, None) => Ok(OnConflict::DoNothing { key }),
        (Some(key), Some((assignments, filter))) => {
            Ok(OnConflict::DoUpdate { key, assignments, filter: filter.map(Box::new) })
        }
        (None, Some(_)) => {
            let message =
                "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            Err(SqlError::syntax(message).hint("For example, ON CONFLICT (column_name)."))
        }
    }
}

pub fn lower_update(update: ast::Update) -> Result<Statement, SqlError> {
    let ast::Update {
        update_token: _,
        optimizer_hints: _,
        table,
        assignments,
        from,
        selection,
        returning,
        output,
        or,
        order_by,
        limit,
    } = update;
    refuse(
        "UPDATE",
        [
            (output.is_some(), "OUTPUT"),
            (or.is_some(), "OR"),
            (!order_by.is_empty(), "ORDER BY"),
            (limit.is_some(), "LIMIT"),
        ],
    )?;
    let target = lower_target("UPDATE", table)?;
    let assignments = lower_assignments(assignments)?;
    let from = match from {
        None => vec![],
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
    };
    let update = Update { target, assignments, from, filter: selection, returning };
    Ok(Statement::Update(Box::new(update)))
}

/// Returns one assignment per column: `SET (a, b) = (1, 2)` becomes `SET a = 1, b = 2`.
fn lower_assignments(assignments: Vec<ast::Assignment>) -> Result<Vec<Assignment>, SqlError> {
    let mut lowered = Vec::with_capacity(assignments.len());
    for ast::Assignment { target, value } in assignments {
        match (target, value) {
            (AssignmentTarget::ColumnName(column), value) => {
                lowered.push(Assignment { column: single_name(&column)?, value });
            }
            (AssignmentTarget::Tuple(columns), value) => {
                let values = row_values(value, columns.len())?;
                if columns.len() != values.len() {
                    let message = "number of columns does not match number of values";
                    return Err(SqlError::syntax(message));
                }
                for (column, value) in columns.iter().zip(values) {
                    lowered.push(Assignment { column: single_name(column)?, value });
                }
            }
        }
    }
    Ok(lowered)
}

/// The values of the row that several columns are set to.
fn row_values(row: Expr, count: usize) -> Result<Vec<Expr>, SqlError> {
    match row {
        Expr::Tuple(values) => Ok(values),
        Expr::Nested(value) => Ok(vec![*value]),
        Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = call.args else { return Ok(vec![]) };
            let values = list.args.into_iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Ok(value),
                _ => Err(SqlError::unsupported("this row in UPDATE ... SET (...)")),
            });
            values.collect()
        }
        Expr::Subquery(query) => match columns_of(&query) {
            Some(found) if found != count => Ok(vec![]),
            _ => Ok((0..count).map(|at| nth_column(&query, at, count)).collect()),
        },
        _ => {
            let message =
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression";
            Err(SqlError::unsupported(message))
        }
    }
}

/// How many columns a query has, if its text says so.
fn columns_of(query: &Query) -> Option<usize> {
    let items = &query.body.as_select()?.projection;
    let is_one = |item: &SelectItem| {
        matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
    };
    items.iter().all(is_one).then_some(items.len())
}

/// One of the columns of the row that a subquery returns: `(SELECT c1 FROM (query) AS row(c0, c1))`.
fn nth_column(query: &Query, at: usize, count: usize) -> Expr {
    let name = |at: usize| quoted(format!("{ASSIGNED}{at}"));
    let mut alias = table_alias(quoted(ASSIGNED));
    alias.columns =
        (0..count).map(|at| TableAliasColumnDef { name: name(at), data_type: None }).collect();
    let subquery = Box::new(query.clone());
    let row = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    let column = SelectItem::UnnamedExpr(Expr::Identifier(name(at)));
    Expr::Subquery(Box::new(select(vec![column]).from([relation(row)]).query()))
}

pub fn lower_delete(delete: ast::Delete) -> Result<Statement, SqlError> {
    let ast::Delete {
        delete_token: _,
        optimizer_hints: _,
        tables,
        from,
        using,
        selection,
        returning,
        output,
        order_by,
        limit,
    } = delete;
    refuse(
        "DELETE",
        [
            (output.is_some(), "OUTPUT"),
            (!tables.is_empty(), "of several tables"),
            (!order_by.is_empty(), "ORDER BY"),
            (limit.is_some(), "LIMIT"),
        ],
    )?;
    let FromTable::WithFromKeyword(from) = from else {
        return Err(SqlError::syntax("DELETE needs FROM"));
    };
    let Ok([target]) = <[TableWithJoins; 1]>::try_from(from) else {
        return Err(SqlError::unsupported("DELETE from several tables"));
    };
    let target = lower_target("DELETE", target)?;
    let using = using.unwrap_or_default();
    let delete = Delete { target, using, filter: selection, returning };
    Ok(Statement::Delete(Box::new(delete)))
}

/// Returns the target of `UPDATE` or `DELETE`: one table, with an optional alias.
fn lower_target(statement: &str, target: TableWithJoins) -> Result<Target, SqlError> {
    let TableWithJoins { relation, joins } = target;
    if !joins.is_empty() {
        return Err(SqlError::unsupported(format!("{statement} of a join")));
    }
    match relation {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
            let alias = alias.map(lower_alias).transpose()?;
            Ok(Target { name: RelationName::try_from(&name)?, alias })
        }
        _ => Err(SqlError::unsupported(format!("{statement} of something other than a table"))),
    }
}

fn lower_alias(alias: TableAlias) -> Result<String, SqlError> {
    let TableAlias { explicit: _, name, columns, at } = alias;
    if !columns.is_empty() || at.is_some() {
        return Err(SqlError::syntax("an alias of the target cannot name columns"));
    }
    Ok(folded(&name))
}

pub fn lower_truncate(truncate: &Truncate) -> Result<Statement, SqlError> {
    // CASCADE and RESTRICT concern foreign keys, ONLY concerns inheritance: neither exists here.
    let Truncate { table_names, partitions, table: _, if_exists, identity, cascade: _, on_cluster } =
        truncate;
    refuse(
        "TRUNCATE",
        [
            (partitions.is_some(), "PARTITION"),
            (*if_exists, "IF EXISTS"),
            (matches!(identity, Some(TruncateIdentityOption::Restart)), "RESTART IDENTITY"),
            (on_cluster.is_some(), "ON CLUSTER"),
        ],
    )?;
    let tables = table_names.iter().map(|target| RelationName::try_from(&target.name));
    Ok(Statement::Truncate { tables: tables.collect::<Result<_, _>>()? })
}
