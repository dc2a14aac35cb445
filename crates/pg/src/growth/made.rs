//! Counts the bytes a function call has made so far against the allowed number.

use datafusion::common::config::ConfigOptions;

use crate::error::SqlError;
use crate::memory::{StatementMemory, VALUE_BYTES_MAX};
use crate::sqlstate::SqlState;

/// Most elements of an array, as in PostgreSQL.
const ARRAY_ITEMS_MAX: usize = 134_217_727;

/// Returns how many bytes one call may make for this number of rows, in the statement of `options`.
pub fn allowed(options: &ConfigOptions, rows: usize) -> usize {
    StatementMemory::of(options).map_or(VALUE_BYTES_MAX, |memory| memory.call_bytes_max(rows))
}

/// Counts the results of a function that works row by row.
#[derive(Debug)]
pub struct Made<'a> {
    function: &'a str,
    value_allowed: usize,
    allowed: usize,
    bytes: usize,
}

impl<'a> Made<'a> {
    /// Counts a call for this number of rows.
    pub fn new(function: &'a str, options: &ConfigOptions, rows: usize) -> Self {
        let (value_allowed, allowed) = (allowed(options, 1), allowed(options, rows));
        Self { function, value_allowed, allowed, bytes: 0 }
    }

    /// Counts a finished value. Fails if the values together are too large.
    pub fn add(&mut self, bytes: usize) -> Result<(), SqlError> {
        self.bytes = self.bytes.saturating_add(bytes);
        // A single value may be larger than the limit: it exists already.
        if self.bytes > self.allowed && self.bytes > bytes {
            return Err(too_much(self.function, self.bytes, self.allowed));
        }
        Ok(())
    }

    /// Fails if a value of this size is too large.
    pub fn check_value(&self, bytes: usize) -> Result<(), SqlError> {
        check_value(self.function, false, bytes, self.value_allowed)
    }
}

/// Fails if a value would exceed PostgreSQL's limit (54000) or `allowed` (53200).
pub fn check_value(
    function: &str,
    is_array: bool,
    bytes: usize,
    allowed: usize,
) -> Result<(), SqlError> {
    if bytes > VALUE_BYTES_MAX {
        return Err(too_long(function, is_array, bytes));
    }
    if bytes > allowed {
        return Err(too_much(function, bytes, allowed));
    }
    Ok(())
}

fn too_long(function: &str, is_array: bool, bytes: usize) -> SqlError {
    let message = if is_array {
        format!("array size exceeds the maximum allowed ({ARRAY_ITEMS_MAX})")
    } else {
        "requested length too large".to_owned()
    };
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).detail(format!(
        "{function}() would make a value of {bytes} bytes; a value has at most {VALUE_BYTES_MAX}."
    ))
}

/// The error of a call whose result would exceed the allowed size (53200).
pub fn too_much(function: &str, bytes: usize, allowed: usize) -> SqlError {
    SqlError::out_of_memory(format!(
        "{function}() would make {bytes} bytes or more at once; it may make {allowed}."
    ))
}
