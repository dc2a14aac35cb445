//! Counts the memory of a value that is built step by step, ahead of its growth, in the current statement.

use super::{Held, ROW_PART, StatementMemory};
use crate::error::SqlError;
use crate::running;

/// Not counted up to this size: most values are small.
const SMALL_BYTES: usize = 64 << 10;
/// Counted in steps of this size.
const STEP_BYTES: usize = 1 << 20;

/// Counts the memory of a value while it is built and until this is dropped.
#[derive(Debug)]
pub struct Growing {
    what: &'static str,
    bytes: usize,
    counted: usize,
    held: Option<Held>,
}

impl Growing {
    pub fn new(what: &'static str) -> Self {
        Self { what, bytes: 0, counted: SMALL_BYTES, held: None }
    }

    /// Counts bytes that are about to be allocated. Fails if there is no room for them or the statement was
    /// stopped.
    pub fn add(&mut self, bytes: usize) -> Result<(), SqlError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.counted { Ok(()) } else { self.count() }
    }

    fn count(&mut self) -> Result<(), SqlError> {
        running::check()?;
        let counted = self.bytes.saturating_add(STEP_BYTES);
        if let Some(memory) = StatementMemory::current() {
            let bytes_max = memory.budget.bytes / ROW_PART;
            if self.bytes > bytes_max {
                return Err(SqlError::out_of_memory(format!(
                    "{} would take {} bytes or more at once; it may take {bytes_max}.",
                    self.what, self.bytes
                )));
            }
            match &self.held {
                Some(held) => held.resize(counted)?,
                None => self.held = Some(memory.hold(self.what, counted)?),
            }
        }
        self.counted = counted;
        Ok(())
    }
}
