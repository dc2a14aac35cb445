//! Verifies snapshots at four levels, and records the results in the manifest.
//!
//! | level | checks that |
//! |---|---|
//! | `list` | the snapshot is listed and its object has the listed size |
//! | `meta` | every byte of it is as written, and it is all metadata of a cluster that could start |
//! | `objects` | every data file it names exists with its size |
//! | `checksum` | every byte of those files is as written |
//!
//! Each level includes those above it. A snapshot that could not be checked is not verified, and never
//! reported as good: [`Verdict::CouldNotVerify`] is not [`Verdict::Ok`].

mod examine;
mod files;
mod job;

pub use super::verification::{Check, CheckError, Level, Subset, Verdict, Verification, Verified};
pub use files::{Progress, SHOWN_MAX, checksums, sizes};
pub use job::verify;

use serde::{Deserialize, Serialize};

use super::{BackupError, ManifestEntry, OpenLocation, SnapshotReader};
use crate::id::SnapshotId;
use crate::layout;
use crate::meta_store::Pair;
use crate::state::State;
use crate::storage::StorageLocation;

/// The snapshots to check, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `None` for every listed snapshot.
    pub ids: Option<Vec<SnapshotId>>,
    pub check: Check,
    /// Check all of them again, even if a run over all of them was interrupted.
    #[serde(default)]
    pub restart: bool,
}

/// A progress report of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Begun {
        snapshots: u64,
        /// The start of the run that is continued, RFC 3339, UTC; `None` if no result of an earlier run is
        /// reused.
        resumed: Option<String>,
    },
    /// How many data files of a snapshot have been checked, and how many there are.
    Files { snapshot_id: SnapshotId, done: u64, total: u64 },
    /// The result of a snapshot, once it is recorded in the manifest.
    Verified(Verified),
}

/// The callback for events.
pub type Report<'a> = &'a (dyn Fn(Event) + Send + Sync);

/// Where the data files are checked. If there are copies, they are checked too.
#[derive(Clone, Copy, Debug)]
pub enum DataAt<'a> {
    /// In the location that the snapshot names, unless it has copies.
    Named,
    /// In this location.
    Location(&'a StorageLocation),
    /// In this location or else in the one that the snapshot names: it can be restored from either.
    LocationOrNamed(&'a StorageLocation),
}

/// The content of a listed snapshot, with every checksum verified.
#[derive(Debug)]
pub struct Whole {
    /// All pairs, including those unknown to this build.
    pub pairs: Vec<Pair>,
    /// The state of the pairs and the version.
    pub state: State,
}

/// Reads a listed snapshot, and verifies every checksum and the invariants of its version.
pub async fn read_whole(
    location: &OpenLocation,
    entry: &ManifestEntry,
) -> Result<Whole, BackupError> {
    let path = layout::snapshot(&location.directory, entry.info.id);
    let reader = SnapshotReader::open(&location.storage, &path, Some(entry)).await?;
    // Section by section first, so that the error says where the damage is.
    let pairs = reader.all_pairs().await?;
    let version = reader.version().await?;
    if !entry.sha256.is_empty() {
        reader.check_whole(&entry.sha256).await?;
    }
    let state = State::decode(&pairs, version)?;
    state.version.check()?;
    Ok(Whole { pairs, state })
}

#[cfg(test)]
mod tests;
