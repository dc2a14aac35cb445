//! The lease: which server owns the data directory, and which numbers may have been used in it.
//!
//! The object `lease.json` in the data directory:
//!
//! | field | meaning |
//! |---|---|
//! | `format` | 1 |
//! | `cluster_id` | the cluster whose data this is; no other may start here |
//! | `generation` | rises by one whenever a server takes the directory, which deposes the server before it |
//! | `leader` | when its server became leader, as a number of its meta store; absent if the store elects no leaders |
//! | `reserved` | exclusive upper bounds: every number below may have been used, no other |
//! | `incarnation` | the life of the cluster that has the directory: `{"number":…,"id":…}`; absent in the first life |
//! | `begun_at` | what was reserved when this life first took the directory; absent in the first life |
//! | `promised` | `{"revision":…,"epoch":…}`: the metadata is durable up to here, so a meta store of this life that ends earlier has lost commits |
//! | `backup_locations` | the backup locations whose snapshots may name files of this directory: `[{"url":…,"directory":…}]`, with `"manifest_id"`, the id of the newest manifest seen there, if there was one |
//! | `sha256` | the checksum of everything before it, closed with a brace; always last. Only a lease without `promised`, as older builds wrote it, may lack it |
//!
//! A restore begins a new life. Once a server of the new life has taken the directory, no server of an
//! earlier life can start here: it would write to the same directory and delete the files of the new life.
//! Everything that earlier lives may have used is below `begun_at`, and every server of the new life
//! continues above it.
//!
//! The object changes by compare-and-swap only, so two servers cannot both own the directory, and a restored
//! cluster that starts at the reserved numbers uses none of them twice. The test reads
//! `tests/fixtures/lease-v1.json`; `UPDATE_FIXTURES=1` rewrites it.

mod keeper;
mod tenure;

pub use keeper::LeaseKeeper;
pub use tenure::Tenure;

use std::collections::BTreeSet;
use std::time::Duration;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;
use crate::id::{ObjectId, SnapshotId, SstId, VersionId};
use crate::layout;
use crate::storage::checksum::{Unsealed, sealed};
use crate::storage::{Storage, StorageError, StorageLocation, Tag, within};

const FORMAT: u32 = 1;

/// How far a reservation extends past what is needed. Larger blocks cost fewer writes and leave larger gaps.
const OBJECT_BLOCK: u32 = 100;
const SST_BLOCK: u64 = 10_000;
const VERSION_BLOCK: u64 = 10_000;
const EPOCH_BLOCK_MS: u64 = 10_000;
/// Timeout of a request to the storage of the lease.
const PATIENCE: Duration = Duration::from_secs(10);

/// The content of `lease.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub format: u32,
    pub cluster_id: String,
    pub generation: u64,
    /// The number that `MetaStore::lead` returned. Of two servers of one life, the one that became leader
    /// first never takes the directory from the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leader: u64,
    pub reserved: Reserved,
    #[serde(default, skip_serializing_if = "Incarnation::is_first")]
    pub incarnation: Incarnation,
    #[serde(default, skip_serializing_if = "Reserved::is_nothing")]
    pub begun_at: Reserved,
    /// How far the meta store of this life is durable; absent if an older build wrote the lease last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<Promised>,
    /// Every backup location whose snapshots may name files of this directory. Kept here, so that no restore
    /// forgets one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub backup_locations: BTreeSet<KnownLocation>,
}

/// A backup location, and the newest manifest seen there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnownLocation {
    #[serde(flatten)]
    pub location: StorageLocation,
    /// The id of the newest manifest seen there; zero if there was none. If the manifest is missing now, the
    /// file system may not be mounted; an older manifest lacks snapshots.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub manifest_id: u64,
}

/// A life of a cluster. Each restore begins one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Greater than the number of every life it may descend from.
    pub number: u64,
    /// Distinguishes two lives that descend from the same one.
    pub id: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Incarnation {
    pub fn is_first(&self) -> bool {
        *self == Self::default()
    }

    /// A new life after this one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { number: self.number.saturating_add(1), id: crate::ambient::uuid().to_string() }
    }
}

/// Exclusive upper bounds of the numbers that may have been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    pub object: ObjectId,
    pub sst: SstId,
    pub version: VersionId,
    pub snapshot: SnapshotId,
    pub epoch: Epoch,
}

/// How far the metadata is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Revision of the newest change.
    pub revision: u64,
    /// Epoch of the newest commit.
    pub epoch: Epoch,
}

impl Promised {
    /// The later revision and the later epoch of the two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let revision = self.revision.max(other.revision);
        Self { revision, epoch: self.epoch.max(other.epoch) }
    }

    /// Whether metadata that ends at `end` has everything that was promised.
    pub fn is_kept_by(&self, end: Self) -> bool {
        self.max(end) == end
    }
}

/// Ownership of a data directory by this server.
#[derive(Debug)]
pub struct Lease {
    watch: LeaseWatch,
    record: LeaseRecord,
    tag: Tag,
}

/// Checks whether a server still owns the directory, independently of its [`Lease`].
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    storage: Storage,
    path: Path,
    cluster_id: String,
    incarnation: Incarnation,
    generation: u64,
}

/// Why the lease could not be taken, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("data directory is already used by another cluster with id \"{cluster_id}\"")]
    OtherCluster { cluster_id: String },
    #[error("this server lost the data directory to generation {generation}")]
    Deposed { generation: u64 },
    #[error("this cluster was restored into another meta store, which has the data directory now")]
    Superseded { number: u64 },
    /// The meta store lacks commits that were durable in it according to the lease.
    #[error("the meta store ends at revision {}, but {} was promised", found.revision, promised.revision)]
    Behind { promised: Promised, found: Promised },
    #[error("this server lost the data directory: {path} is gone")]
    Gone { path: String },
    /// The lease is intact, but written by a release that is unknown here.
    #[error("{path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LeaseError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::OtherCluster { .. } => {
                "choose another data directory, or restore a meta snapshot of that cluster"
            }
            Self::Deposed { .. } => {
                "another server was started on the same data directory: stop one of the two"
            }
            Self::Superseded { .. } => {
                "start the server on the meta store that was restored; to give that one up, restore a \
                 meta snapshot again"
            }
            Self::Behind { .. } => "put the newest copy of the meta store in place",
            Self::Gone { .. } => "bring the object back from a copy, or restart the server",
            Self::Unreadable { .. } => "use a newer release",
            // A start accepts a directory without a lease, since a copy of a data directory may lack it.
            Self::Damaged { .. } => {
                "bring the object back from a copy; without one, delete it, but only if no other server \
                 uses this data directory and the meta store is the newest of this cluster: the next start \
                 makes a new one, which knows neither how far the meta store had come nor earlier backup \
                 locations, whose data files vacuum would delete"
            }
            Self::Storage(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }
}

impl Reserved {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The greater bound of the two, for each number.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            object: self.object.max(other.object),
            sst: self.sst.max(other.sst),
            version: self.version.max(other.version),
            snapshot: self.snapshot.max(other.snapshot),
            epoch: self.epoch.max(other.epoch),
        }
    }

    /// Whether every bound is at least that of `needed`.
    pub fn covers(&self, needed: &Self) -> bool {
        self.max(*needed) == *self
    }

    /// These bounds moved half a block further, except for snapshots: what to reserve before it is needed.
    #[must_use]
    fn ahead(self, epoch_block_ms: u64) -> Self {
        Self {
            object: ObjectId(self.object.0.saturating_add(OBJECT_BLOCK / 2)),
            sst: SstId(self.sst.0.saturating_add(SST_BLOCK / 2)),
            version: VersionId(self.version.0.saturating_add(VERSION_BLOCK / 2)),
            snapshot: self.snapshot,
            epoch: Epoch::from_unix_ms(self.epoch.unix_ms().saturating_add(epoch_block_ms / 2)),
        }
    }

    /// `self` with each bound that is below `needed` moved a block past it.
    fn extended_to(self, needed: Self, epoch_block_ms: u64) -> Self {
        fn next<T: PartialOrd>(held: T, needed: T, extended: T) -> T {
            if held >= needed { held } else { extended }
        }
        let object = ObjectId(needed.object.0.saturating_add(OBJECT_BLOCK));
        let sst = SstId(needed.sst.0.saturating_add(SST_BLOCK));
        let version = VersionId(needed.version.0.saturating_add(VERSION_BLOCK));
        // Snapshot ids are few and visible to users, so no block of them is skipped.
        let snapshot = needed.snapshot;
        let epoch = Epoch::from_unix_ms(needed.epoch.unix_ms().saturating_add(epoch_block_ms));
        Self {
            object: next(self.object, needed.object, object),
            sst: next(self.sst, needed.sst, sst),
            version: next(self.version, needed.version, version),
            snapshot: next(self.snapshot, needed.snapshot, snapshot),
            epoch: next(self.epoch, needed.epoch, epoch.max(needed.epoch)),
        }
    }
}

impl Lease {
    /// Takes the data directory for a life of a cluster, and deposes the server that had it before.
    ///
    /// # Errors
    /// [`LeaseError::Superseded`] when a later life of the cluster, or another one with the same number, has
    /// it; [`LeaseError::Deposed`] when a server of this life that became leader later has it;
    /// [`LeaseError::Behind`] when more was promised in this life than the metadata has, which ends at `end`;
    /// [`LeaseError::OtherCluster`] when another cluster has it.
    pub async fn take(
        storage: &Storage,
        data_dir: &str,
        cluster_id: &str,
        incarnation: &Incarnation,
        leader: u64,
        end: Promised,
    ) -> Result<Self, LeaseError> {
        let path = layout::lease(data_dir);
        let promised = Some(end);
        loop {
            let found = read_tagged(storage, &path).await?;
            let (record, expected) = match found {
                None => {
                    let incarnation = incarnation.clone();
                    let first = LeaseRecord::first(cluster_id);
                    (LeaseRecord { incarnation, leader, promised, ..first }, None)
                }
                Some((held, tag)) if held.cluster_id == cluster_id => {
                    let begins_life = held.incarnation != *incarnation;
                    if begins_life && incarnation.number <= held.incarnation.number {
                        return Err(LeaseError::Superseded { number: held.incarnation.number });
                    }
                    if !begins_life && leader < held.leader {
                        return Err(LeaseError::Deposed { generation: held.generation });
                    }
                    if let Some(promised) = held.promised
                        && !begins_life
                        && !promised.is_kept_by(end)
                    {
                        return Err(LeaseError::Behind { promised, found: end });
                    }
                    let begun_at = if begins_life { held.reserved } else { held.begun_at };
                    let (generation, incarnation) = (held.generation + 1, incarnation.clone());
                    let record =
                        LeaseRecord { generation, leader, incarnation, begun_at, promised, ..held };
                    (record, Some(tag))
                }
                Some((LeaseRecord { cluster_id, .. }, _)) => {
                    return Err(LeaseError::OtherCluster { cluster_id });
                }
            };
            match storage.replace(&path, expected.as_ref(), record.to_bytes()).await {
                Ok(tag) => {
                    let watch = LeaseWatch {
                        storage: storage.clone(),
                        path,
                        cluster_id: record.cluster_id.clone(),
                        incarnation: record.incarnation.clone(),
                        generation: record.generation,
                    };
                    return Ok(Self { watch, record, tag });
                }
                // Another server is starting at the same time: each attempt sees a greater generation.
                Err(StorageError::Changed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn generation(&self) -> u64 {
        self.record.generation
    }

    /// Bounds of the numbers that earlier lives of the cluster may have used, which this life must not use.
    pub fn begun_at(&self) -> Reserved {
        self.record.begun_at
    }

    /// The bounds reserved for this server, which may use every number below them.
    pub fn reserved(&self) -> Reserved {
        self.record.reserved
    }

    /// Reserves all numbers below `needed`. Writes the lease only if some are not reserved yet, and then also
    /// records that the metadata is durable up to `durable`.
    ///
    /// # Errors
    /// [`LeaseError::Deposed`] when another server took the directory: this one must stop.
    pub async fn reserve(&mut self, needed: Reserved, durable: Promised) -> Result<(), LeaseError> {
        self.reserve_block(needed, durable, EPOCH_BLOCK_MS).await
    }

    /// The same, with this size of the block of epochs past what is needed.
    async fn reserve_block(
        &mut self,
        needed: Reserved,
        durable: Promised,
        epoch_block_ms: u64,
    ) -> Result<(), LeaseError> {
        if self.record.reserved.covers(&needed) {
            return Ok(());
        }
        self.edit(|record| {
            record.reserved = record.reserved.extended_to(needed, epoch_block_ms);
            record.promise(durable);
        })
        .await
    }

    /// Records that the metadata is durable up to `durable`, unless that is recorded already.
    pub async fn promise(&mut self, durable: Promised) -> Result<(), LeaseError> {
        if durable.is_kept_by(self.promised()) {
            return Ok(());
        }
        self.edit(|record| record.promise(durable)).await
    }

    pub fn promised(&self) -> Promised {
        self.record.promised.unwrap_or_default()
    }

    /// Records a backup location, whose snapshots may name files of this directory, and the manifest seen
    /// there.
    pub async fn note_backup_location(&mut self, noted: KnownLocation) -> Result<(), LeaseError> {
        let is_known = |known: &KnownLocation| {
            known.location == noted.location && known.manifest_id >= noted.manifest_id
        };
        if self.record.backup_locations.iter().any(is_known) {
            return Ok(());
        }
        self.edit(|record| {
            // The same location, perhaps with other credentials: the newest ones are kept.
            let same = |known: &KnownLocation| known.location.is_same_location(&noted.location);
            let seen = record.backup_locations.iter().filter(|k| same(k)).map(|k| k.manifest_id);
            let manifest_id = seen.fold(noted.manifest_id, u64::max);
            record.backup_locations.retain(|known| !same(known));
            record.backup_locations.insert(KnownLocation { manifest_id, ..noted.clone() });
        })
        .await
    }

    /// Removes a backup location. Snapshots there do not protect data files any more.
    pub async fn forget_backup_location(
        &mut self,
        location: &StorageLocation,
    ) -> Result<(), LeaseError> {
        self.edit(|record| {
            record.backup_locations.retain(|known| !known.location.is_same_location(location));
        })
        .await
    }

    pub fn watch(&self) -> LeaseWatch {
        self.watch.clone()
    }

    /// Changes the record, unless another server has taken the directory.
    async fn edit(&mut self, edit: impl Fn(&mut LeaseRecord)) -> Result<(), LeaseError> {
        loop {
            let mut record = self.record.clone();
            edit(&mut record);
            let LeaseWatch { storage, path, .. } = &self.watch;
            let swap = storage.replace(path, Some(&self.tag), record.to_bytes());
            match in_time(storage, path, swap).await {
                Ok(tag) => {
                    self.record = record;
                    self.tag = tag;
                    return Ok(());
                }
                Err(StorageError::Changed { .. }) => self.check().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Checks that the directory is still ours, and loads what is stored there: an earlier write of ours may
    /// have succeeded although it seemed to fail.
    pub async fn check(&mut self) -> Result<(), LeaseError> {
        (self.record, self.tag) = self.watch.look_tagged().await?;
        Ok(())
    }
}

impl LeaseWatch {
    /// Reads the lease; fails if the server no longer owns the directory.
    pub async fn look(&self) -> Result<LeaseRecord, LeaseError> {
        Ok(self.look_tagged().await?.0)
    }

    async fn look_tagged(&self) -> Result<(LeaseRecord, Tag), LeaseError> {
        let Self { storage, path, .. } = self;
        let Some((found, tag)) = read_tagged(storage, path).await? else {
            return Err(LeaseError::Gone { path: storage.name_of(path) });
        };
        if found.cluster_id != self.cluster_id {
            return Err(LeaseError::OtherCluster { cluster_id: found.cluster_id });
        }
        if found.incarnation != self.incarnation {
            return Err(LeaseError::Superseded { number: found.incarnation.number });
        }
        if found.generation != self.generation {
            return Err(LeaseError::Deposed { generation: found.generation });
        }
        Ok((found, tag))
    }
}

impl LeaseRecord {
    fn first(cluster_id: &str) -> Self {
        Self {
            format: FORMAT,
            cluster_id: cluster_id.to_owned(),
            generation: 1,
            leader: 0,
            reserved: Reserved::default(),
            incarnation: Incarnation::default(),
            begun_at: Reserved::default(),
            promised: None,
            backup_locations: BTreeSet::new(),
        }
    }

    fn promise(&mut self, durable: Promised) {
        self.promised = Some(self.promised.unwrap_or_default().max(durable));
    }

    fn to_bytes(&self) -> bytes::Bytes {
        let json = serde_json::to_vec(self).expect("plain data always has a JSON form");
        sealed("", &json).into()
    }

    /// Decodes the record; `path` is the object's name for errors.
    fn from_bytes(bytes: &[u8], path: String) -> Result<Self, LeaseError> {
        let seal = Unsealed::of(bytes);
        if seal.is_some_and(|seal| !seal.matches("")) {
            let reason = "it does not match its checksum".to_owned();
            return Err(LeaseError::Damaged { path, reason });
        }
        let record: Self = match serde_json::from_slice(bytes) {
            Ok(record) => record,
            Err(error) => {
                let reason = error.to_string();
                return Err(match seal {
                    Some(_) => LeaseError::Unreadable { path, reason },
                    None => LeaseError::Damaged { path, reason },
                });
            }
        };
        match record.format {
            FORMAT if seal.is_none() && record.promised.is_some() => {
                Err(LeaseError::Damaged { path, reason: "its checksum is missing".to_owned() })
            }
            FORMAT => Ok(record),
            found => {
                let reason = format!("it is of format {found}, this build reads format {FORMAT}");
                Err(LeaseError::Unreadable { path, reason })
            }
        }
    }
}

/// Reads the lease of a data directory; `None` if no server ever started there.
pub async fn read(storage: &Storage, data_dir: &str) -> Result<Option<LeaseRecord>, LeaseError> {
    let found = read_tagged(storage, &layout::lease(data_dir)).await?;
    Ok(found.map(|(record, _)| record))
}

async fn read_tagged(
    storage: &Storage,
    path: &Path,
) -> Result<Option<(LeaseRecord, Tag)>, LeaseError> {
    let read = in_time(storage, path, storage.read_tagged(path)).await?;
    let Some((bytes, tag)) = read else { return Ok(None) };
    let record = LeaseRecord::from_bytes(&bytes, storage.name_of(path))?;
    Ok(Some((record, tag)))
}

/// Applies the timeout. It is shorter than for data, since commits sometimes wait for the lease.
async fn in_time<T>(
    storage: &Storage,
    path: &Path,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    match within(PATIENCE, work).await {
        Some(outcome) => outcome,
        None => {
            let name = storage.name_of(path);
            let late = format!("no answer within {} seconds", PATIENCE.as_secs());
            Err(StorageError::io("reach", name, late))
        }
    }
}

#[cfg(test)]
mod tests;
