//! `rw_meta_snapshot`: the meta snapshots of the backup location, asked for at each scan.

use chrono::DateTime;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::backup::manifest::ManifestEntry;
use crate::epoch::Epoch;
use crate::frontend::error::SqlError;
use crate::frontend::system_catalog::SystemContext;
use crate::frontend::system_catalog::cell::{Cell, Row};
use crate::frontend::system_catalog::relation::{RelationKind, Rows, SystemRelation};
use crate::frontend::system_catalog::types::SystemType;
use crate::meta::maintenance::SnapshotUsage;

pub(super) const RELATION: SystemRelation = SystemRelation {
    name: "rw_meta_snapshot",
    kind: RelationKind::Table,
    columns: &[
        ("meta_snapshot_id", SystemType::Int8),
        ("hummock_version_id", SystemType::Int8),
        ("safe_epoch", SystemType::Int8),
        ("safe_epoch_ts", SystemType::Timestamp),
        ("max_committed_epoch", SystemType::Int8),
        ("max_committed_epoch_ts", SystemType::Timestamp),
        ("remarks", SystemType::Varchar),
        ("state_table_info", SystemType::Jsonb),
        ("rw_version", SystemType::Varchar),
        ("created_at", SystemType::Timestamptz),
        ("size_bytes", SystemType::Int8),
        ("pinned_bytes", SystemType::Int8),
        ("exclusive_bytes", SystemType::Int8),
        ("copy_data", SystemType::Bool),
        ("verified_at", SystemType::Timestamptz),
        ("verify_level", SystemType::Varchar),
        ("verify_coverage", SystemType::Varchar),
        ("verify_result", SystemType::Varchar),
    ],
    rows: Rows::Fetched(snapshots),
};

/// The snapshots in the order of their creation, that is of their ids.
fn snapshots(context: &SystemContext) -> BoxFuture<'_, Result<Vec<Row>, SqlError>> {
    async move {
        let entries = context.meta.snapshots().await?;
        // Snapshots are listed even while it cannot be told what they hold.
        let usage = context.meta.usage().await.unwrap_or_default();
        let mut usage = usage.into_iter().map(Some).chain(std::iter::repeat(None));
        let mut listed: Vec<_> = entries.iter().zip(&mut usage).collect();
        listed.sort_by_key(|(entry, _)| entry.info.id);
        Ok(listed.into_iter().map(|(entry, usage)| row(entry, usage)).collect())
    }
    .boxed()
}

fn row(entry: &ManifestEntry, usage: Option<SnapshotUsage>) -> Row {
    let info = &entry.info;
    let verified = entry.verification.as_ref();
    vec![
        Cell::from(info.id.0),
        Cell::from(info.hummock_version_id.0),
        Cell::from(info.safe_epoch.as_u64()),
        Cell::from(epoch_micros(info.safe_epoch)),
        Cell::from(info.max_committed_epoch.as_u64()),
        Cell::from(epoch_micros(info.max_committed_epoch)),
        Cell::from(info.remarks.as_ref()),
        Cell::from(serde_json::to_string(&info.state_table_info).ok()),
        Cell::from(info.rw_version.as_ref()),
        Cell::from(time_micros(&info.created_at)),
        Cell::from(entry.size_bytes),
        Cell::from(usage.map(|usage| usage.pinned_bytes)),
        Cell::from(usage.map(|usage| usage.exclusive_bytes)),
        Cell::from(info.copy_data),
        Cell::from(verified.and_then(|v| time_micros(&v.verified_at))),
        Cell::from(verified.map(|v| v.level.name())),
        Cell::from(verified.map(|v| v.coverage.to_string())),
        Cell::from(verified.map(ToString::to_string)),
    ]
}

/// Null for epoch zero, which is before all time.
fn epoch_micros(epoch: Epoch) -> Option<i64> {
    epoch.timestamp().map(|time| time.and_utc().timestamp_micros())
}

fn time_micros(rfc3339: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(rfc3339).ok().map(|time| time.timestamp_micros())
}
