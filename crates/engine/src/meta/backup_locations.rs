//! Backup locations: the manifests that this server holds, and the newest ids it has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::backup_error::backup_error;
use tidemark_ledger::backup::{BackupError, OpenLocation};
use tidemark_ledger::lease::Incarnation;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::params::Params;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::StorageLocation;

/// The backup locations, as far as this server knows them.
#[derive(Debug)]
pub(super) struct BackupLocations {
    /// This server's name as the holder of a manifest: `<number of its life>/<id of its life>/<random>`.
    pub holder: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Locations whose manifest this server holds.
    pub held: BTreeSet<StorageLocation>,
    /// Locations where a change of the manifest may still arrive that this server or an earlier one has
    /// sent. Holding the manifest keeps the change out.
    pub unsure: BTreeSet<StorageLocation>,
    /// The newest manifest id seen in each location, as recorded in the lease; 0 if there was none.
    pub seen: BTreeMap<StorageLocation, u64>,
}

impl BackupLocations {
    /// The locations of a server that starts to lead with this state.
    pub fn beginning_with(state: &State) -> Self {
        let current = state.params.backup_location();
        let known = Known { unsure: BTreeSet::from([current]), ..Known::default() };
        let Incarnation { number, id } = &state.incarnation;
        let holder = format!("{number}/{id}/{}", tidemark_ledger::ambient::uuid());
        Self { holder, known: Mutex::new(known) }
    }

    /// Whether `other` was a server of this life of the cluster or of an earlier one, and thus is
    /// deposed. A server that was restored from this life, or next to it, has its own data directory.
    pub fn follows(&self, other: &str) -> bool {
        let life = |holder: &str| {
            let (number, rest) = holder.split_once('/')?;
            let (id, _) = rest.split_once('/')?;
            Some((number.parse::<u64>().ok()?, id.to_owned()))
        };
        match (life(&self.holder), life(other)) {
            (Some((own, id)), Some((number, other))) => number < own || id == other,
            _ => true,
        }
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops holding a location that was given up or is to be claimed again.
    pub fn release(&self, location: &StorageLocation) {
        let mut known = self.known();
        known.held.remove(location);
        known.seen.remove(location);
    }

    pub fn is_held(&self, location: &StorageLocation) -> bool {
        self.known().held.contains(location)
    }
}

/// Opens the location that these parameters name; creates a missing root.
pub(super) async fn open_new(params: &Params) -> Result<OpenLocation, MetaError> {
    open(params.backup_location(), OpenLocation::open).await
}

/// Opens a location on a blocking thread, since that may take a while.
pub(super) async fn open(
    location: StorageLocation,
    how: fn(&StorageLocation) -> Result<OpenLocation, BackupError>,
) -> Result<OpenLocation, MetaError> {
    let opened = tidemark_ledger::ambient::blocking(move || how(&location)).await;
    let opened = opened.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string()))?;
    opened.map_err(|e| backup_error(&e))
}
