//! The keys of the meta store.
//!
//! The first component of a key names the snapshot section that its pair is written to.

use crate::epoch::Epoch;
use crate::id::{ObjectId, VersionId};

pub const FORMAT: &str = "meta/format";
pub const CLUSTER_ID: &str = "meta/cluster_id";
pub const REVISION: &str = "meta/revision";
pub const NEXT_IDS: &str = "meta/next_ids";
/// The life of the cluster; absent in the first one.
pub const INCARNATION: &str = "meta/incarnation";
/// No epoch at or below this one may be used again; set by a restore.
pub const EPOCH_FLOOR: &str = "meta/epoch_floor";
pub const SCHEMA_PREFIX: &str = "catalog/schema/";
pub const RELATION_PREFIX: &str = "catalog/relation/";
pub const PARAM_PREFIX: &str = "param/";
/// Accepted losses of acknowledged commits, by the number of the life that began with each.
pub const LOSS_PREFIX: &str = "loss/";
/// Points to the newest checkpoint of the version.
pub const VERSION_CHECKPOINT: &str = "version/checkpoint";
pub const VERSION_DELTA_PREFIX: &str = "version/delta/";
/// The checksum over all other pairs.
pub const SEAL: &str = "version/seal";
/// All pairs of the version; a snapshot stores them in another form.
pub const VERSION_PREFIX: &str = "version/";

pub fn schema(id: ObjectId, born: Epoch) -> String {
    format!("{SCHEMA_PREFIX}{id:010}/{:020}", born.as_u64(), id = id.0)
}

pub fn relation(id: ObjectId, born: Epoch) -> String {
    format!("{RELATION_PREFIX}{id:010}/{:020}", born.as_u64(), id = id.0)
}

pub fn param(name: &str) -> String {
    format!("{PARAM_PREFIX}{name}")
}

pub fn loss(life: u64) -> String {
    format!("{LOSS_PREFIX}{life:020}")
}

pub fn version_delta(id: VersionId) -> String {
    format!("{VERSION_DELTA_PREFIX}{:020}", id.0)
}
