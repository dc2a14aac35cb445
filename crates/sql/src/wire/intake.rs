//! Memory for messages on their way in: what all connections of a server share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Messages up to this size need no reservation: there are as many of them as connections, at most.
const SMALL_BYTES: usize = 64 << 10;
/// What a permit stands for.
const PERMIT_BYTES: usize = 1 << 10;

/// The memory that long messages may take together.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Semaphore>);

impl Intake {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / PERMIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Room for a body of this length, if it needs any.
    pub fn reserve(&self, length: usize) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        if length <= SMALL_BYTES {
            return Ok(None);
        }
        let permits = u32::try_from(length.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(permits).map(Some)
    }
}
