//! Verifying a snapshot, at four levels, and what is remembered of it.
//!
//! | level | makes sure that |
//! |---|---|
//! | `list` | the snapshot is listed and its object has the listed size |
//! | `meta` | every byte of it is as written, and it is all metadata of a cluster that could start |
//! | `objects` | every data file it names is there with its size |
//! | `checksum` | every byte of those is as written |
//!
//! Each level includes those above it. What could not be looked at was not verified, and is never said
//! to be well: [`Verdict::CouldNotVerify`] is not [`Verdict::Ok`].

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

/// The snapshots to look at, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// None: every one that is listed.
    pub ids: Option<Vec<SnapshotId>>,
    pub check: Check,
    /// Look at every one again, though a run over all of them was interrupted.
    #[serde(default)]
    pub restart: bool,
}

/// What a verification tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Begun {
        snapshots: u64,
        /// When the run began that this one goes on with; RFC 3339, UTC.
        resumed: Option<String>,
    },
    /// How many of the data files of a snapshot were looked at, and of how many.
    Files { snapshot_id: SnapshotId, done: u64, total: u64 },
    /// What was found, once it is written down.
    Verified(Verified),
}

/// Told of each event.
pub type Report<'a> = &'a (dyn Fn(Event) + Send + Sync);

/// Where the data files are looked for; in the copies too, where there are some.
#[derive(Clone, Copy, Debug)]
pub enum DataAt<'a> {
    /// In the place the snapshot names, where it has no copies.
    Named,
    Place(&'a StorageLocation),
    /// In the place that the snapshot names, if they are not in this one: it can be restored then.
    PlaceOrNamed(&'a StorageLocation),
}

/// A listed snapshot, with every checksum proven.
#[derive(Debug)]
pub struct Whole {
    /// All pairs, those among them that this build has no name for.
    pub pairs: Vec<Pair>,
    /// What they stand for, with the version.
    pub state: State,
}

pub async fn read_whole(
    location: &OpenLocation,
    entry: &ManifestEntry,
) -> Result<Whole, BackupError> {
    let path = layout::snapshot(&location.directory, entry.info.id);
    let reader = SnapshotReader::open(&location.storage, &path, Some(entry)).await?;
    // Section by section first: that says where the damage is.
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
