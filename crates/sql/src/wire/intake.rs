//! Limits the memory of incoming messages, shared by all connections of a server.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Messages up to this size need no reservation: there is at most one per connection.
const SMALL_BYTES: usize = 64 << 10;
/// Bytes per permit.
const PERMIT_BYTES: usize = 1 << 10;

/// The memory that long messages may take together.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Semaphore>);

impl Intake {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / PERMIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Reserves memory for a body of this length; `None` if it needs no reservation.
    pub fn reserve(&self, length: usize) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        if length <= SMALL_BYTES {
            return Ok(None);
        }
        let permits = u32::try_from(length.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(permits).map(Some)
    }
}
