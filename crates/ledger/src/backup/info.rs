//! The descriptions of a snapshot: in its footer, and in the manifest that lists it.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::verification::Verification;
use crate::epoch::Epoch;
use crate::id::{SnapshotId, VersionId};
use crate::state::State;

/// The format of snapshots that this build writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// A snapshot, as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    #[serde(flatten)]
    pub info: SnapshotInfo,
    /// Size of the `.snapshot` object in bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// SHA-256 of the whole `.snapshot` object, in hex.
    #[serde(default)]
    pub sha256: String,
    /// The recorded result of verifying it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// The description of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    pub id: SnapshotId,
    pub hummock_version_id: VersionId,
    pub safe_epoch: Epoch,
    pub max_committed_epoch: Epoch,
    #[serde(default)]
    pub format_version: u32,
    #[serde(default)]
    pub remarks: Option<String>,
    /// The release that took it.
    #[serde(default)]
    pub rw_version: Option<String>,
    #[serde(default)]
    pub cluster_id: String,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub created_at: String,
    #[serde(default)]
    pub sst_count: u64,
    #[serde(default)]
    pub data_bytes: u64,
    /// Whether the backup directory has copies of the data files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy_data: bool,
    /// Id of the life of the cluster that took it; empty for the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
}

/// The full description of a snapshot, which its footer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDetail {
    #[serde(flatten)]
    pub info: SnapshotInfo,
    /// The tables alive at `max_committed_epoch`, by their id.
    #[serde(default)]
    pub state_table_info: Tables,
}

/// The tables of a snapshot, by table id as text.
pub type Tables = BTreeMap<String, TableInfo>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInfo {
    /// Serialized as text, since JSON numbers lose the low digits of an epoch.
    #[serde(rename = "committedEpoch", with = "epoch_text")]
    pub committed_epoch: Epoch,
    /// The name of the table, qualified by that of its schema.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub rows: u64,
}

/// An entry gives access to the description of its snapshot.
impl Deref for ManifestEntry {
    type Target = SnapshotInfo;

    fn deref(&self) -> &SnapshotInfo {
        &self.info
    }
}

impl SnapshotDetail {
    /// The description of a snapshot of `state`.
    pub fn of(state: &State, id: SnapshotId, remarks: Option<String>, created_at: String) -> Self {
        let info = SnapshotInfo::of(state, id, remarks, created_at);
        Self { info, state_table_info: tables_of(state) }
    }
}

impl SnapshotInfo {
    /// The description of a snapshot of `state`.
    pub(super) fn of(
        state: &State,
        id: SnapshotId,
        remarks: Option<String>,
        created_at: String,
    ) -> Self {
        let version = &state.version;
        Self {
            id,
            hummock_version_id: version.id,
            safe_epoch: version.safe_epoch,
            max_committed_epoch: version.max_committed_epoch,
            format_version: FORMAT,
            remarks,
            rw_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            cluster_id: state.cluster_id.clone(),
            created_at,
            sst_count: version.objects().count() as u64,
            data_bytes: version.objects().map(|sst| sst.size_bytes).sum(),
            copy_data: false,
            life: state.incarnation.id.clone(),
        }
    }
}

/// The tables alive at the newest epoch of a state.
pub fn tables_of(state: &State) -> Tables {
    let epoch = state.version.max_committed_epoch;
    let catalog = state.catalog.at(epoch);
    let tables = catalog.relations().filter(|relation| relation.as_table().is_some());
    let infos = tables.map(|table| {
        let info = TableInfo {
            committed_epoch: epoch,
            name: catalog.full_name(table),
            rows: state.version.rows_at(table.id, epoch),
        };
        (table.id.to_string(), info)
    });
    infos.collect()
}

impl ManifestEntry {
    /// Records a result, unless the damage that is recorded outweighs it.
    pub(super) fn note(&mut self, verification: &Verification) {
        let outweighs = |found: &Verification| found.outweighs(verification);
        if !self.verification.as_ref().is_some_and(outweighs) {
            self.verification = Some(verification.clone());
        }
    }
}

/// An epoch as a JSON text.
mod epoch_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::epoch::Epoch;

    pub fn serialize<S: Serializer>(epoch: &Epoch, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(epoch)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
