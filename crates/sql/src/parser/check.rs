//! Converts `sqlparser`'s statements to ours: every clause is either kept or refused by name.
//!
//! Structs are destructured without `..`, so that a field added by a later `sqlparser` cannot be ignored by
//! accident.

use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, Assignment, AssignmentTarget, ColumnDef,
    ColumnOption, CreateTable, CreateTableOptions, Delete, DropBehavior, Expr, FromTable, Insert,
    ObjectName, ObjectType, OnConflictAction, OnInsert, PrimaryKeyConstraint, Query,
    RenameTableNameKind, SchemaName, SetExpr, Statement as Foreign, TableConstraint, TableFactor,
    TableObject, TableWithJoins, Truncate, TruncateIdentityOption, Update, ViewColumnDef,
};

use super::ast::{AlterOperation, AlterTable, CreateView, RelationName, Statement, folded};
use tidemark_pg::error::SqlError;
use tidemark_pg::types::spelling::column_type;

/// Converts a statement; `name` is used for it in the error if it is unsupported.
pub fn lower(statement: Foreign, name: &str) -> Result<Statement, SqlError> {
    match statement {
        Foreign::Query(query) => lower_query(query),
        Foreign::Insert(insert) => lower_insert(insert),
        Foreign::Update(update) => lower_update(update),
        Foreign::Delete(delete) => lower_delete(delete),
        Foreign::Truncate(truncate) => lower_truncate(truncate),
        Foreign::CreateTable(table) => lower_create_table(table),
        Foreign::CreateView(view) => lower_create_view(view),
        Foreign::AlterTable(alter) => lower_alter_table(alter),
        Foreign::CreateSchema {
            schema_name,
            if_not_exists,
            with,
            options,
            default_collate_spec,
            clone,
        } => {
            refuse(
                "CREATE SCHEMA",
                [
                    (with.is_some(), "WITH"),
                    (options.is_some(), "OPTIONS"),
                    (default_collate_spec.is_some(), "DEFAULT COLLATE"),
                    (clone.is_some(), "CLONE"),
                ],
            )?;
            let SchemaName::Simple(schema) = schema_name else {
                return Err(SqlError::unsupported("CREATE SCHEMA ... AUTHORIZATION"));
            };
            Ok(Statement::CreateSchema { name: single_name(&schema)?, if_not_exists })
        }
        Foreign::Drop {
            object_type,
            if_exists,
            names,
            cascade,
            restrict: _,
            purge,
            temporary,
            table,
        } => {
            refuse("DROP", [(purge, "PURGE"), (temporary, "TEMPORARY"), (table.is_some(), "ON")])?;
            lower_drop(object_type, &names, if_exists, cascade, name)
        }
        _ => Err(unsupported_statement(name)),
    }
}

/// The error for a statement that Tidemark does not support.
pub fn unsupported_statement(name: &str) -> SqlError {
    let error = SqlError::unsupported(name);
    match name {
        "CREATE MATERIALIZED VIEW" => error.hint("Use CREATE VIEW: it is always up to date."),
        "CREATE INDEX" => {
            error.hint("Tables are sorted by their primary key; choose that instead.")
        }
        "SAVEPOINT" | "RELEASE" => error.hint("Only whole transactions can be rolled back."),
        "VACUUM" | "ANALYZE" => error.hint("Statistics are part of the files; history is kept."),
        _ => error,
    }
}

/// Fails with the first clause that is present.
fn refuse<const N: usize>(statement: &str, clauses: [(bool, &str); N]) -> Result<(), SqlError> {
    match clauses.iter().find(|(present, _)| *present) {
        Some((_, clause)) => Err(SqlError::unsupported(format!("{statement} ... {clause}"))),
        None => Ok(()),
    }
}

fn lower_query(query: Box<Query>) -> Result<Statement, SqlError> {
    match leftmost(&query.body) {
        SetExpr::Insert(_) => {
            Err(SqlError::unsupported("WITH ... INSERT")
                .hint("Write INSERT INTO ... WITH ... SELECT."))
        }
        SetExpr::Update(_) => Err(SqlError::unsupported("WITH ... UPDATE")),
        SetExpr::Delete(_) => Err(SqlError::unsupported("WITH ... DELETE")),
        SetExpr::Merge(_) => Err(SqlError::unsupported("MERGE")),
        _ => Ok(Statement::Query(query)),
    }
}

fn leftmost(body: &SetExpr) -> &SetExpr {
    let mut body = body;
    while let SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    body
}

fn lower_insert(mut insert: Insert) -> Result<Statement, SqlError> {
    let Insert {
        insert_token: _,
        optimizer_hints: _,
        or,
        ignore,
        into: _,
        table,
        table_alias: _,
        columns,
        overwrite,
        source: _,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword,
        on,
        returning: _,
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
    } = &mut insert;
    if let Some(OnInsert::OnConflict(conflict)) = on
        && let OnConflictAction::DoUpdate(update) = &mut conflict.action
    {
        update.assignments = single_assignments(std::mem::take(&mut update.assignments))?;
    }
    refuse(
        "INSERT",
        [
            (matches!(on, Some(OnInsert::DuplicateKeyUpdate(_))), "ON DUPLICATE KEY"),
            (or.is_some(), "OR"),
            (*ignore, "IGNORE"),
            (*overwrite, "OVERWRITE"),
            (!assignments.is_empty(), "SET"),
            (partitioned.is_some() || !after_columns.is_empty(), "PARTITION"),
            (*has_table_keyword, "TABLE"),
            (output.is_some(), "OUTPUT"),
            (*replace_into, "REPLACE"),
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
    let TableObject::TableName(target) = table else {
        return Err(SqlError::unsupported("INSERT into something other than a table"));
    };
    RelationName::try_from(&*target)?;
    for column in columns {
        single_name(column)?;
    }
    Ok(Statement::Insert(Box::new(insert)))
}

fn lower_update(mut update: Update) -> Result<Statement, SqlError> {
    let Update {
        update_token: _,
        optimizer_hints: _,
        table,
        assignments,
        from: _,
        selection: _,
        returning: _,
        output,
        or,
        order_by,
        limit,
    } = &mut update;
    refuse(
        "UPDATE",
        [
            (output.is_some(), "OUTPUT"),
            (or.is_some(), "OR"),
            (!order_by.is_empty(), "ORDER BY"),
            (limit.is_some(), "LIMIT"),
        ],
    )?;
    check_target("UPDATE", table)?;
    *assignments = single_assignments(std::mem::take(assignments))?;
    Ok(Statement::Update(Box::new(update)))
}

/// Rewrites `SET (a, b) = (1, 2)` to `SET a = 1, b = 2`.
fn single_assignments(assignments: Vec<Assignment>) -> Result<Vec<Assignment>, SqlError> {
    let mut single = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        match (assignment.target, assignment.value) {
            (AssignmentTarget::ColumnName(column), value) => {
                single_name(&column)?;
                single.push(Assignment { target: AssignmentTarget::ColumnName(column), value });
            }
            (AssignmentTarget::Tuple(columns), Expr::Tuple(values))
                if columns.len() == values.len() =>
            {
                for (column, value) in columns.into_iter().zip(values) {
                    single_name(&column)?;
                    single.push(Assignment { target: AssignmentTarget::ColumnName(column), value });
                }
            }
            (AssignmentTarget::Tuple(_), Expr::Tuple(_)) => {
                return Err(SqlError::syntax("number of columns does not match number of values"));
            }
            (AssignmentTarget::Tuple(_), _) => {
                return Err(SqlError::unsupported(
                    "UPDATE ... SET (...) = something other than (...)",
                ));
            }
        }
    }
    Ok(single)
}

fn lower_delete(delete: Delete) -> Result<Statement, SqlError> {
    let Delete {
        delete_token: _,
        optimizer_hints: _,
        tables,
        from,
        using: _,
        selection: _,
        returning: _,
        output,
        order_by,
        limit,
    } = &delete;
    refuse(
        "DELETE",
        [
            (output.is_some(), "OUTPUT"),
            (!tables.is_empty(), "of several tables"),
            (!order_by.is_empty(), "ORDER BY"),
            (limit.is_some(), "LIMIT"),
        ],
    )?;
    match from {
        FromTable::WithFromKeyword(from) => match from.as_slice() {
            [target] => check_target("DELETE", target)?,
            _ => return Err(SqlError::unsupported("DELETE from several tables")),
        },
        FromTable::WithoutKeyword(_) => return Err(SqlError::syntax("DELETE needs FROM")),
    }
    Ok(Statement::Delete(Box::new(delete)))
}

/// Checks the target of `UPDATE` or `DELETE`: one table, with an optional alias.
fn check_target(statement: &str, target: &TableWithJoins) -> Result<(), SqlError> {
    if !target.joins.is_empty() {
        return Err(SqlError::unsupported(format!("{statement} of a join")));
    }
    match &target.relation {
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
            if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
                return Err(SqlError::syntax("an alias of the target cannot name columns"));
            }
            RelationName::try_from(name).map(drop)
        }
        _ => Err(SqlError::unsupported(format!("{statement} of something other than a table"))),
    }
}

fn lower_truncate(truncate: Truncate) -> Result<Statement, SqlError> {
    // CASCADE and RESTRICT concern foreign keys, ONLY concerns inheritance: neither exists here.
    let Truncate { table_names, partitions, table: _, if_exists, identity, cascade: _, on_cluster } =
        truncate;
    refuse(
        "TRUNCATE",
        [
            (partitions.is_some(), "PARTITION"),
            (if_exists, "IF EXISTS"),
            (matches!(identity, Some(TruncateIdentityOption::Restart)), "RESTART IDENTITY"),
            (on_cluster.is_some(), "ON CLUSTER"),
        ],
    )?;
    let tables = table_names.iter().map(|target| RelationName::try_from(&target.name));
    Ok(Statement::Truncate { tables: tables.collect::<Result<_, _>>()? })
}

fn lower_drop(
    object_type: ObjectType,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
    name: &str,
) -> Result<Statement, SqlError> {
    let relations = || names.iter().map(RelationName::try_from).collect::<Result<Vec<_>, _>>();
    match object_type {
        ObjectType::Table => Ok(Statement::DropTable { names: relations()?, if_exists, cascade }),
        ObjectType::View => Ok(Statement::DropView { names: relations()?, if_exists, cascade }),
        ObjectType::Schema => {
            let names = names.iter().map(single_name).collect::<Result<_, _>>()?;
            Ok(Statement::DropSchema { names, if_exists, cascade })
        }
        _ => Err(unsupported_statement(name)),
    }
}

fn lower_create_view(view: sqlparser::ast::CreateView) -> Result<Statement, SqlError> {
    let sqlparser::ast::CreateView {
        or_alter,
        or_replace,
        materialized,
        secure,
        name,
        name_before_not_exists: _,
        columns,
        query,
        options,
        cluster_by,
        comment,
        with_no_schema_binding,
        if_not_exists,
        temporary,
        copy_grants,
        to,
        params,
    } = view;
    if materialized {
        return Err(unsupported_statement("CREATE MATERIALIZED VIEW"));
    }
    refuse(
        "CREATE VIEW",
        [
            (temporary, "TEMPORARY"),
            (or_alter, "OR ALTER"),
            (secure, "SECURE"),
            (options != CreateTableOptions::None, "WITH"),
            (!cluster_by.is_empty(), "CLUSTER BY"),
            (comment.is_some(), "COMMENT"),
            (with_no_schema_binding, "WITH NO SCHEMA BINDING"),
            (copy_grants, "COPY GRANTS"),
            (to.is_some(), "TO"),
            (params.is_some(), "ALGORITHM"),
        ],
    )?;
    let columns = columns.iter().map(view_column).collect::<Result<_, _>>()?;
    Ok(Statement::CreateView(CreateView {
        name: RelationName::try_from(&name)?,
        or_replace,
        if_not_exists,
        columns,
        query,
        query_text: String::new(),
    }))
}

fn view_column(column: &ViewColumnDef) -> Result<String, SqlError> {
    let ViewColumnDef { name, data_type, options } = column;
    if data_type.is_some() || options.is_some() {
        return Err(SqlError::unsupported("a type or option of a view's column"));
    }
    Ok(folded(name))
}

fn lower_create_table(table: CreateTable) -> Result<Statement, SqlError> {
    refuse(
        "CREATE TABLE",
        [
            (table.temporary, "TEMPORARY"),
            (table.or_replace, "OR REPLACE"),
            (table.external, "EXTERNAL"),
            (table.on_commit.is_some(), "ON COMMIT"),
            (table.like.is_some(), "LIKE"),
            (table.inherits.is_some(), "INHERITS"),
            (table.partition_of.is_some(), "PARTITION OF"),
            (table.partition_by.is_some(), "PARTITION BY"),
            (table.table_options != CreateTableOptions::None, "WITH"),
        ],
    )?;
    let plain = CreateTableBuilder::new(table.name.clone())
        .columns(table.columns.clone())
        .constraints(table.constraints.clone())
        .if_not_exists(table.if_not_exists)
        .query(table.query.clone())
        .build();
    if plain != table {
        return Err(SqlError::unsupported("a clause of this CREATE TABLE")
            .hint("Only columns, a primary key and AS are known."));
    }
    RelationName::try_from(&table.name)?;
    table.columns.iter().try_for_each(check_column)?;
    table.constraints.iter().try_for_each(check_constraint)?;
    Ok(Statement::CreateTable(Box::new(table)))
}

fn check_column(column: &ColumnDef) -> Result<(), SqlError> {
    let ColumnDef { name: _, data_type, options } = column;
    column_type(data_type)?;
    options.iter().try_for_each(|option| check_column_option(&option.option))
}

fn check_column_option(option: &ColumnOption) -> Result<(), SqlError> {
    let clause = match option {
        ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Default(_) => return Ok(()),
        ColumnOption::PrimaryKey(key) => return check_primary_key(key),
        ColumnOption::Unique(_) => "UNIQUE",
        ColumnOption::ForeignKey(_) => "REFERENCES",
        ColumnOption::Check(_) => "CHECK",
        ColumnOption::Collation(_) => "COLLATE",
        ColumnOption::Generated { .. } | ColumnOption::Identity(_) => "GENERATED",
        ColumnOption::Comment(_) => "COMMENT",
        ColumnOption::CharacterSet(_) => "CHARACTER SET",
        ColumnOption::OnUpdate(_) => "ON UPDATE",
        ColumnOption::OnConflict(_) => "ON CONFLICT",
        ColumnOption::Options(_) => "OPTIONS",
        ColumnOption::Materialized(_)
        | ColumnOption::Ephemeral(_)
        | ColumnOption::Alias(_)
        | ColumnOption::DialectSpecific(_)
        | ColumnOption::Policy(_)
        | ColumnOption::Tags(_)
        | ColumnOption::Srid(_)
        | ColumnOption::Invisible => {
            return Err(SqlError::unsupported(format!("column option {option}")));
        }
    };
    Err(SqlError::unsupported(format!("column option {clause}")))
}

fn check_constraint(constraint: &TableConstraint) -> Result<(), SqlError> {
    let clause = match constraint {
        TableConstraint::PrimaryKey(key) => return check_primary_key(key),
        TableConstraint::Unique(_) | TableConstraint::UniqueUsingIndex(_) => "UNIQUE",
        TableConstraint::ForeignKey(_) => "FOREIGN KEY",
        TableConstraint::Check(_) => "CHECK",
        TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => "INDEX",
        TableConstraint::PrimaryKeyUsingIndex(_) => "PRIMARY KEY USING INDEX",
    };
    Err(SqlError::unsupported(format!("table constraint {clause}")))
}

/// A constraint name is accepted but not stored: nothing refers to it.
fn check_primary_key(key: &PrimaryKeyConstraint) -> Result<(), SqlError> {
    let PrimaryKeyConstraint {
        name: _,
        index_name,
        index_type,
        columns,
        index_options,
        characteristics,
    } = key;
    refuse(
        "PRIMARY KEY",
        [
            (index_name.is_some() || index_type.is_some(), "USING"),
            (!index_options.is_empty(), "WITH"),
            (characteristics.is_some(), "DEFERRABLE"),
        ],
    )?;
    let plain = columns.iter().all(|column| {
        matches!(column.column.expr, Expr::Identifier(_))
            && column.column.options.asc.is_none()
            && column.column.options.nulls_first.is_none()
            && column.operator_class.is_none()
    });
    if plain { Ok(()) } else { Err(SqlError::syntax("a primary key is a list of column names")) }
}

fn lower_alter_table(alter: sqlparser::ast::AlterTable) -> Result<Statement, SqlError> {
    let sqlparser::ast::AlterTable {
        name,
        if_exists,
        only: _,
        operations,
        location,
        on_cluster,
        table_type,
        end_token: _,
    } = alter;
    refuse(
        "ALTER TABLE",
        [
            (location.is_some(), "LOCATION"),
            (on_cluster.is_some(), "ON CLUSTER"),
            (table_type.is_some(), "of another kind of table"),
        ],
    )?;
    let mut lowered = Vec::with_capacity(operations.len());
    for operation in operations {
        lower_alter_operation(operation, &mut lowered)?;
    }
    let name = RelationName::try_from(&name)?;
    Ok(Statement::AlterTable(AlterTable { name, if_exists, operations: lowered }))
}

fn lower_alter_operation(
    operation: AlterTableOperation,
    lowered: &mut Vec<AlterOperation>,
) -> Result<(), SqlError> {
    match operation {
        AlterTableOperation::AddColumn {
            column_keyword: _,
            if_not_exists,
            column_def,
            column_position: None,
        } => {
            check_column(&column_def)?;
            lowered.push(AlterOperation::AddColumn { if_not_exists, column: column_def });
        }
        AlterTableOperation::DropColumn {
            has_column_keyword: _,
            column_names,
            if_exists,
            drop_behavior,
        } => {
            let cascade = matches!(drop_behavior, Some(DropBehavior::Cascade));
            for name in &column_names {
                let name = folded(name);
                lowered.push(AlterOperation::DropColumn { if_exists, name, cascade });
            }
        }
        AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
            let (from, to) = (folded(&old_column_name), folded(&new_column_name));
            lowered.push(AlterOperation::RenameColumn { from, to });
        }
        AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) } => {
            lowered.push(AlterOperation::RenameTable { to: single_name(&to)? });
        }
        AlterTableOperation::AlterColumn { column_name, op } => {
            lowered.push(lower_alter_column(folded(&column_name), op)?);
        }
        other => {
            let words = other.to_string();
            let words: Vec<&str> = words.split_whitespace().take(2).collect();
            let what = format!("ALTER TABLE ... {}", words.join(" "));
            return Err(SqlError::unsupported(what));
        }
    }
    Ok(())
}

fn lower_alter_column(
    column: String,
    op: AlterColumnOperation,
) -> Result<AlterOperation, SqlError> {
    match op {
        AlterColumnOperation::SetNotNull => Ok(AlterOperation::SetNotNull { column }),
        AlterColumnOperation::DropNotNull => Ok(AlterOperation::DropNotNull { column }),
        AlterColumnOperation::SetDefault { value } => {
            Ok(AlterOperation::SetDefault { column, value })
        }
        AlterColumnOperation::DropDefault => Ok(AlterOperation::DropDefault { column }),
        AlterColumnOperation::SetDataType { data_type, using, had_set: _ } => {
            column_type(&data_type)?;
            Ok(AlterOperation::SetDataType { column, data_type, using })
        }
        AlterColumnOperation::AddGenerated { .. } => {
            Err(SqlError::unsupported("ALTER COLUMN ... ADD GENERATED"))
        }
    }
}

/// Returns a name of one part: a column, a schema, the new name of a table.
fn single_name(name: &ObjectName) -> Result<String, SqlError> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(folded),
        _ => None,
    }
    .ok_or_else(|| SqlError::syntax(format!("improper qualified name: {name}")))
}
