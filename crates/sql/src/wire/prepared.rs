//! Prepared statements.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use pgwire::api::Type;

use super::shared::SharedStatement;
use tidemark_pg::memory::Kept;

/// A statement with the parameters and result columns found when it was prepared.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub statement: SharedStatement,
    pub parameters: Vec<Type>,
    pub rows: Option<SchemaRef>,
    /// Counts the statement and its bound values in the session's memory.
    pub kept: Vec<Arc<Kept>>,
}
