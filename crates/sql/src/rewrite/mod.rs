//! Rewrite passes over a parsed statement, between the parser and DataFusion's planner.
//!
//! DataFusion's SQL differs from PostgreSQL's: it ignores clauses silently, and has other type names and
//! column names. Each pass closes one such gap. Most work on the syntax tree: [`reject`] refuses what the
//! planner would ignore, `calls` clauses that a function may not have, `windows` resolves names of windows,
//! [`placement`] what SQL does not allow where it is, [`output_names()`] names columns,
//! [`operators`] and [`casts`] replace what the planner lacks with calls of our functions. [`subqueries`] turns
//! correlated subqueries into plans that can be joined. Types are decided by `resolve`.

mod array_calls;
mod arrays;
mod calls;
pub mod casts;
mod documents;
mod grouping;
mod hidden_columns;
pub mod kept_queries;
mod literals;
mod merged_columns;
pub mod operators;
mod order_by;
pub mod output_names;
mod own_names;
mod pitfalls;
pub mod placement;
mod positions;
pub mod reject;
mod rows;
mod similar;
pub mod subqueries;
mod table_functions;
mod unnest;
mod values;
mod whole_rows;
mod windows;

use sqlparser::ast::{Expr, Query, Visit, VisitMut};

use tidemark_pg::error::SqlError;

pub use calls::check_calls;
pub use casts::parameter_types;
pub use merged_columns::merge_columns;
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
    whole_rows::count_rows(node);
    reject::reject_ignored(node)?;
    placement::check(node)?;
    windows::resolve(node)?;
    hidden_columns::reveal(node);
    output_names::name_nested_selects(node);
    documents::make_documents(node)?;
    grouping::group(node)?;
    positions::name_positions(node)?;
    order_by::order_by_tables(node)?;
    pitfalls::avoid(node);
    rows::compare_columns(node)?;
    operators::rewrite_operators(node)?;
    casts::rewrite_casts(node)?;
    array_calls::call_arrays(node);
    values::plain_values(node);
    Ok(())
}

#[cfg(test)]
mod tests;
