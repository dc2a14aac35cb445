//! From SQL text to checked statements.
//!
//! Our own statements are read from the tokens, the rest is read by `sqlparser` and then *checked*:
//! whatever a statement could say and we would not do is refused here, by name. Nothing later needs
//! to ask whether a clause was overlooked.

mod ast;
mod check;
mod copy;
mod cursor;
mod depth;
mod escapes;
mod session;
mod size;
mod statement;
mod words;

pub use ast::{
    AlterOperation, AlterTable, CopyFormat, CopyFrom, CopyOptions, CreateView, Discard, LikeFilter,
    ParsedStatement, RelationName, SetScope, SetValue, ShowKind, Standing, Statement, folded,
};
pub use depth::{balanced, binary};
pub use size::{parsed_bytes, tokens_max};
pub use statement::{parse, parse_expression, parse_within};
pub use tidemark_pg::dialect::SqlDialect;

#[cfg(test)]
mod tests;
