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
mod dialect;
mod escapes;
mod session;
mod size;
mod statement;

pub use ast::{
    AlterOperation, AlterTable, CopyFormat, CopyFrom, CopyOptions, CreateView, Discard, LikeFilter,
    ParsedStatement, RelationName, SetScope, SetValue, ShowKind, Standing, Statement, folded,
};
pub use depth::{balanced, binary};
pub use dialect::SqlDialect;
pub use size::{parsed_bytes, tokens_max};
pub use statement::{parse, parse_expression, parse_within};

#[cfg(test)]
mod tests;
