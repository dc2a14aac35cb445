//! `rw_meta_snapshot`: the meta snapshots of the backup location, asked for at each scan.

use std::collections::HashMap;

use chrono::DateTime;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::engine::meta::maintenance::SnapshotUsage;
use crate::ledger::backup;
use crate::ledger::backup::{ManifestEntry, Tables};
use crate::ledger::epoch::Epoch;
use crate::ledger::id::SnapshotId;
use crate::pg::error::SqlError;
use crate::pg::system_types::SystemType;
use crate::sql::system_catalog::SystemContext;
use crate::sql::system_catalog::cell::{Cell, Row};
use crate::sql::system_catalog::relation::{RelationKind, Rows, SystemRelation, Wanted};

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
fn snapshots(context: &SystemContext, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Row>, SqlError>> {
    async move {
        let entries = context.meta.snapshots().await?;
        let usage = usage(context, &wanted).await;
        let tables = tables(context, &entries, &wanted).await;
        let tables = tables.into_iter().chain(std::iter::repeat(None));
        let mut listed: Vec<_> = entries.iter().zip(tables).collect();
        listed.sort_by_key(|(entry, _)| entry.info.id);
        let rows = listed.into_iter().map(|(entry, tables)| {
            let usage = usage.get(&entry.info.id).copied();
            row(entry, usage, tables)
        });
        Ok(rows.collect())
    }
    .boxed()
}

/// What each snapshot pins. Snapshots are listed even while that cannot be told. By id: this listing is another
/// one, and a snapshot may have come or gone in between.
async fn usage(context: &SystemContext, wanted: &Wanted) -> HashMap<SnapshotId, SnapshotUsage> {
    let usage = match wanted.has("pinned_bytes") || wanted.has("exclusive_bytes") {
        true => context.meta.usage().await.unwrap_or_default(),
        false => vec![],
    };
    usage.into_iter().map(|usage| (usage.id, usage)).collect()
}

/// The tables of each snapshot, which are in the snapshot itself. Null where it cannot be read.
async fn tables(
    context: &SystemContext,
    entries: &[ManifestEntry],
    wanted: &Wanted,
) -> Vec<Option<Tables>> {
    match wanted.has("state_table_info") {
        true => {
            let location = context.params.backup_location();
            backup::tables_of_each(&location, entries).boxed().await
        }
        false => vec![],
    }
}

fn row(entry: &ManifestEntry, usage: Option<SnapshotUsage>, tables: Option<Tables>) -> Row {
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
        Cell::from(tables.and_then(|tables| serde_json::to_string(&tables).ok())),
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
