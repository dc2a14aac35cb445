//! Memory that sessions keep between statements: prepared statements, portals and the values bound to them.
//!
//! That leaves less for statements, but never makes a new one fail: all sessions together may keep a small
//! part of the budget, and each one a part of what the others leave.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Budget;
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// All sessions together may keep this part of the budget.
const KEPT_PART: usize = 8;
/// One session may keep this many times what is then still free.
const SHARE: usize = 3;

/// The memory one session keeps.
pub struct SessionMemory {
    budget: Arc<Budget>,
    kept_bytes: AtomicUsize,
}

impl SessionMemory {
    pub fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Arc::clone(budget), kept_bytes: AtomicUsize::default() })
    }

    /// Counts `bytes` of `things` until the returned value is dropped.
    pub fn keep(self: &Arc<Self>, things: &str, bytes: usize) -> Result<Kept, SqlError> {
        let all = self.budget.kept_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let own = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        // Releases the bytes if they are refused.
        let kept = Kept { session: Arc::clone(self), bytes };
        let bytes_max = self.budget.bytes / KEPT_PART;
        if own > bytes_max.saturating_sub(all).saturating_mul(SHARE) {
            return Err(refused(things, bytes, own - bytes, all - bytes, bytes_max));
        }
        Ok(kept)
    }
}

impl fmt::Debug for SessionMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMemory").field("kept_bytes", &self.kept_bytes).finish()
    }
}

/// Counted bytes of a session, released when dropped.
#[derive(Debug)]
pub struct Kept {
    session: Arc<SessionMemory>,
    bytes: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.session.kept_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.session.budget.kept_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn refused(things: &str, bytes: usize, own: usize, all: usize, bytes_max: usize) -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, format!("out of memory for {things}"))
        .detail(format!(
            "{bytes} bytes are needed; the session keeps {own}, all sessions {all} of {bytes_max}."
        ))
        .hint(
            "Close or DEALLOCATE what is not needed any more, or start the server with more \
             --total-memory-bytes.",
        )
}
