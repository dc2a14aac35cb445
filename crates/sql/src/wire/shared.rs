//! Parsed statements as connections hold them: shared, and behind a pointer that hides their type.
//!
//! A syntax tree is made of hundreds of types. For every future that holds one, the compiler would
//! prove that each of them may move between threads, which took most of the time of a build.

use std::ops::Deref;
use std::sync::Arc;

use crate::parser::{self, Statement};
use tidemark_pg::error::SqlError;

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

/// The statements of a text that has `tokens_max` tokens at most.
pub fn parse(text: &str, tokens_max: usize) -> Result<Vec<SharedStatement>, SqlError> {
    let parsed = parser::parse_within(text, tokens_max)?.into_iter();
    Ok(parsed.map(|parsed| SharedStatement(Arc::new(parsed.statement))).collect())
}
