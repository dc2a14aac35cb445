//! Why a snapshot could not be taken, read, deleted or restored, and what to do about it.

use crate::error::HummockError;
use crate::id::SnapshotId;
use crate::lease::LeaseError;
use crate::meta_store::StoreError;
use crate::params::ParamError;
use crate::state::StateError;
use crate::storage::StorageError;

/// The error of a backup operation. Some messages are those of RisingWave, which scripts look for.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("snapshot id {id} not found")]
    NotFound { id: SnapshotId, location: String, known: Vec<SnapshotId> },
    #[error("meta snapshot {} not found", list(unknown))]
    UnknownSnapshots { unknown: Vec<SnapshotId>, location: String, known: Vec<SnapshotId> },
    #[error("meta snapshot {id} already exists in {location}")]
    Exists { id: SnapshotId, location: String },
    #[error("{location} is the backup directory of another cluster with id \"{cluster_id}\"")]
    OtherCluster { location: String, cluster_id: String },
    #[error("{location} has no manifest of meta snapshots")]
    NoManifest { location: String },
    #[error("the manifest of {location} is an older one, {found}, where {seen} was seen before")]
    OldManifest { location: String, found: u64, seen: u64 },
    #[error("another server has taken over the meta snapshots in {location}")]
    HeldByOther { location: String },
    #[error("{file} is damaged: {what}")]
    Damaged { file: String, what: String },
    #[error("{file} is of format {found}, this build reads format {read}")]
    Format { file: String, found: u32, read: u32 },
    #[error("could not encode {file}")]
    Encode {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is changed by others again and again")]
    Contended { file: String },
    /// The operation may or may not have been executed.
    #[error("it is not known whether this was done in {target}")]
    Unsure {
        target: String,
        #[source]
        source: Box<BackupError>,
    },
    #[error("Meta storage is not empty before being restored")]
    NotEmpty { store: String },
    #[error("storage_url mismatch: {snapshot} {given}")]
    UrlMismatch { snapshot: String, given: String },
    #[error("storage_directory mismatch: {snapshot} {given}")]
    DirectoryMismatch { snapshot: String, given: String },
    #[error("referenced objects not found in object store: {{{shown}}}, {count} in all")]
    ObjectsMissing { count: usize, shown: String },
    #[error("referenced objects are damaged: {{{shown}}}, {count} in all")]
    ObjectsDamaged { count: usize, shown: String },
    #[error("{location} has other files of the same names: {{{shown}}}, {count} in all")]
    ObjectsInTheWay { location: String, count: usize, shown: String },
    #[error(transparent)]
    Param(#[from] ParamError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Hummock(#[from] HummockError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { location, known, .. }
            | Self::UnknownSnapshots { location, known, .. } => {
                return Some(hint_known(location, known));
            }
            Self::NotEmpty { store } => {
                return Some(format!("{store} holds a cluster already: restore into a new store"));
            }
            Self::UrlMismatch { snapshot, .. } | Self::DirectoryMismatch { snapshot, .. } => {
                return Some(format!(
                    "the data of this snapshot is in {snapshot}: pass that, or \
                     --overwrite-hummock-storage-endpoint where its files were copied, or --copy-data to \
                     copy them"
                ));
            }
            Self::Lease(error) => return error.hint(),
            Self::Exists { .. } => "take the snapshot again: it gets the next id",
            Self::OtherCluster { .. } => {
                "give each cluster a backup_storage_directory of its own, and set it before \
                 backup_storage_url where both change; if that cluster is gone, and its snapshots are not \
                 needed, delete manifest.json there"
            }
            Self::NoManifest { .. } => {
                "see whether the right storage is mounted and whether this is the right directory; a \
                 cluster whose snapshots are lost goes on in another backup_storage_directory, and risectl \
                 meta forget-backup-location gives this one up"
            }
            Self::OldManifest { .. } => {
                "bring the newest manifest.json back; a cluster that has lost it goes on in another \
                 backup_storage_directory, and risectl meta forget-backup-location gives this one up"
            }
            Self::HeldByOther { .. } => {
                "give one of the two a backup_storage_directory of its own; ALTER SYSTEM SET \
                 backup_storage_directory to what it is takes the snapshots back"
            }
            Self::Damaged { .. } => "bring the file back from a copy, or use another snapshot",
            Self::Format { .. } => "use a newer release",
            Self::Unsure { .. } => "look whether it was, before you do it again",
            Self::Contended { .. } => "try again, and look for other servers that use this place",
            Self::ObjectsMissing { .. } | Self::ObjectsDamaged { .. } => {
                "bring the objects back from a copy of the data directory, or use another snapshot"
            }
            Self::ObjectsInTheWay { .. } => "choose a directory that no other cluster has used",
            Self::Storage(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
            Self::Hummock(_) | Self::State(_) | Self::Param(_) | Self::Encode { .. } => {
                return None;
            }
        };
        Some(hint.to_owned())
    }

    /// An operation on `target` that failed with `error`, but may have been executed.
    pub(super) fn unsure(target: impl Into<String>, error: Self) -> Self {
        Self::Unsure { target: target.into(), source: Box::new(error) }
    }

    pub(super) fn damaged(file: &str, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), what: what.into() }
    }
}

fn hint_known(location: &str, known: &[SnapshotId]) -> String {
    match known {
        [] => format!("there are no meta snapshots in {location}"),
        known => format!("the meta snapshots in {location} are {}", list(known)),
    }
}

fn list(ids: &[SnapshotId]) -> String {
    ids.iter().map(SnapshotId::to_string).collect::<Vec<_>>().join(", ")
}
