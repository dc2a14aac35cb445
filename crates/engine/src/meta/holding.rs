//! Claims the manifests of backup locations: the meta role becomes the holder of a manifest before it
//! changes it, and a manifest that existed once must exist whenever it is read.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tracing::{debug, warn};

use super::MetaNode;
use super::backup_error::backup_error;
use super::backup_locations::open;
use tidemark_ledger::backup::{BackupError, Claim, OpenLocation, ReadManifest};
use tidemark_ledger::lease::KnownLocation;
use tidemark_ledger::meta_error::MetaError;
use tidemark_ledger::storage::StorageLocation;

impl MetaNode {
    /// The current backup location, with this server as the holder of its manifest.
    pub(super) async fn hold_current(&self) -> Result<OpenLocation, MetaError> {
        self.hold(&self.manager.state().params.backup_location()).await
    }

    /// Makes this server the holder of a location's manifest, which is created if there never was one.
    ///
    /// # Errors
    /// Those of [`Claim::prepare`], `ErrorKind::Deposed`, and errors of the storage.
    pub(super) fn hold<'a>(
        &'a self,
        location: &'a StorageLocation,
    ) -> BoxFuture<'a, Result<OpenLocation, MetaError>> {
        async move {
            let seen = self.seen_in(location).await?;
            // A missing root is created, but not if there were snapshots: it may just not be mounted.
            let how = if seen > 0 { OpenLocation::open_existing } else { OpenLocation::open };
            let opened = open(location.clone(), how).await?;
            if !self.backup_locations.is_held(location) {
                self.claim_manifest(location, &opened, seen, |_| true).await?;
            }
            Ok(opened)
        }
        .boxed()
    }

    /// Like [`MetaNode::hold`], but claims the manifest again: another server may have claimed it since.
    pub(super) async fn reclaim_manifest(
        &self,
        location: &StorageLocation,
    ) -> Result<(), MetaError> {
        self.backup_locations.release(location);
        self.hold(location).await.map(|_| ())
    }

    /// Claims a manifest, if `follows` says that this server succeeds its holder.
    async fn claim_manifest(
        &self,
        location: &StorageLocation,
        opened: &OpenLocation,
        seen: u64,
        follows: impl Fn(&str) -> bool,
    ) -> Result<(), MetaError> {
        let cluster_id = self.manager.state().cluster_id.clone();
        let manifest_id = loop {
            let claim = Claim::prepare(opened, &cluster_id, seen).await;
            let claim = claim.map_err(|e| backup_error(&e))?;
            if !follows(claim.holder()) {
                return Ok(());
            }
            // Checked after the manifest was read: if another server leads by now, either it has not
            // claimed the manifest yet, or the manifest has changed.
            self.manager.standing().await?;
            let taken =
                claim.take(&self.backup_locations.holder).await.map_err(|e| backup_error(&e))?;
            if let Some(manifest_id) = taken {
                break manifest_id;
            }
        };
        self.note(location, manifest_id).await?;
        let mut known = self.backup_locations.known();
        known.held.insert(location.clone());
        known.unsure.remove(location);
        Ok(())
    }

    /// The newest manifest id that was seen in a location; 0 if none was.
    async fn seen_in(&self, location: &StorageLocation) -> Result<u64, MetaError> {
        let seen = self.backup_locations.known().seen.get(location).copied();
        if let Some(seen) = seen {
            return Ok(seen);
        }
        let known = self.manager.backup_locations().await?;
        let same = known.iter().filter(|known| known.location.is_same_location(location));
        let seen = same.map(|known| known.manifest_id).max().unwrap_or_default();
        Ok(*self.backup_locations.known().seen.entry(location.clone()).or_insert(seen))
    }

    /// Records in the lease that a location has this manifest.
    async fn note(&self, location: &StorageLocation, manifest_id: u64) -> Result<(), MetaError> {
        let noted = KnownLocation { location: location.clone(), manifest_id };
        self.manager.note_location(noted).await?;
        let mut known = self.backup_locations.known();
        let seen = known.seen.entry(location.clone()).or_default();
        *seen = manifest_id.max(*seen);
        Ok(())
    }

    /// Records which manifest a change of this server has made. If that fails, the next listing does it.
    pub(super) async fn note_newest(&self, location: &StorageLocation) {
        if let Err(error) = self.listed_in(location).await {
            debug!(%error, %location, "not noted");
        }
    }

    /// Maps the error of a change to the current location. If the change may still happen, the location
    /// has to be claimed again, which keeps the change out.
    pub(super) fn change_error(&self, error: &BackupError) -> MetaError {
        if matches!(error, BackupError::Unsure { .. }) {
            let location = self.manager.state().params.backup_location();
            self.backup_locations.release(&location);
            self.backup_locations.known().unsure.insert(location);
        }
        backup_error(error)
    }

    /// Makes sure that no earlier write to a location, by this server or by an earlier leader, can still
    /// arrive. If no write is known to be in flight, a location that is only readable is accepted.
    pub(super) fn fence<'a>(
        &'a self,
        location: &'a StorageLocation,
    ) -> BoxFuture<'a, Result<(), MetaError>> {
        async move {
            if self.backup_locations.is_held(location) {
                return Ok(());
            }
            let unsure = self.backup_locations.known().unsure.contains(location);
            if unsure {
                return self.hold(location).await.map(|_| ());
            }
            let seen = self.seen_in(location).await?.max(1);
            let claimed = async {
                let opened = open(location.clone(), OpenLocation::open_existing).await?;
                self.claim_manifest(location, &opened, seen, |holder| {
                    self.backup_locations.follows(holder)
                })
                .await
            };
            if let Err(error) = claimed.await {
                debug!(%error, %location, "not held");
            }
            Ok(())
        }
        .boxed()
    }

    /// Becomes the holder of the current location when this server starts to lead, and reads what the
    /// snapshots name. A failure is logged; whatever changes the location tries again.
    pub async fn hold_backups(self: Arc<Self>) {
        if let Err(error) = self.hold_current().await {
            let hint = error.hint.as_deref().unwrap_or_default();
            warn!(%error, hint, "cannot change the meta snapshots");
        }
        self.read_snapshots().await;
    }

    /// The snapshots of the current location, in order of creation. Read from there each time.
    pub async fn list_snapshots(&self) -> Result<ReadManifest, MetaError> {
        let location = self.manager.state().params.backup_location();
        Ok(self.listed_in(&location).await?.1)
    }

    /// Opens a location and lists its snapshots. Creates nothing there.
    ///
    /// # Errors
    /// Also if the snapshots are another cluster's, or if the manifest is gone or older than one seen before.
    pub(super) fn listed_in<'a>(
        &'a self,
        location: &'a StorageLocation,
    ) -> BoxFuture<'a, Result<(OpenLocation, ReadManifest), MetaError>> {
        async move {
            // Read before the manifest, which therefore is no older than what was seen until now.
            let seen = self.seen_in(location).await?;
            let opened = open(location.clone(), OpenLocation::open_existing).await?;
            let manifest = match self.manifests.find(&opened).await.map_err(|e| backup_error(&e))? {
                Some(manifest) => manifest,
                None if seen == 0 => return Ok((opened, ReadManifest::default())),
                None => {
                    let location = opened.to_string();
                    return Err(backup_error(&BackupError::NoManifest { location }));
                }
            };
            let accepted = manifest.accepts(&opened, &self.manager.state().cluster_id);
            accepted.map_err(|e| backup_error(&e))?;
            manifest.check_not_older(&opened, seen).map_err(|e| backup_error(&e))?;
            if manifest.manifest_id > seen
                && let Err(error) = self.note(location, manifest.manifest_id).await
            {
                debug!(%error, %location, "not noted");
            }
            Ok((opened, manifest))
        }
        .boxed()
    }
}
