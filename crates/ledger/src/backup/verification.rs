//! The options and the results of a verification.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{SnapshotId, SstId};

/// How thoroughly a snapshot is checked.
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

/// The check of each snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub level: Level,
    pub subset: Subset,
}

/// A snapshot that was checked, and the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub snapshot_id: SnapshotId,
    #[serde(flatten)]
    pub verification: Verification,
}

/// The result of a check; stored in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// RFC 3339, UTC.
    pub verified_at: String,
    pub level: Level,
    /// The part of the data files that was checked.
    pub coverage: Subset,
    pub result: Verdict,
    /// The damage, or why the snapshot could not be verified.
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

/// Why a text is not a level or a subset.
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
    /// Whether this is damage that the check behind `later` would not have found.
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
