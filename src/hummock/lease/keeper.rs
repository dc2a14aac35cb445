//! The lease beside those who use its numbers: more are reserved before the last are used, so that hardly
//! a commit waits for the storage of the data directory.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::debug;

use super::{KnownLocation, Lease, LeaseError, LeaseWatch, Reserved};
use crate::ambient;
use crate::storage::StorageLocation;

/// The lease of a server, shared.
#[derive(Debug)]
pub struct LeaseKeeper {
    lease: Arc<tokio::sync::Mutex<Lease>>,
    /// What the lease has reserved, as far as its storage has answered.
    reserved: Arc<Mutex<Reserved>>,
    watch: LeaseWatch,
}

impl LeaseKeeper {
    pub fn new(lease: Lease) -> Self {
        let (reserved, watch) = (lease.reserved(), lease.watch());
        let lease = Arc::new(tokio::sync::Mutex::new(lease));
        Self { lease, reserved: Arc::new(Mutex::new(reserved)), watch }
    }

    pub fn watch(&self) -> &LeaseWatch {
        &self.watch
    }

    /// Makes sure that all numbers below `needed` are reserved. Waits only when they are not yet; when few
    /// are left beyond them, more are reserved meanwhile.
    ///
    /// # Errors
    /// As of [`Lease::reserve`].
    pub async fn reserve(&self, needed: Reserved) -> Result<(), LeaseError> {
        let reserved = *self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if !reserved.covers(&needed) {
            let mut lease = self.lease.lock().await;
            return extend(&mut lease, needed, &self.reserved).await;
        }
        if !reserved.covers(&needed.ahead()) {
            self.reserve_ahead(needed.ahead());
        }
        Ok(())
    }

    /// Who is at it already is left alone.
    fn reserve_ahead(&self, needed: Reserved) {
        let Ok(mut lease) = Arc::clone(&self.lease).try_lock_owned() else { return };
        let reserved = Arc::clone(&self.reserved);
        ambient::spawn(async move {
            if let Err(error) = extend(&mut lease, needed, &reserved).await {
                // Whoever needs the numbers will see it too.
                debug!(%error, "could not reserve numbers ahead");
            }
        });
    }

    /// As [`Lease::note_backup_location`].
    pub async fn note_backup_location(&self, noted: KnownLocation) -> Result<(), LeaseError> {
        self.lease.lock().await.note_backup_location(noted).await
    }

    /// As [`Lease::forget_backup_location`].
    pub async fn forget_backup_location(
        &self,
        location: &StorageLocation,
    ) -> Result<(), LeaseError> {
        self.lease.lock().await.forget_backup_location(location).await
    }
}

async fn extend(
    lease: &mut Lease,
    needed: Reserved,
    reserved: &Mutex<Reserved>,
) -> Result<(), LeaseError> {
    lease.reserve(needed).await?;
    *reserved.lock().unwrap_or_else(PoisonError::into_inner) = lease.reserved();
    Ok(())
}
