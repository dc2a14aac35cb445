//! The shared lease of a server. Reserves more numbers before the last ones are used, so that commits rarely
//! wait for the storage of the data directory.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::FutureExt as _;
use tracing::debug;

use super::{
    EPOCH_BLOCK_MS, KnownLocation, LeaseError, LeaseRecord, LeaseWatch, Promised, Reserved, Tenure,
};
use crate::ambient;
use crate::epoch::{AHEAD_MS_MAX, Timeline};
use crate::storage::StorageLocation;

/// The lease of a server, shared.
#[derive(Debug)]
pub struct LeaseKeeper {
    tenure: Arc<tokio::sync::Mutex<Tenure>>,
    /// The reserved bounds that the storage has acknowledged.
    reserved: Arc<Mutex<Reserved>>,
    /// Reads the lease without waiting for a writer. Set once the directory is taken.
    watch: OnceLock<LeaseWatch>,
    timeline: Arc<Timeline>,
}

impl LeaseKeeper {
    pub fn new(tenure: Tenure, timeline: Arc<Timeline>) -> Self {
        let (reserved, watch) = match &tenure {
            Tenure::Taken(lease) => (lease.reserved(), OnceLock::from(lease.watch())),
            Tenure::NotTaken(_) => (Reserved::default(), OnceLock::new()),
        };
        let tenure = Arc::new(tokio::sync::Mutex::new(tenure));
        Self { tenure, reserved: Arc::new(Mutex::new(reserved)), watch, timeline }
    }

    /// Reads the lease; fails if this server no longer owns the directory.
    ///
    /// # Errors
    /// Also if the directory could not be taken yet, and still cannot be.
    pub async fn look(&self) -> Result<LeaseRecord, LeaseError> {
        let watch = match self.watch.get() {
            Some(watch) => watch,
            None => {
                let watch = self.tenure.lock().await.lease().await?.watch();
                self.watch.get_or_init(|| watch)
            }
        };
        watch.look().boxed().await
    }

    /// The same, but does not need the directory to be taken. For callers that only read.
    pub async fn look_only(&self) -> Result<LeaseRecord, LeaseError> {
        match self.watch.get() {
            Some(watch) => watch.look().boxed().await,
            None => self.tenure.lock().await.look().boxed().await,
        }
    }

    /// Reserves all numbers below `needed`. Waits only if some are not reserved yet. If few are left beyond
    /// them, reserves more in the background. The metadata is durable up to `durable`.
    ///
    /// # Errors
    /// Those of [`super::Lease::reserve`].
    pub async fn reserve(&self, needed: Reserved, durable: Promised) -> Result<(), LeaseError> {
        let reserved = *self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let block_ms = self.epoch_block_ms();
        if !reserved.covers(&needed) {
            let mut tenure = self.tenure.lock().await;
            return extend(&mut tenure, needed, durable, block_ms, &self.reserved).boxed().await;
        }
        let ahead = needed.ahead(block_ms);
        if !reserved.covers(&ahead) {
            self.reserve_ahead(ahead, durable, block_ms);
        }
        Ok(())
    }

    /// Milliseconds of epochs to reserve past what is needed. A restored cluster continues above the
    /// reservation, so one restore after another would push epochs further and further ahead of the clock.
    /// Where they are ahead already, little more is reserved.
    fn epoch_block_ms(&self) -> u64 {
        let ahead_ms = self.timeline.now_ms().saturating_sub(self.timeline.clock().now_ms());
        if ahead_ms > AHEAD_MS_MAX { EPOCH_BLOCK_MS / 10 } else { EPOCH_BLOCK_MS }
    }

    /// Extends the reservation in the background, unless the lease is being written already.
    fn reserve_ahead(&self, needed: Reserved, durable: Promised, block_ms: u64) {
        let Ok(mut tenure) = Arc::clone(&self.tenure).try_lock_owned() else { return };
        let reserved = Arc::clone(&self.reserved);
        ambient::spawn(async move {
            if let Err(error) = extend(&mut tenure, needed, durable, block_ms, &reserved).await {
                // The commit that needs the numbers will get the error too.
                debug!(%error, "could not reserve numbers ahead");
            }
        });
    }

    /// Like [`super::Lease::promise`].
    pub async fn promise(&self, durable: Promised) -> Result<(), LeaseError> {
        self.tenure.lock().await.lease().await?.promise(durable).boxed().await
    }

    /// Like [`super::Lease::note_backup_location`].
    pub async fn note_backup_location(&self, noted: KnownLocation) -> Result<(), LeaseError> {
        self.tenure.lock().await.lease().await?.note_backup_location(noted).await
    }

    /// Like [`super::Lease::forget_backup_location`].
    pub async fn forget_backup_location(
        &self,
        location: &StorageLocation,
    ) -> Result<(), LeaseError> {
        self.tenure.lock().await.lease().await?.forget_backup_location(location).await
    }
}

async fn extend(
    tenure: &mut Tenure,
    needed: Reserved,
    durable: Promised,
    epoch_block_ms: u64,
    reserved: &Mutex<Reserved>,
) -> Result<(), LeaseError> {
    let lease = tenure.lease().await?;
    lease.reserve_block(needed, durable, epoch_block_ms).await?;
    *reserved.lock().unwrap_or_else(PoisonError::into_inner) = lease.reserved();
    Ok(())
}
