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

mod files;

pub use files::{Progress, SHOWN_MAX, checksums, objects_of, sizes};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::listing::Listing;
use super::manifest::{Manifest, ManifestEntry};
use super::{BackupError, OpenLocation, SnapshotReader};
use crate::hummock::HummockError;
use crate::id::{SnapshotId, SstId};
use crate::layout;
use crate::meta::error::chain;
use crate::meta::state::State;
use crate::meta::store::Pair;
use crate::storage::{StorageError, StorageLocation};

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    List,
    Meta,
    Objects,
    Checksum,
}

/// One of equal parts of the data files: the `part`-th of `parts`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subset {
    part: u64,
    parts: u64,
}

/// What to do to each snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub level: Level,
    pub subset: Subset,
}

/// The snapshots to look at, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// None: every one that is listed.
    pub ids: Option<Vec<SnapshotId>>,
    pub check: Check,
}

/// Where the data files are looked for; in the copies too, where there are some.
#[derive(Clone, Copy, Debug)]
pub enum DataAt<'a> {
    /// In the place the snapshot names, where it has no copies.
    Named,
    Place(&'a StorageLocation),
    /// In the place that the snapshot names, if they are not in this one: it can be restored then.
    PlaceOrNamed(&'a StorageLocation),
}

/// A snapshot that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub snapshot_id: SnapshotId,
    #[serde(flatten)]
    pub verification: Verification,
}

/// What came of it; kept in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// RFC 3339, UTC.
    pub verified_at: String,
    pub level: Level,
    /// The part of the data files that was looked at.
    pub coverage: Subset,
    pub result: Verdict,
    /// What is wrong, or why it cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    Damaged,
    CouldNotVerify,
}

/// A text that is no level or no subset.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error("there is no level \"{0}\": expected list, meta, objects or checksum")]
    Level(String),
    #[error(
        "\"{0}\" is no part of the data files: expected a part and how many there are, like 1/7"
    )]
    Subset(String),
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Meta => "meta",
            Self::Objects => "objects",
            Self::Checksum => "checksum",
        }
    }
}

impl FromStr for Level {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        let all = [Self::List, Self::Meta, Self::Objects, Self::Checksum];
        let found = all.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| CheckError::Level(text.to_owned()))
    }
}

impl Subset {
    pub const ALL: Self = Self { part: 1, parts: 1 };

    pub fn holds(self, sst: SstId) -> bool {
        sst.0 % self.parts == self.part - 1
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            Self { part, parts } => write!(f, "{part}/{parts}"),
        }
    }
}

impl FromStr for Subset {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        if text == "all" {
            return Ok(Self::ALL);
        }
        let numbers = text.split_once('/').and_then(|(part, parts)| {
            Some(Self { part: part.parse().ok()?, parts: parts.parse().ok()? })
        });
        let found = numbers.filter(|subset| (1..=subset.parts).contains(&subset.part));
        found.ok_or_else(|| CheckError::Subset(text.to_owned()))
    }
}

impl TryFrom<String> for Subset {
    type Error = CheckError;

    fn try_from(text: String) -> Result<Self, CheckError> {
        text.parse()
    }
}

impl From<Subset> for String {
    fn from(subset: Subset) -> Self {
        subset.to_string()
    }
}

impl Verification {
    /// Whether this is damage that the check which `later` came of would not see.
    pub fn outweighs(&self, later: &Self) -> bool {
        let sees_as_much = later.result == Verdict::Ok
            && later.level >= self.level
            && [Subset::ALL, self.coverage].contains(&later.coverage);
        self.result == Verdict::Damaged && later.result != Verdict::Damaged && !sees_as_much
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.result {
            Verdict::Ok => "ok",
            Verdict::Damaged => "damaged",
            Verdict::CouldNotVerify => "could not verify",
        })?;
        self.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

/// Why a check did not end well.
#[derive(Debug)]
enum Trouble {
    Damaged(BackupError),
    Unable(BackupError),
}

impl From<BackupError> for Trouble {
    fn from(error: BackupError) -> Self {
        match &error {
            BackupError::Damaged { .. }
            | BackupError::ObjectsMissing { .. }
            | BackupError::ObjectsDamaged { .. }
            | BackupError::State(_)
            | BackupError::Hummock(HummockError::Corrupt(_))
            | BackupError::Storage(StorageError::NotFound { .. } | StorageError::Mangled { .. }) => {
                Self::Damaged(error)
            }
            _ => Self::Unable(error),
        }
    }
}

/// Checks the snapshots that are asked for, one after another; nothing is looked at when one of them is
/// not listed. `now` is the time of each check.
pub async fn verify(
    location: &OpenLocation,
    request: &Request,
    data: DataAt<'_>,
    now: impl Fn() -> String,
    progress: Progress<'_>,
) -> Result<Vec<Verified>, BackupError> {
    let known = Manifest::read(location).await?.ids();
    let ids = request.ids.clone().unwrap_or_else(|| known.clone());
    let unknown: Vec<_> = ids.iter().copied().filter(|id| !known.contains(id)).collect();
    if !unknown.is_empty() {
        let location = location.to_string();
        return Err(BackupError::UnknownSnapshots { unknown, location, known });
    }
    let mut verified = vec![];
    for snapshot_id in ids {
        let found = verify_snapshot(location, snapshot_id, request.check, data, now(), progress);
        verified.push(Verified { snapshot_id, verification: found.await? });
    }
    Ok(verified)
}

/// Checks a listed snapshot and writes down in the manifest what came of it.
///
/// # Errors
/// [`BackupError::NotFound`] when it is not listed, and what keeps the manifest from being read.
async fn verify_snapshot(
    location: &OpenLocation,
    id: SnapshotId,
    check: Check,
    data: DataAt<'_>,
    verified_at: String,
    progress: Progress<'_>,
) -> Result<Verification, BackupError> {
    let manifest = Manifest::read(location).await?;
    let Some(entry) = manifest.entry(id) else {
        let (location, known) = (location.to_string(), manifest.ids());
        return Err(BackupError::NotFound { id, location, known });
    };
    let (result, detail) = match examine(location, entry, check, data, progress).await {
        Ok(()) => (Verdict::Ok, None),
        Err(Trouble::Damaged(error)) => (Verdict::Damaged, Some(chain(&error))),
        Err(Trouble::Unable(error)) => (Verdict::CouldNotVerify, Some(chain(&error))),
    };
    let Check { level, subset: coverage } = check;
    let verification = Verification { verified_at, level, coverage, result, detail };
    match Manifest::remember(location, entry, &verification).await {
        Ok(_) => {}
        Err(error @ BackupError::UnknownSnapshots { .. }) => return Err(error),
        // What was found stands, whether or not it can be written down.
        Err(error) => tracing::warn!(%error, snapshot = %id, "could not remember a verification"),
    }
    Ok(verification)
}

async fn examine(
    location: &OpenLocation,
    entry: &ManifestEntry,
    check: Check,
    data: DataAt<'_>,
    progress: Progress<'_>,
) -> Result<(), Trouble> {
    if check.level == Level::List {
        return Ok(check_size(location, entry).await?);
    }
    let Whole { state, .. } = read_whole(location, entry).await?;
    if check.level == Level::Meta {
        return Ok(());
    }
    let named = state.params.data_location();
    let copies = entry.info.copy_data.then(|| location.copies(&entry.info.life).place());
    match data {
        DataAt::Named if copies.is_some() => {}
        DataAt::Named => look_in(&named, &state, check, progress).await?,
        DataAt::Place(place) => look_in(place, &state, check, progress).await?,
        DataAt::PlaceOrNamed(place) => match look_in(place, &state, check, progress).await {
            // Of a cluster that was restored elsewhere, with the files of another snapshot.
            Err(Trouble::Damaged(_)) if *place != named => {
                look_in(&named, &state, check, progress).await?;
            }
            looked => looked?,
        },
    }
    match copies {
        Some(copies) => look_in(&copies, &state, check, progress).await,
        None => Ok(()),
    }
}

/// Whether the data files are in a place.
async fn look_in(
    place: &StorageLocation,
    state: &State,
    check: Check,
    progress: Progress<'_>,
) -> Result<(), Trouble> {
    // A place that is not there says nothing of the files that should be in it.
    let place = OpenLocation::open_existing(place).map_err(Trouble::Unable)?;
    let listed = Listing::of(&place).await?;
    sizes(&state.version, &listed, check.subset, progress)?;
    if check.level == Level::Checksum {
        checksums(&state.version, &place, check.subset, progress).await?;
    }
    Ok(())
}

async fn check_size(location: &OpenLocation, entry: &ManifestEntry) -> Result<(), BackupError> {
    let path = layout::snapshot(&location.directory, entry.info.id);
    let (found, listed) = (location.storage.size(&path).await?, entry.size_bytes);
    match listed {
        0 => Ok(()),
        listed if listed == found => Ok(()),
        listed => {
            let what = format!("it has {found} bytes, the manifest says {listed}");
            Err(BackupError::damaged(&location.storage.name_of(&path), what))
        }
    }
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
