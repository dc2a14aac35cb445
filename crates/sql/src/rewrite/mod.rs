//! Passes over a parsed statement, between the parser and DataFusion's planner.
//!
//! DataFusion speaks a SQL of its own: it leaves out clauses without a word, has other type names and
//! other column names. The passes close that gap, each in a file of its own. Most are over the syntax
//! tree: [`reject`] refuses what the planner would ignore, [`output_names()`] gives columns their names,
//! [`operators`] and [`casts`] replace what the planner lacks by calls of our functions. Three work with
//! types: [`tidemark_pg::type_names`] tells the planner what our types are, [`typed_operators`] what the operators between
//! them mean, and [`subqueries`] turns plans of subqueries into such as can be joined.

mod arrays;
pub mod calls;
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

use sqlparser::ast::{Expr, Query, Visit, VisitMut};

use tidemark_pg::error::SqlError;

pub(crate) use arrays::plain_select;
pub use casts::parameter_types;
pub use output_names::output_names;
pub use own_names::own_names;

/// Makes a query ready to be planned. What the result's columns are called is to be asked from
/// [`output_names()`] with the query as it was before.
pub fn query(query: &mut Query) -> Result<(), SqlError> {
    casts::show_names(query);
    prepare(query)
}

/// Makes a lone expression ready to be planned.
pub fn expr(expr: &mut Expr) -> Result<(), SqlError> {
    prepare(expr)
}

fn prepare<N: Visit + VisitMut>(node: &mut N) -> Result<(), SqlError> {
    reject::reject_ignored(node)?;
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
