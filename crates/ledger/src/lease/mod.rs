//! Who owns the data directory, and which numbers may have been used in it.
//!
//! The object `lease.json` in the data directory:
//!
//! | field | meaning |
//! |---|---|
//! | `format` | 1 |
//! | `cluster_id` | the cluster whose data this is; no other may start here |
//! | `generation` | rises whenever a server takes the directory; the one before is deposed |
//! | `leader` | when its server began to lead, as its meta store counts; absent where that has no leaders |
//! | `reserved` | exclusive upper bounds: every number below may have been used, none above |
//! | `incarnation` | which life of the cluster has it: `{"number":…,"id":…}`; absent in the first |
//! | `begun_at` | what was reserved when this life first took the directory; absent in the first |
//! | `promised` | `{"revision":…,"epoch":…}`: the metadata is durable up to here, so a meta store of this life that ends before has lost commits |
//! | `backup_locations` | where snapshots of this data may be: `[{"url":…,"directory":…}]`, with `"manifest_id"`, that of the newest manifest seen there, where there was one |
//! | `sha256` | of all before it, closed with a brace; always last. Only a lease without `promised`, as older builds wrote it, may lack it |
//!
//! A restore begins a new life. From when its server first takes the directory, no server of an earlier
//! life starts here any more: it would write beside it, and delete its files. Whatever the life before may
//! have used is below `begun_at`, and every server of the new one goes on above it.
//!
//! It only ever changes by compare-and-swap, so two servers cannot both own the directory, and a
//! restored cluster that starts at the reserved numbers uses none of them twice. The test reads
//! `tests/fixtures/lease-v1.json`; `UPDATE_FIXTURES=1` writes it anew.

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

/// How far a reservation goes past what is needed: the price of a write, and of a gap.
const OBJECT_BLOCK: u32 = 100;
const SST_BLOCK: u64 = 10_000;
const VERSION_BLOCK: u64 = 10_000;
const EPOCH_BLOCK_MS: u64 = 10_000;
/// How long the storage of the lease may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `lease.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub format: u32,
    pub cluster_id: String,
    pub generation: u64,
    /// What `MetaStore::lead` returned: of two servers of one life, the one that led
    /// first never takes the directory from the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leader: u64,
    pub reserved: Reserved,
    #[serde(default, skip_serializing_if = "Incarnation::is_first")]
    pub incarnation: Incarnation,
    #[serde(default, skip_serializing_if = "Reserved::is_nothing")]
    pub begun_at: Reserved,
    /// What is durable in the meta store of this life; absent in a lease that an older build wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<Promised>,
    /// Every place whose snapshots may name files of this directory. Kept here, so that no restore
    /// forgets one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub backup_locations: BTreeSet<KnownLocation>,
}

/// A place where snapshots may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnownLocation {
    #[serde(flatten)]
    pub location: StorageLocation,
    /// That of the newest manifest seen there; zero where there was none. Where it is gone, so may a
    /// mounted file system be; and an older one has forgotten snapshots.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub manifest_id: u64,
}

/// A life of a cluster. Each restore begins one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Greater than that of every life it may have come from.
    pub number: u64,
    /// Tells apart two lives that were begun from the same one.
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

/// Exclusive upper bounds of what may have been used.
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
    /// That of the newest change.
    pub revision: u64,
    /// That of the newest commit.
    pub epoch: Epoch,
}

impl Promised {
    /// The later of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let revision = self.revision.max(other.revision);
        Self { revision, epoch: self.epoch.max(other.epoch) }
    }

    /// Whether metadata that ends at `end` has all that was promised.
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

/// Looks whether the directory is still a server's, beside that server.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    storage: Storage,
    path: Path,
    cluster_id: String,
    incarnation: Incarnation,
    generation: u64,
}

/// Why the data directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("data directory is already used by another cluster with id \"{cluster_id}\"")]
    OtherCluster { cluster_id: String },
    #[error("this server lost the data directory to generation {generation}")]
    Deposed { generation: u64 },
    #[error("this cluster was restored into another meta store, which has the data directory now")]
    Superseded { number: u64 },
    /// The meta store lacks what the lease says was durable in it.
    #[error("the meta store ends at revision {}, but {} was promised", found.revision, promised.revision)]
    Behind { promised: Promised, found: Promised },
    #[error("this server lost the data directory: {path} is gone")]
    Gone { path: String },
    /// It is whole, and of a release that is not known here.
    #[error("{path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LeaseError {
    /// The way out.
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
            // A start takes a directory without a lease, since a copy of a data directory may lack it.
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

    /// The greater bound of each.
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

    /// Half a block further, but for snapshots: these bounds are worth having before they are needed.
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
        // Snapshots are few, and users count them: no block of theirs is skipped.
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
    /// Takes the data directory for a life of a cluster; whoever had it before is deposed.
    ///
    /// # Errors
    /// [`LeaseError::Superseded`] when a later life of the cluster, or another of the same age, has it;
    /// [`LeaseError::Behind`] when more was promised in this life than the metadata has, which ends at
    /// `end`.
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
                // Somebody else is starting too: each try sees a greater generation.
                Err(StorageError::Changed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn generation(&self) -> u64 {
        self.record.generation
    }

    /// Bounds of what lives of the cluster before this one may have used, and this one must not.
    pub fn begun_at(&self) -> Reserved {
        self.record.begun_at
    }

    /// Every number below these may be used by this server.
    pub fn reserved(&self) -> Reserved {
        self.record.reserved
    }

    /// Makes sure that all numbers below `needed` are reserved. Writes only when they are not yet, and then
    /// also that the metadata is durable up to `durable`.
    ///
    /// # Errors
    /// [`LeaseError::Deposed`] when another server took the directory: this one must stop.
    pub async fn reserve(&mut self, needed: Reserved, durable: Promised) -> Result<(), LeaseError> {
        self.reserve_block(needed, durable, EPOCH_BLOCK_MS).await
    }

    /// The same, with another block of epochs past what is needed.
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

    /// Writes down that the metadata is durable up to `durable`, unless that is known.
    pub async fn promise(&mut self, durable: Promised) -> Result<(), LeaseError> {
        if durable.is_kept_by(self.promised()) {
            return Ok(());
        }
        self.edit(|record| record.promise(durable)).await
    }

    pub fn promised(&self) -> Promised {
        self.record.promised.unwrap_or_default()
    }

    /// Notes where snapshots may be that name files of this directory, and the manifest seen there.
    pub async fn note_backup_location(&mut self, noted: KnownLocation) -> Result<(), LeaseError> {
        let is_known = |known: &KnownLocation| {
            known.location == noted.location && known.manifest_id >= noted.manifest_id
        };
        if self.record.backup_locations.iter().any(is_known) {
            return Ok(());
        }
        self.edit(|record| {
            // The same place under other credentials: the newest hold.
            let same = |known: &KnownLocation| known.location.is_same_place(&noted.location);
            let seen = record.backup_locations.iter().filter(|k| same(k)).map(|k| k.manifest_id);
            let manifest_id = seen.fold(noted.manifest_id, u64::max);
            record.backup_locations.retain(|known| !same(known));
            record.backup_locations.insert(KnownLocation { manifest_id, ..noted.clone() });
        })
        .await
    }

    /// From now on, snapshots in that place hold nothing.
    pub async fn forget_backup_location(
        &mut self,
        location: &StorageLocation,
    ) -> Result<(), LeaseError> {
        self.edit(|record| {
            record.backup_locations.retain(|known| !known.location.is_same_place(location));
        })
        .await
    }

    pub fn watch(&self) -> LeaseWatch {
        self.watch.clone()
    }

    /// Changes the record, unless somebody else has taken the directory.
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

    /// Makes sure that the directory is still ours, and takes up what an earlier write of ours
    /// left there that did not seem to succeed.
    pub async fn check(&mut self) -> Result<(), LeaseError> {
        (self.record, self.tag) = self.watch.look_tagged().await?;
        Ok(())
    }
}

impl LeaseWatch {
    /// What the lease says, as long as the directory is the server's.
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

    /// The record that was read from the object of this name.
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

/// What the lease of a data directory says; `None` where no server ever started.
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

/// Commits wait for the lease now and then, so it is not waited for as long as for data.
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
