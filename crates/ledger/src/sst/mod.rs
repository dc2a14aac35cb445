//! Data files: their metadata, how they are written, and the encoding of dead row positions.

mod info;
mod inline;
mod key;
pub mod schema;
pub mod stamps;
mod writer;

pub use info::{SstColumn, SstInfo};
pub use inline::{
    INLINE_BYTES_MAX, INLINE_BYTES_PER_TABLE, INLINE_BYTES_TOTAL, INLINE_FILES_PER_TABLE,
    INLINE_ROWS_MAX, InlineRows,
};
pub use key::{KeyColumn, KeyRange, Keys};
pub use writer::{SstWriter, Target, file_columns};
