//! The statements of Tidemark. A statement in this form has no clause that would be ignored.

mod ddl;
mod dml;

pub use ddl::{AlterOperation, AlterTable, ColumnDefinition, CreateTable, CreateView, TableSource};
pub use dml::{Assignment, Delete, Insert, InsertSource, OnConflict, Target, Update};

use std::fmt;

use sqlparser::ast::{Ident, ObjectName, Query};

use tidemark_engine::meta::command::BackupOptions;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// A statement and its source text.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedStatement {
    pub statement: Statement,
    /// The text of this statement only, without semicolon and surrounding comments.
    pub text: String,
}

/// A statement with all of its clauses.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// An empty text, or only comments.
    Empty,
    /// `SELECT`, `VALUES`, `WITH`, `TABLE t`.
    Query(Box<Query>),
    Explain {
        analyze: bool,
        verbose: bool,
        statement: Box<Statement>,
    },
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
    Truncate {
        tables: Vec<RelationName>,
    },
    Copy(CopyFrom),
    CreateSchema {
        name: String,
        if_not_exists: bool,
    },
    DropSchema {
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    CreateTable(Box<CreateTable>),
    DropTable {
        names: Vec<RelationName>,
        if_exists: bool,
        cascade: bool,
    },
    CreateView(CreateView),
    DropView {
        names: Vec<RelationName>,
        if_exists: bool,
        cascade: bool,
    },
    AlterTable(AlterTable),
    Flush,
    Backup(BackupOptions),
    DeleteMetaSnapshots(Vec<u64>),
    /// `ALTER SYSTEM SET name = value`; no value means `DEFAULT`.
    AlterSystem {
        name: String,
        value: Option<String>,
    },
    Set {
        scope: SetScope,
        name: String,
        value: SetValue,
    },
    /// No name means `ALL`.
    Reset {
        name: Option<String>,
    },
    Show {
        kind: ShowKind,
        filter: Option<LikeFilter>,
    },
    Begin {
        read_only: bool,
        read_write: bool,
    },
    Commit,
    Rollback,
    Discard(Discard),
    /// No name means `ALL`.
    Deallocate {
        name: Option<String>,
    },
    /// Ends objects of a kind that does not exist here, so it does nothing; returns this command tag.
    NoOp(&'static str),
}

/// How a statement relates to the implicit transaction formed by the statements of one query text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImplicitTransaction {
    /// Part of the transaction.
    Within,
    /// Outside of the transaction, which it leaves unchanged.
    Outside,
    /// Takes effect alone and at once: the transaction before it is committed first.
    Alone,
}

impl Statement {
    /// Whether the statement mostly waits, and so needs no lane.
    pub fn needs_no_threads(&self) -> bool {
        match self {
            Self::Insert(insert) => insert.is_of_literals(),
            Self::Query(_)
            | Self::Explain { .. }
            | Self::Update(_)
            | Self::Delete(_)
            | Self::Show { .. }
            | Self::CreateTable(_)
            | Self::CreateView(_) => false,
            // Only the rows of a COPY need threads, not its start.
            Self::Copy(_)
            | Self::Empty
            | Self::Truncate { .. }
            | Self::Begin { .. }
            | Self::Commit
            | Self::Rollback
            | Self::Deallocate { .. }
            | Self::NoOp(_)
            | Self::CreateSchema { .. }
            | Self::DropSchema { .. }
            | Self::DropTable { .. }
            | Self::DropView { .. }
            | Self::AlterTable(_)
            | Self::Flush
            | Self::Backup(_)
            | Self::DeleteMetaSnapshots(_)
            | Self::AlterSystem { .. }
            | Self::Set { .. }
            | Self::Reset { .. }
            | Self::Discard(_) => true,
        }
    }

    /// How the statement relates to an implicit transaction.
    pub fn implicit_transaction(&self) -> ImplicitTransaction {
        match self {
            Self::Query(_)
            | Self::Explain { .. }
            | Self::Insert(_)
            | Self::Update(_)
            | Self::Delete(_)
            | Self::Truncate { .. } => ImplicitTransaction::Within,
            Self::Empty
            | Self::Show { .. }
            | Self::Begin { .. }
            | Self::Commit
            | Self::Rollback
            | Self::Deallocate { .. }
            | Self::NoOp(_) => ImplicitTransaction::Outside,
            Self::Copy(_)
            | Self::CreateSchema { .. }
            | Self::DropSchema { .. }
            | Self::CreateTable(_)
            | Self::DropTable { .. }
            | Self::CreateView(_)
            | Self::DropView { .. }
            | Self::AlterTable(_)
            | Self::Flush
            | Self::Backup(_)
            | Self::DeleteMetaSnapshots(_)
            | Self::AlterSystem { .. }
            | Self::Set { .. }
            | Self::Reset { .. }
            | Self::Discard(_) => ImplicitTransaction::Alone,
        }
    }
}

/// `name` or `schema.name`; unquoted parts are folded to lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationName {
    pub schema: Option<String>,
    pub name: String,
}

/// `COPY table [(columns)] FROM STDIN`.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyFrom {
    pub table: RelationName,
    /// Empty for all columns in order.
    pub columns: Vec<String>,
    pub options: CopyOptions,
}

/// How the lines of `COPY ... FROM STDIN` are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: char,
    /// The text that means null.
    pub null: String,
    /// Whether the first line is skipped.
    pub header: bool,
    /// CSV only.
    pub quote: char,
    /// CSV only.
    pub escape: char,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetScope {
    /// Neither `SESSION` nor `LOCAL` was given.
    Unspecified,
    Session,
    Local,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    Default,
    /// The values as text, without quotes.
    Values(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShowKind {
    All,
    Cluster,
    Columns { table: RelationName },
    CreateTable { name: RelationName },
    CreateView { name: RelationName },
    Databases,
    MaterializedViews { schema: Option<String> },
    Parameters,
    Schemas,
    Tables { schema: Option<String> },
    Variable(String),
    Views { schema: Option<String> },
}

/// `LIKE 'pattern'` or `ILIKE 'pattern'` after a `SHOW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LikeFilter {
    pub pattern: String,
    pub case_insensitive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temp,
}

/// The name an identifier refers to: PostgreSQL folds unquoted ones to lower case.
pub fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

impl RelationName {
    pub fn bare(name: impl Into<String>) -> Self {
        Self { schema: None, name: name.into() }
    }
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl TryFrom<&ObjectName> for RelationName {
    type Error = SqlError;

    fn try_from(name: &ObjectName) -> Result<Self, SqlError> {
        let parts: Option<Vec<String>> =
            name.0.iter().map(|part| part.as_ident().map(folded)).collect();
        match parts.as_deref() {
            Some([name]) => Ok(Self { schema: None, name: name.clone() }),
            Some([schema, name]) => Ok(Self { schema: Some(schema.clone()), name: name.clone() }),
            Some([_, _, _]) => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cross-database references are not implemented: {name}"),
            )),
            _ => Err(SqlError::syntax(format!("improper relation name: {name}"))),
        }
    }
}
