//! Prepared statements.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use pgwire::api::Type;

use super::shared::SharedStatement;
use tidemark_pg::memory::Kept;

/// A statement, and what it was found to need and to yield when it was prepared.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub statement: SharedStatement,
    pub parameters: Vec<Type>,
    pub rows: Option<SchemaRef>,
    /// Counts the statement, and what is bound to it, in what the session keeps.
    pub kept: Vec<Arc<Kept>>,
}
