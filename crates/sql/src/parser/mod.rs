//! Parses SQL text to checked statements.
//!
//! Tidemark's own statements are parsed from the tokens; all others are parsed by `sqlparser` and then
//! *checked*: everything a statement could say that would not be done is refused here, by name. Later stages
//! need not ask whether a clause was overlooked.

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
    AlterOperation, AlterTable, CopyFormat, CopyFrom, CopyOptions, CreateView, Discard,
    ImplicitTransaction, LikeFilter, ParsedStatement, RelationName, SetScope, SetValue, ShowKind,
    Statement, folded,
};
pub use depth::{balanced, binary};
pub use size::{parsed_bytes, tokens_max};
pub use statement::{parse, parse_expression, parse_within};
pub use tidemark_pg::dialect::SqlDialect;

#[cfg(test)]
mod tests;
