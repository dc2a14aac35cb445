//! PostgreSQL's words and values, as all that speaks its language uses them: types, texts of values, functions,
//! errors; and what a statement may take while it runs.

// What goes wrong with a statement, and its code.
pub mod sqlstate;
// An error with the fields of PostgreSQL's error message.
pub mod error;
// From errors of the query engine to PostgreSQL's.
pub mod engine_errors;
// Names in quotes, unless they are plain.
pub mod quote;
// The dialect of our SQL.
pub mod dialect;
// Types by their names, oids and forms.
pub mod system_types;
pub mod type_names;
pub mod wire_types;
// Values from texts, and to texts and bytes.
pub mod copy_text;
pub mod encode;
pub mod text_input;
pub mod text_of_bytes;
// Threads that a statement has to itself.
pub mod lanes;
// A running statement: what stops it.
pub mod running;
// Memory: budgets, and who holds what.
pub mod memory;
// Where statements run.
pub mod query_runtime;
// What functions are about to make, counted before they make it.
pub mod growth;
// What PostgreSQL computes otherwise than the engine.
pub mod floats;
pub mod functions;
pub mod overflow;

/// The database there is, and the user it starts with.
pub const DATABASE: &str = "dev";
pub const USER: &str = "root";
/// The schema in which names without one are looked up. No user can write it.
pub const PATH_SCHEMA: &str = "\u{1}search_path";
