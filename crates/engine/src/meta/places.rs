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

/// What this server knows of the places, and is in them.
#[derive(Debug)]
pub(super) struct Places {
    /// What it calls itself as the holder of a manifest: `<number of its life>/<id of its life>/<random>`.
    pub holder: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Places whose manifest this server holds.
    pub held: BTreeSet<StorageLocation>,
    /// Places where a change of the manifest may still arrive that this server or the one before has sent.
    /// Holding them keeps it out.
    pub unsure: BTreeSet<StorageLocation>,
    /// The newest manifest that was seen in each, as the lease says; zero where there was none.
    pub seen: BTreeMap<StorageLocation, u64>,
}

impl Places {
    /// Those of a server that begins to lead with this state.
    pub fn beginning_with(state: &State) -> Self {
        let current = state.params.backup_location();
        let known = Known { unsure: BTreeSet::from([current]), ..Known::default() };
        let Incarnation { number, id } = &state.incarnation;
        let holder = format!("{number}/{id}/{}", tidemark_ledger::ambient::uuid());
        Self { holder, known: Mutex::new(known) }
    }

    /// Whether `other` was a server of this life of the cluster, or of one before: it is deposed. One that
    /// was restored from this one, or next to it, has a data directory of its own.
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

    /// Holds a place no more: it was given up, or is to be claimed anew.
    pub fn let_go(&self, location: &StorageLocation) {
        let mut known = self.known();
        known.held.remove(location);
        known.seen.remove(location);
    }

    pub fn is_held(&self, location: &StorageLocation) -> bool {
        self.known().held.contains(location)
    }
}

/// The place that these parameters name; a root that is missing is made.
pub(super) async fn open_new(params: &Params) -> Result<OpenLocation, MetaError> {
    open(params.backup_location(), OpenLocation::open).await
}

/// Opens a place, which may take its time.
pub(super) async fn open(
    location: StorageLocation,
    how: fn(&StorageLocation) -> Result<OpenLocation, BackupError>,
) -> Result<OpenLocation, MetaError> {
    let opened = tidemark_ledger::ambient::blocking(move || how(&location)).await;
    let opened = opened.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string()))?;
    opened.map_err(|e| backup_error(&e))
}
