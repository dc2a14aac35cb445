//! PostgreSQL's types, text forms, functions and errors, and the limits of a running statement.

// Error codes.
pub mod sqlstate;
// Errors with the fields of PostgreSQL's error message.
pub mod error;
// Maps errors of the query engine to PostgreSQL's.
pub mod engine_errors;
// Quotes identifiers where needed.
pub mod quote;
// The SQL dialect.
pub mod dialect;
// Types: names, oids, Arrow and wire types.
pub mod types;
// Values: parsing text and bound parameters, and encoding to text and bytes.
pub mod copy_text;
pub mod encode;
pub mod numeric;
pub mod parameters;
pub mod text_input;
pub mod text_of_bytes;
// Arithmetic of dates, times and intervals.
pub mod time;
// Values in a plan's options.
pub mod carried;
// Threads of a statement.
pub mod lanes;
// A running statement and what stops it.
pub mod running;
// Memory budgets of statements and sessions.
pub mod memory;
// Runs statements on their threads.
pub mod query_runtime;
// Limits of the results of functions, checked before the call.
pub mod growth;
// Rewrites expressions of plans under their names.
pub mod kept_names;
// Functions, and computations in which PostgreSQL differs from the engine.
pub mod aggregates;
pub mod functions;
pub mod key_rules;
pub mod order_keys;
pub mod overflow;
pub mod window_functions;

/// The only database, and the initial user.
pub const DATABASE: &str = "dev";
pub const USER: &str = "root";
/// The schema in which unqualified names are looked up. Users cannot write its name.
pub const PATH_SCHEMA: &str = "\u{1}search_path";
