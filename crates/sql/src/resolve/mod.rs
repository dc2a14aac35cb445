//! Decides the types of a query as PostgreSQL does, so that the query engine has nothing left to guess.
//!
//! ```text
//! syntax tree ── literals, untyped ──▶ planner ── operators ──▶ plan ── plan ──▶ plan with PostgreSQL's types
//! ```
//!
//! [`literals`] gives numbers their types in the syntax tree, and [`untyped`] keeps the planner from giving
//! quoted literals one. [`operators`] is called by the engine's planner
//! for each operator: it reads untyped literals and parameters as the type of the other operand, casts the
//! operands, and refuses operators that PostgreSQL does not have. [`plan`] does the same where several
//! expressions share one type: `CASE`, `IN`, `BETWEEN`, `UNION`, `VALUES`, `coalesce` and its like.

mod comparison;
pub mod literals;
mod operand;
pub mod operators;
pub mod plan;
pub mod time_operators;
mod types;
pub mod untyped;
