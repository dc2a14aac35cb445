//! Functions that PostgreSQL has and DataFusion lacks.
//!
//! Functions that need the catalog are in `tidemark_sql::system_catalog`. Those that depend on the session
//! find it in the options of the plan: [`Caller`].

mod answers;
mod arrays;
mod bits;
mod bytes;
mod cast;
mod format;
mod identity;
mod interval_order;
mod json;
mod json_build;
mod math;
mod only_row;
mod rowwise;
mod series;
mod session;
mod strings;
mod temporal;
mod texts;
mod timezone;
mod type_of;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use arrays::{EXPANDED, SUBSCRIPTS, first_subscript};
pub use bits::{Bits, COMPLEMENT};
pub use cast::{CAST, cast_call, is_assignable, print, rounded};
pub use identity::{EACH_ROW, MAYBE, MAYBE_NULL, PLAIN, UNTYPED};
pub use interval_order::{interval_keys, interval_nanos};
pub use json::{CONCAT as JSONB_CONCAT, CONTAINS as JSONB_CONTAINS};
pub use only_row::ONLY_ROW;
pub use series::register as register_series;
pub use session::{Caller, SessionInfo};
pub use temporal::{EXTRACT, time_operator};

/// The PostgreSQL version Tidemark reports; clients choose their catalog queries by it.
pub const POSTGRES_VERSION: &str = "14.10";

/// The result of `version()`.
pub fn version() -> String {
    format!("PostgreSQL {POSTGRES_VERSION}-Tidemark-{}", env!("CARGO_PKG_VERSION"))
}

/// Functions of the engine that have the name of one of PostgreSQL's and another meaning: `to_char` takes the
/// patterns of C, and returns those of PostgreSQL unchanged; `to_date` reads the same patterns; `current_time`
/// has no zone; the others have only names that PostgreSQL does not know.
pub const NOT_AS_POSTGRES: [&str; 7] = [
    "to_char",
    "to_date",
    "current_time",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
];

/// All functions. None is made for a statement or a session.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = cast::functions();
    functions.extend(arrays::functions());
    functions.extend(bits::functions());
    functions.extend(bytes::functions());
    functions.extend(math::functions());
    functions.extend(json::functions());
    functions.extend(json_build::functions());
    functions.extend(session::functions());
    functions.extend(strings::functions());
    functions.extend(temporal::functions());
    functions.extend(texts::functions());
    functions.extend(answers::functions());
    functions.push(format::function());
    functions.push(Arc::clone(&ONLY_ROW));
    functions.extend(identity::functions());
    functions.push(timezone::function());
    functions.push(type_of::function());
    functions
}
