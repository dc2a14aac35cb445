//! `rw_meta_snapshot`: the meta snapshots of the backup location, fetched at each scan.

use std::collections::HashMap;

use chrono::DateTime;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::{Cell, Row};
use crate::system_catalog::relation::{RelationKind, Rows, SystemRelation, Wanted};
use tidemark_ledger::backup;
use tidemark_ledger::backup::ManifestEntry;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SnapshotId;
use tidemark_pg::error::SqlError;
use tidemark_pg::memory::Growing;
use tidemark_pg::types::SystemType;

pub(super) const RELATION: SystemRelation = SystemRelation {
    name: "rw_meta_snapshot",
    oid: 14003,
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

/// Returns the snapshots in the order of their creation, which is that of their ids.
fn snapshots(context: &SystemContext, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Row>, SqlError>> {
    async move {
        let listed = context.meta.snapshots().await?;
        let entries = listed.snapshot_metadata.iter();
        let mut entries: Vec<&ManifestEntry> = entries
            .filter(|entry| wanted.may_be("meta_snapshot_id", entry.info.id.0.cast_signed()))
            .collect();
        entries.sort_by_key(|entry| entry.info.id);
        let exclusive = exclusive_bytes(context, &wanted).await;
        let tables = tables(context, &entries, &wanted).await?;
        let tables = tables.into_iter().chain(std::iter::repeat(None));
        let rows = entries.iter().zip(tables).map(|(entry, tables)| {
            let exclusive = exclusive.get(&entry.info.id).copied();
            row(entry, exclusive, tables)
        });
        Ok(rows.collect())
    }
    .boxed()
}

/// Returns what deleting each snapshot would free, by id. Empty if that is unknown: snapshots are listed
/// anyway. This is a separate listing, so a snapshot may have been added or deleted in between.
async fn exclusive_bytes(context: &SystemContext, wanted: &Wanted) -> HashMap<SnapshotId, u64> {
    let usage = match wanted.has("exclusive_bytes") {
        true => context.meta.usage().await.unwrap_or_default(),
        false => vec![],
    };
    usage.into_iter().map(|usage| (usage.id, usage.exclusive_bytes)).collect()
}

/// Returns the tables of each snapshot as JSON, read from the snapshot itself. Null if it cannot be read.
///
/// # Errors
/// If the texts exceed the memory a statement may hold.
async fn tables(
    context: &SystemContext,
    entries: &[&ManifestEntry],
    wanted: &Wanted,
) -> Result<Vec<Option<String>>, SqlError> {
    if !wanted.has("state_table_info") {
        return Ok(vec![]);
    }
    let mut counted = Growing::new("state_table_info");
    let mut texts = vec![];
    let mut read = backup::tables_of_each(
        &context.params.backup_location(),
        entries.iter().copied().cloned().collect(),
    );
    while let Some(tables) = read.next().await {
        let text = tables.and_then(|tables| serde_json::to_string(&tables).ok());
        counted.add(text.as_ref().map_or(0, String::len)).map_err(|e| {
            e.hint("Name the columns that you need, or the snapshots: WHERE meta_snapshot_id = 7.")
        })?;
        texts.push(text);
    }
    Ok(texts)
}

fn row(entry: &ManifestEntry, exclusive_bytes: Option<u64>, tables: Option<String>) -> Row {
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
        Cell::from(tables),
        Cell::from(info.rw_version.as_ref()),
        Cell::from(time_micros(&info.created_at)),
        Cell::from(entry.size_bytes),
        Cell::from(info.data_bytes),
        Cell::from(exclusive_bytes),
        Cell::from(info.copy_data),
        Cell::from(verified.and_then(|v| time_micros(&v.verified_at))),
        Cell::from(verified.map(|v| v.level.name())),
        Cell::from(verified.map(|v| v.coverage.to_string())),
        Cell::from(verified.map(ToString::to_string)),
    ]
}

/// Returns null for epoch zero, which is before all time.
fn epoch_micros(epoch: Epoch) -> Option<i64> {
    epoch.timestamp().map(|time| time.and_utc().timestamp_micros())
}

fn time_micros(rfc3339: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(rfc3339).ok().map(|time| time.timestamp_micros())
}
