//! The error of a statement as PostgreSQL clients see it.

use std::fmt;
use std::num::NonZeroUsize;

use datafusion::error::DataFusionError;
use pgwire::error::{ErrorInfo, PgWireError};
use tidemark_ledger::meta_error::{MetaError, RpcError};

use crate::sqlstate::SqlState;

/// An error with the fields of PostgreSQL's error message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub sqlstate: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Character position in the query text, from 1.
    pub position: Option<NonZeroUsize>,
    /// What the error is about.
    pub subject: Option<Box<Subject>>,
}

/// Where in the statement an error is, and the object it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Line and column in the query text, from 1, as long as the text is not at hand.
    pub location: Option<(u64, u64)>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
    /// PostgreSQL's function that raises the error: some drivers tell errors apart by it.
    pub routine: Option<&'static str>,
}

impl SqlError {
    pub fn new(sqlstate: SqlState, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { sqlstate, message, detail: None, hint: None, position: None, subject: None }
    }

    /// A statement, clause or type that PostgreSQL has and Tidemark does not.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported"))
    }

    /// The statement needs more memory than is available.
    pub fn out_of_memory(detail: impl Into<String>) -> Self {
        Self::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(detail).hint(
            "Work on fewer or smaller rows at a time, or start the server with more --total-memory-bytes.",
        )
    }

    /// A call of a function that does not exist for these arguments.
    pub fn undefined_function(call: impl fmt::Display) -> Self {
        Self::undefined(format!("function {call} does not exist"), "function")
    }

    /// An operator that does not exist for these operands.
    pub fn undefined_operator(operation: impl fmt::Display) -> Self {
        Self::undefined(format!("operator does not exist: {operation}"), "operator")
    }

    fn undefined(message: String, what: &str) -> Self {
        Self::new(SqlState::UNDEFINED_FUNCTION, message).hint(format!(
            "No {what} matches the given name and argument types. You might need to add explicit type casts."
        ))
    }

    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(SqlState::SYNTAX_ERROR, message)
    }

    /// An error that only a bug in Tidemark can cause.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn position(mut self, position: usize) -> Self {
        self.position = NonZeroUsize::new(position);
        self
    }

    /// Says where the error is, for [`Self::in_text`]; a location that is known already stays.
    #[must_use]
    pub fn at(mut self, line: u64, column: u64) -> Self {
        if line > 0 && self.position.is_none() {
            self.subject.get_or_insert_default().location.get_or_insert((line, column));
        }
        self
    }

    /// Computes the position from the location in `text`.
    #[must_use]
    pub fn in_text(mut self, text: &str) -> Self {
        let location = self.subject.as_mut().and_then(|subject| subject.location.take());
        match location {
            Some(location) => self.position(characters_to(text, location)),
            None => self,
        }
    }

    /// Drops the location: it is one in another text than the client's.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.position = None;
        if let Some(subject) = &mut self.subject {
            subject.location = None;
        }
        self
    }

    /// Names the table, its schema if that is known, and what of the table the error is about.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        let location = self.subject.take().and_then(|subject| subject.location);
        self.subject = Some(Box::new(Subject { location, ..subject }));
        self
    }

    #[must_use]
    pub fn routine(mut self, routine: &'static str) -> Self {
        self.subject.get_or_insert_default().routine = Some(routine);
        self
    }
}

/// The number of the character at a line and column, all counted from 1.
fn characters_to(text: &str, (line, column): (u64, u64)) -> usize {
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let lines = text.split_inclusive('\n').take(whole(line - 1));
    lines.map(|line| line.chars().count()).sum::<usize>().saturating_add(whole(column))
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}

/// Passes through DataFusion unchanged; [`super::engine_errors`] unwraps it.
impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

/// What the meta role refused, as clients see it.
impl From<MetaError> for SqlError {
    fn from(error: MetaError) -> Self {
        let mut sql = Self::new(SqlState::of_meta(error.kind), error.message);
        sql.detail = error.detail;
        sql.hint = error.hint;
        sql
    }
}

/// An error of the meta role as clients see it.
impl From<RpcError> for SqlError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Refused(refused) => refused.into(),
            unreachable @ RpcError::Unreachable { .. } => {
                let hint = "Reads of what is known go on; the server reconnects by itself.";
                Self::new(SqlState::CONNECTION_FAILURE, unreachable.to_string()).hint(hint)
            }
            lost @ RpcError::Lost { .. } => {
                let hint = "It may have been done or not: look, then run the statement again.";
                Self::new(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, lost.to_string()).hint(hint)
            }
        }
    }
}

/// An error as the protocol carries it.
pub fn error_info(error: SqlError, severity: &str) -> ErrorInfo {
    let mut info =
        ErrorInfo::new(severity.to_owned(), error.sqlstate.code().to_owned(), error.message);
    info.severity_nonlocalized = Some(severity.to_owned());
    info.detail = error.detail;
    info.hint = error.hint;
    info.position = error.position.map(|position| position.to_string());
    if let Some(subject) = error.subject {
        info.routine = subject.routine.map(str::to_owned);
        info.schema = subject.schema;
        info.table = subject.table;
        info.column = subject.column;
        info.constraint = subject.constraint;
    }
    info
}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        Self::UserError(Box::new(error_info(error, "ERROR")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_becomes_a_position_in_characters() {
        let error = || SqlError::syntax("wrong");
        let position = |error: SqlError| error.position.map(NonZeroUsize::get);
        assert_eq!(position(error().at(1, 8).in_text("SELECT a")), Some(8));
        assert_eq!(position(error().at(2, 3).in_text("äö\n  a")), Some(6));
        assert_eq!(position(error().position(4).at(1, 8).in_text("SELECT a")), Some(4));
        assert_eq!(position(error().at(0, 0).in_text("SELECT a")), None);
        assert_eq!(position(error().at(1, 8).elsewhere().in_text("SELECT a")), None);
    }
}
