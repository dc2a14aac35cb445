//! PostgreSQL's types: one table, and what each side of Tidemark asks it.
//!
//! `table` has one row per type: oid, names, layout, and the column type of its values if there is one. All
//! other files translate to and from the table, so that a type is added there and nowhere else:
//!
//! - `modifier`: the limits of `varchar(n)` and `numeric(p, s)` as `atttypmod`.
//! - `names`: types as text, as `format_type` prints and `regtype` reads them.
//! - `declared`: the SQL type in an Arrow field's metadata.
//! - `arrow`: Arrow types, which engine and files have, to column types.
//! - `wire`: how clients see a column, and what they bind.
//! - `system`: columns of system relations.
//! - `spelling`: the type names of the SQL grammar.

pub mod arrow;
mod declared;
pub mod modifier;
mod names;
pub mod spelling;
mod system;
mod table;
pub mod wire;

pub use declared::DeclaredType;
pub use names::{TypeRef, by_name, format_type};
pub use system::SystemType;
pub use table::{PgType, by_oid, column_types, types};

#[cfg(test)]
mod tests;
