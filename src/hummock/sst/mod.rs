//! One immutable data file: what is known of it, how it is written, which of its rows are dead.

mod info;
pub mod schema;
pub mod stamps;
mod writer;

pub use info::{SstColumn, SstInfo};
pub use writer::SstWriter;
