//! Rewrite passes over a parsed statement, between the parser and DataFusion's planner.
//!
//! DataFusion's SQL differs from PostgreSQL's: it ignores clauses silently, and has other type names and
//! column names. Each pass closes one such gap. Most work on the syntax tree: [`reject`] refuses what the
//! planner would ignore, [`check_calls`] what PostgreSQL's parser refuses, [`windows`] resolves names of windows,
//! [`output_names()`] names columns, [`operators`] and [`casts`] replace what the
//! planner lacks with calls of our functions. Three work with types: [`tidemark_pg::types::spelling`] resolves type
//! names, [`typed_operators`] resolves operators by operand type, and [`subqueries`] turns correlated
//! subqueries into plans that can be joined.

mod arrays;
mod calls;
pub mod casts;
mod hidden_columns;
pub mod operators;
pub mod output_names;
mod own_names;
mod pitfalls;
pub mod reject;
mod rows;
mod similar;
pub mod subqueries;
mod table_functions;
pub mod typed_operators;
mod values;
mod windows;

use sqlparser::ast::{Expr, Query, Visit, VisitMut};

use tidemark_pg::error::SqlError;

pub use calls::{check_calls, refuse_aggregates};
pub use casts::parameter_types;
pub use output_names::output_names;
pub use own_names::own_names;

/// Prepares a query for planning. The names of the result columns come from [`output_names()`] on the
/// original query.
pub fn query(query: &mut Query) -> Result<(), SqlError> {
    casts::show_names(query);
    prepare(query)
}

/// Prepares a single expression for planning.
pub fn expr(expr: &mut Expr) -> Result<(), SqlError> {
    prepare(expr)
}

fn prepare<N: Visit + VisitMut>(node: &mut N) -> Result<(), SqlError> {
    reject::reject_ignored(node)?;
    windows::resolve(node)?;
    hidden_columns::reveal(node);
    output_names::name_nested_selects(node);
    pitfalls::avoid(node);
    rows::compare_columns(node);
    operators::rewrite_operators(node)?;
    casts::rewrite_casts(node)?;
    values::plain_values(node);
    Ok(())
}

#[cfg(test)]
mod tests;
