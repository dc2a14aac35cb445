//! The data directory at the start of a server: taken, or not yet taken because its storage is full.
//!
//! Taking the directory writes the lease, which fails on a full disk. The server then serves reads, which is
//! safe because what it reads is never overwritten, and writes nothing until it has taken the directory. So
//! it never writes to a directory that another server owns.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tracing::{info, warn};

use super::{Incarnation, KnownLocation, Lease, LeaseError, LeaseRecord, Promised, Reserved, read};
use crate::storage::Storage;

/// The data directory of a server.
#[derive(Debug)]
pub enum Tenure {
    Taken(Lease),
    NotTaken(NotTaken),
}

/// A directory that could not be taken yet because its storage is full.
#[derive(Debug)]
pub struct NotTaken {
    storage: Storage,
    data_dir: String,
    cluster_id: String,
    incarnation: Incarnation,
    leader: u64,
    begun_at: Reserved,
    durable: Promised,
}

impl Tenure {
    /// Like [`Lease::take`], but if the storage is full, only reads the lease. The lease must then belong to
    /// this life already, so that its numbers are known.
    pub async fn begin(
        storage: &Storage,
        data_dir: &str,
        cluster_id: &str,
        incarnation: &Incarnation,
        leader: u64,
        durable: Promised,
    ) -> Result<Self, LeaseError> {
        let taken = Lease::take(storage, data_dir, cluster_id, incarnation, leader, durable);
        let full = match taken.await {
            Ok(lease) => return Ok(Self::Taken(lease)),
            Err(LeaseError::Storage(error)) if error.is_full() => error,
            Err(error) => return Err(error),
        };
        let found = read(storage, data_dir).await?;
        let Some(found) = found.filter(|found| found.incarnation == *incarnation) else {
            return Err(full.into());
        };
        warn!(
            error = %full,
            "the storage is full, so the data directory cannot be taken: reads are served, and writes are \
             refused until there is room"
        );
        Ok(Self::NotTaken(NotTaken {
            storage: storage.clone(),
            data_dir: data_dir.to_owned(),
            cluster_id: cluster_id.to_owned(),
            incarnation: incarnation.clone(),
            leader,
            begun_at: found.begun_at,
            durable,
        }))
    }

    pub fn begun_at(&self) -> Reserved {
        match self {
            Self::Taken(lease) => lease.begun_at(),
            Self::NotTaken(wanted) => wanted.begun_at,
        }
    }

    /// Like [`Lease::note_backup_location`]. Does nothing while the directory is not taken: its lease lists
    /// its backup locations already.
    pub async fn note_backup_location(&mut self, noted: KnownLocation) -> Result<(), LeaseError> {
        match self {
            Self::Taken(lease) => lease.note_backup_location(noted).await,
            Self::NotTaken(_) => Ok(()),
        }
    }

    /// The lease. Takes the directory now if that was not possible before.
    pub(super) async fn lease(&mut self) -> Result<&mut Lease, LeaseError> {
        if let Self::NotTaken(wanted) = self {
            let lease = wanted.take().await?;
            info!(
                generation = lease.generation(),
                "the data directory is taken: writes are accepted"
            );
            *self = Self::Taken(lease);
        }
        match self {
            Self::Taken(lease) => Ok(lease),
            Self::NotTaken(_) => unreachable!("it was taken just now"),
        }
    }

    /// Reads the lease without taking the directory.
    pub(super) async fn look(&self) -> Result<LeaseRecord, LeaseError> {
        match self {
            Self::Taken(lease) => lease.watch().look().await,
            Self::NotTaken(wanted) => wanted.look().await,
        }
    }
}

impl NotTaken {
    /// Boxed, since every commit could need it and hardly any does.
    fn take(&self) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        let Self { storage, data_dir, cluster_id, incarnation, leader, durable, .. } = self;
        Lease::take(storage, data_dir, cluster_id, incarnation, *leader, *durable).boxed()
    }

    async fn look(&self) -> Result<LeaseRecord, LeaseError> {
        let path = crate::layout::lease(&self.data_dir);
        match read(&self.storage, &self.data_dir).boxed().await? {
            None => Err(LeaseError::Gone { path: self.storage.name_of(&path) }),
            Some(found) if found.cluster_id != self.cluster_id => {
                Err(LeaseError::OtherCluster { cluster_id: found.cluster_id })
            }
            Some(found) if found.incarnation != self.incarnation => {
                Err(LeaseError::Superseded { number: found.incarnation.number })
            }
            Some(found) => Ok(found),
        }
    }
}
