//! Converts `sqlparser`'s statements to ours: every clause is either kept or refused by name.
//!
//! Structs are destructured without `..`, so that a field added by a later `sqlparser` cannot be ignored by
//! accident.

mod ddl;
mod dml;

use sqlparser::ast::{ObjectName, Query, SetExpr, Statement as Foreign};

use super::ast::{Statement, folded};
use tidemark_pg::error::SqlError;

/// Converts a statement; `name` is used for it in the error if it is unsupported.
pub fn lower(statement: Foreign, name: &str) -> Result<Statement, SqlError> {
    match statement {
        Foreign::Query(query) => lower_query(query),
        Foreign::Insert(insert) => dml::lower_insert(insert),
        Foreign::Update(update) => dml::lower_update(update),
        Foreign::Delete(delete) => dml::lower_delete(delete),
        Foreign::Truncate(truncate) => dml::lower_truncate(&truncate),
        Foreign::CreateTable(table) => ddl::lower_create_table(table),
        Foreign::CreateView(view) => ddl::lower_create_view(view),
        Foreign::AlterTable(alter) => ddl::lower_alter_table(alter),
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
            ddl::lower_create_schema(&schema_name, if_not_exists)
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
            ddl::lower_drop(object_type, &names, if_exists, cascade, name)
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

/// Returns a name of one part: a column, a schema, the new name of a table.
fn single_name(name: &ObjectName) -> Result<String, SqlError> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(folded),
        _ => None,
    }
    .ok_or_else(|| SqlError::syntax(format!("improper qualified name: {name}")))
}
