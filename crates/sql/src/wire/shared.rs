//! Parsed statements shared by a connection, behind a pointer that hides their type.
//!
//! A syntax tree consists of hundreds of types. For every future that holds one, the compiler would have to
//! prove that each of them is `Send`, which took most of the build time.

use std::ops::Deref;
use std::sync::Arc;

use crate::parser::{self, Statement};
use tidemark_pg::error::SqlError;

/// A shared, parsed statement.
#[derive(Clone)]
pub struct SharedStatement(Arc<dyn Hidden>);

trait Hidden: Send + Sync {
    fn statement(&self) -> &Statement;
}

impl Hidden for Statement {
    fn statement(&self) -> &Statement {
        self
    }
}

impl Deref for SharedStatement {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        self.0.statement()
    }
}

impl std::fmt::Debug for SharedStatement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.statement().fmt(f)
    }
}

/// Parses the statements of a text with at most `tokens_max` tokens.
pub fn parse(text: &str, tokens_max: usize) -> Result<Vec<SharedStatement>, SqlError> {
    let parsed = parser::parse_within(text, tokens_max)?.into_iter();
    Ok(parsed.map(|parsed| SharedStatement(Arc::new(parsed.statement))).collect())
}
