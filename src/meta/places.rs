//! Where meta snapshots are, as the meta role finds them. Before it changes a place it becomes the holder
//! of the manifest there; and a manifest that was there once must be there whenever one is asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{debug, warn};

use super::MetaNode;
use super::backup::backup_error;
use super::error::{ErrorKind, MetaError};
use crate::backup::{BackupError, Claim, Manifest, ManifestEntry, OpenLocation};
use crate::hummock::lease::KnownLocation;
use crate::params::Params;
use crate::storage::StorageLocation;

/// What this server knows of the places, and is in them.
#[derive(Debug)]
pub(super) struct Places {
    /// What it calls itself as the holder of a manifest.
    pub holder: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Places whose manifest this server holds.
    held: BTreeSet<StorageLocation>,
    /// Places where a change of the manifest may still arrive that this server or the one before has sent.
    /// Holding them keeps it out.
    unsure: BTreeSet<StorageLocation>,
    /// Places of which the lease says that they have a manifest.
    noted: BTreeSet<StorageLocation>,
}

impl Places {
    /// Those of a server that begins when snapshots are in `current`.
    pub fn beginning_in(current: StorageLocation) -> Self {
        let known = Known { unsure: BTreeSet::from([current]), ..Known::default() };
        Self { holder: uuid::Uuid::new_v4().to_string(), known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a place no more: it was given up, or is to be claimed anew.
    pub fn let_go(&self, location: &StorageLocation) {
        let mut known = self.known();
        known.held.remove(location);
        known.noted.remove(location);
    }

    fn is_held(&self, location: &StorageLocation) -> bool {
        self.known().held.contains(location)
    }
}

impl MetaNode {
    /// The current place, with this server as the holder of its manifest.
    pub(super) async fn hold_current(&self) -> Result<OpenLocation, MetaError> {
        self.hold(&self.manager.state().params.backup_location()).await
    }

    /// Makes this server the holder of a place's manifest, which is made if there never was one.
    ///
    /// # Errors
    /// What [`Claim::prepare`] finds, [`ErrorKind::Deposed`], and what the storage answers.
    pub(super) async fn hold(&self, location: &StorageLocation) -> Result<OpenLocation, MetaError> {
        let had_manifest = self.places.is_held(location) || self.had_manifest(location).await?;
        self.hold_if(location, had_manifest).await
    }

    async fn hold_if(
        &self,
        location: &StorageLocation,
        must_exist: bool,
    ) -> Result<OpenLocation, MetaError> {
        // A root that is missing is made, but never where there were snapshots: it may not be mounted.
        let how = if must_exist { OpenLocation::open_existing } else { OpenLocation::open };
        let opened = open(location.clone(), how).await?;
        if self.places.is_held(location) {
            return Ok(opened);
        }
        let cluster_id = self.manager.state().cluster_id.clone();
        loop {
            let claim = Claim::prepare(&opened, &cluster_id, must_exist).await;
            let claim = claim.map_err(|e| backup_error(&e))?;
            // After the manifest was read: should another server lead by now, it has not claimed it, or
            // the manifest is not the same any more.
            self.manager.standing().await?;
            if claim.take(&self.places.holder).await.map_err(|e| backup_error(&e))? {
                break;
            }
        }
        self.note(location).await?;
        let mut known = self.places.known();
        known.held.insert(location.clone());
        known.unsure.remove(location);
        Ok(opened)
    }

    /// Keeps in the lease that a place has a manifest.
    async fn note(&self, location: &StorageLocation) -> Result<(), MetaError> {
        let noted = KnownLocation { location: location.clone(), has_manifest: true };
        self.manager.note_location(noted).await?;
        self.places.known().noted.insert(location.clone());
        Ok(())
    }

    /// What a change of the current place failed with. Where it may still happen, the place has to be held
    /// anew, which keeps it out.
    pub(super) fn change_error(&self, error: &BackupError) -> MetaError {
        if matches!(error, BackupError::Unsure { .. }) {
            let location = self.manager.state().params.backup_location();
            self.places.let_go(&location);
            self.places.known().unsure.insert(location);
        }
        backup_error(error)
    }

    /// Makes sure that nothing arrives any more in a place that was sent there before by this server, or by
    /// one that led before it. Where nothing is known to be on its way, a place that can only be read will
    /// do.
    pub(super) async fn settle(&self, location: &StorageLocation) -> Result<(), MetaError> {
        if self.places.is_held(location) {
            return Ok(());
        }
        let unsure = self.places.known().unsure.contains(location);
        match unsure {
            true => self.hold(location).await.map(|_| ()),
            false => {
                if let Err(error) = self.hold_if(location, true).await {
                    debug!(%error, %location, "not held");
                }
                Ok(())
            }
        }
    }

    /// Becomes the holder of the current place when this server begins to lead. What keeps it from that is
    /// told, and tried again by whatever changes the place.
    pub async fn hold_backups(self: Arc<Self>) {
        if let Err(error) = self.hold_current().await {
            let hint = error.hint.as_deref().unwrap_or_default();
            warn!(%error, hint, "cannot change the meta snapshots");
        }
    }

    /// The snapshots of the current place, in order of creation. Read from there each time.
    pub async fn list_snapshots(&self) -> Result<Vec<ManifestEntry>, MetaError> {
        let location = self.manager.state().params.backup_location();
        Ok(self.listed_in(&location).await?.1)
    }

    async fn had_manifest(&self, location: &StorageLocation) -> Result<bool, MetaError> {
        let known = self.manager.standing().await?.backup_locations;
        Ok(known.iter().any(|known| known.has_manifest && known.location.is_same_place(location)))
    }

    /// The snapshots of a place, and the place. Nothing is made there.
    ///
    /// # Errors
    /// Also when its snapshots are another cluster's, and when the manifest is gone.
    pub(super) async fn listed_in(
        &self,
        location: &StorageLocation,
    ) -> Result<(OpenLocation, Vec<ManifestEntry>), MetaError> {
        let opened = open(location.clone(), OpenLocation::open_existing).await?;
        let manifest = Manifest::find(&opened).await.map_err(|e| backup_error(&e))?;
        let Some(manifest) = manifest else {
            return match self.had_manifest(location).await? {
                true => {
                    let location = opened.to_string();
                    Err(backup_error(&BackupError::NoManifest { location }))
                }
                false => Ok((opened, vec![])),
            };
        };
        let accepted = manifest.accepts(&opened, &self.manager.state().cluster_id);
        accepted.map_err(|e| backup_error(&e))?;
        let is_noted = self.places.known().noted.contains(location);
        if !is_noted && let Err(error) = self.note(location).await {
            debug!(%error, %location, "not noted");
        }
        Ok((opened, manifest.snapshot_metadata))
    }
}

/// The place that these parameters name; a root that is missing is made.
pub(super) async fn open_new(params: &Params) -> Result<OpenLocation, MetaError> {
    open(params.backup_location(), OpenLocation::open).await
}

/// Opens a place, which may take its time.
async fn open(
    location: StorageLocation,
    how: fn(&StorageLocation) -> Result<OpenLocation, BackupError>,
) -> Result<OpenLocation, MetaError> {
    let opened = tokio::task::spawn_blocking(move || how(&location)).await;
    let opened = opened.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string()))?;
    opened.map_err(|e| backup_error(&e))
}
