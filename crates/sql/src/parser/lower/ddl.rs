//! `CREATE`, `DROP` and `ALTER` of schemas, tables and views.

use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::ast::{
    self, AlterColumnOperation, AlterTableOperation, ColumnDef, ColumnOption, CreateTableOptions,
    DropBehavior, Expr, IndexColumn, ObjectName, ObjectType, PrimaryKeyConstraint,
    RenameTableNameKind, SchemaName, TableConstraint, ViewColumnDef,
};

use super::{refuse, single_name, unsupported_statement};
use crate::parser::ast::{
    AlterOperation, AlterTable, ColumnDefinition, CreateTable, CreateView, RelationName, Statement,
    TableSource, folded,
};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::spelling::column_type;

pub fn lower_create_schema(
    schema: &SchemaName,
    if_not_exists: bool,
) -> Result<Statement, SqlError> {
    let SchemaName::Simple(schema) = schema else {
        return Err(SqlError::unsupported("CREATE SCHEMA ... AUTHORIZATION"));
    };
    Ok(Statement::CreateSchema { name: single_name(schema)?, if_not_exists })
}

pub fn lower_drop(
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

pub fn lower_create_view(view: ast::CreateView) -> Result<Statement, SqlError> {
    let ast::CreateView {
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

pub fn lower_create_table(table: ast::CreateTable) -> Result<Statement, SqlError> {
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
    let name = RelationName::try_from(&table.name)?;
    let (mut columns, mut keys) = (vec![], vec![]);
    for column in table.columns {
        let (column, is_key) = lower_column(column)?;
        keys.extend(is_key.then(|| vec![column.name.clone()]));
        columns.push(column);
    }
    for constraint in &table.constraints {
        keys.push(lower_constraint(constraint)?);
    }
    let source = match table.query {
        None => TableSource::Columns { columns, primary_key: only_key(&table.name, keys)? },
        Some(query) if columns.is_empty() && keys.is_empty() => TableSource::Query(query),
        Some(_) => {
            return Err(SqlError::unsupported("CREATE TABLE AS with column types or constraints")
                .hint("Create the table first, then INSERT INTO it."));
        }
    };
    let if_not_exists = table.if_not_exists;
    Ok(Statement::CreateTable(Box::new(CreateTable { name, if_not_exists, source })))
}

/// Returns the primary key of a table; empty if it has none.
fn only_key(table: &ObjectName, mut keys: Vec<Vec<String>>) -> Result<Vec<String>, SqlError> {
    let key = keys.pop().unwrap_or_default();
    if keys.is_empty() {
        return Ok(key);
    }
    Err(SqlError::new(
        SqlState::INVALID_TABLE_DEFINITION,
        format!("multiple primary keys for table \"{table}\" are not allowed"),
    ))
}

/// Returns a column and whether it is the primary key.
fn lower_column(column: ColumnDef) -> Result<(ColumnDefinition, bool), SqlError> {
    let ColumnDef { name, data_type, options } = column;
    let mut lowered = ColumnDefinition {
        name: folded(&name),
        column_type: column_type(&data_type)?,
        not_null: false,
        default: None,
    };
    let mut is_key = false;
    for option in options {
        match option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => lowered.not_null = true,
            ColumnOption::Default(value) => lowered.default = Some(value),
            ColumnOption::PrimaryKey(key) => {
                key_columns(&key)?;
                is_key = true;
            }
            other => return Err(unsupported_option(&other)),
        }
    }
    Ok((lowered, is_key))
}

fn unsupported_option(option: &ColumnOption) -> SqlError {
    let clause = match option {
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
        other => return SqlError::unsupported(format!("column option {other}")),
    };
    SqlError::unsupported(format!("column option {clause}"))
}

/// Returns the columns of the primary key, which is the only supported constraint of a table.
fn lower_constraint(constraint: &TableConstraint) -> Result<Vec<String>, SqlError> {
    let clause = match constraint {
        TableConstraint::PrimaryKey(key) => return key_columns(key),
        TableConstraint::Unique(_) | TableConstraint::UniqueUsingIndex(_) => "UNIQUE",
        TableConstraint::ForeignKey(_) => "FOREIGN KEY",
        TableConstraint::Check(_) => "CHECK",
        TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => "INDEX",
        TableConstraint::PrimaryKeyUsingIndex(_) => "PRIMARY KEY USING INDEX",
    };
    Err(SqlError::unsupported(format!("table constraint {clause}")))
}

/// Returns the columns that a primary key names. A constraint name is accepted but not stored: nothing refers
/// to it.
fn key_columns(key: &PrimaryKeyConstraint) -> Result<Vec<String>, SqlError> {
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
    let column = |column: &IndexColumn| match &column.column.expr {
        Expr::Identifier(name)
            if column.column.options.asc.is_none()
                && column.column.options.nulls_first.is_none()
                && column.operator_class.is_none() =>
        {
            Some(folded(name))
        }
        _ => None,
    };
    let columns = columns.iter().map(column).collect::<Option<_>>();
    columns.ok_or_else(|| SqlError::syntax("a primary key is a list of column names"))
}

pub fn lower_alter_table(alter: ast::AlterTable) -> Result<Statement, SqlError> {
    let ast::AlterTable {
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
    let Ok([operation]) = <[AlterOperation; 1]>::try_from(lowered) else {
        return Err(SqlError::unsupported("ALTER TABLE with several actions")
            .hint("Run one ALTER TABLE for each."));
    };
    Ok(Statement::AlterTable(AlterTable { name, if_exists, operation }))
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
            let (column, is_key) = lower_column(column_def)?;
            if is_key {
                return Err(SqlError::unsupported("ALTER TABLE ADD COLUMN ... PRIMARY KEY")
                    .hint("Make a table with the key, and INSERT the rows into it."));
            }
            let column = Box::new(column);
            lowered.push(AlterOperation::AddColumn { if_not_exists, column });
        }
        AlterTableOperation::DropColumn {
            has_column_keyword: _,
            column_names,
            if_exists,
            drop_behavior,
        } => {
            if matches!(drop_behavior, Some(DropBehavior::Cascade)) {
                return Err(SqlError::unsupported("ALTER TABLE DROP COLUMN ... CASCADE")
                    .hint("Drop the dependent views first."));
            }
            let drop = |name| AlterOperation::DropColumn { if_exists, name: folded(name) };
            lowered.extend(column_names.iter().map(drop));
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
    let clause = match op {
        AlterColumnOperation::SetDataType { data_type, using, had_set: _ } => {
            let column_type = column_type(&data_type)?;
            if using.is_some() {
                return Err(SqlError::unsupported("ALTER TABLE ALTER COLUMN TYPE ... USING").hint(
                    "A wider type needs no USING. For others, add a column and UPDATE it from the old one.",
                ));
            }
            return Ok(AlterOperation::SetDataType { column, column_type });
        }
        AlterColumnOperation::SetNotNull => "ALTER TABLE ALTER COLUMN SET NOT NULL",
        AlterColumnOperation::DropNotNull => "ALTER TABLE ALTER COLUMN DROP NOT NULL",
        AlterColumnOperation::SetDefault { value: _ } | AlterColumnOperation::DropDefault => {
            "ALTER TABLE ALTER COLUMN SET or DROP DEFAULT"
        }
        AlterColumnOperation::AddGenerated { .. } => "ALTER COLUMN ... ADD GENERATED",
    };
    Err(SqlError::unsupported(clause))
}
