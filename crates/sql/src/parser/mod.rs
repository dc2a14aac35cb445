//! Parses SQL text to statements of our own types.
//!
//! Tidemark's own statements are parsed from the tokens; all others are parsed by `sqlparser` and then
//! *lowered*: what the statement says is in our types, and everything else it could say is refused here, by
//! name. Later stages need not ask whether a clause was overlooked. They meet `sqlparser`'s types only in
//! expressions, select lists, `FROM` and queries.

mod ast;
mod copy;
mod cursor;
mod depth;
mod escapes;
mod lower;
mod session;
mod size;
mod statement;
mod words;

pub use ast::{
    AlterOperation, AlterTable, Assignment, ColumnDefinition, CopyFormat, CopyFrom, CopyOptions,
    CreateTable, CreateView, Delete, Discard, ImplicitTransaction, Insert, InsertSource,
    LikeFilter, OnConflict, ParsedStatement, RelationName, SetScope, SetValue, ShowKind, Statement,
    TableSource, Target, Update, folded,
};
pub use size::{parsed_bytes, tokens_max};
pub use statement::{parse, parse_expression, parse_within};
pub use tidemark_pg::dialect::SqlDialect;

#[cfg(test)]
mod tests;
