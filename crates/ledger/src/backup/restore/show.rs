//! The text form of a plan, which `--dry-run` prints.

use std::fmt;

use chrono::DateTime;

use super::{Copy, Plan};
use crate::backup::{SnapshotInfo, TableInfo};
use crate::epoch::Epoch;
use crate::storage_url::mask;

/// Number of tables that are named; the others are only counted.
const TABLES_MAX: usize = 20;
const LABEL_WIDTH: usize = 22;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = &self.entry.info;
        let mut row = |label: &str, value: String| writeln!(f, "{label:<LABEL_WIDTH$}{value}");
        row("snapshot", format!("{} in {}", info.id, self.request.backup))?;
        row("taken at", self.taken(info))?;
        row("remarks", info.remarks.clone().unwrap_or_else(|| "-".to_owned()))?;
        row("size", bytes(self.entry.size_bytes))?;
        row("cluster", info.cluster_id.clone())?;
        row("release", info.rw_version.clone().unwrap_or_else(|| "-".to_owned()))?;
        row("safe epoch", epoch(info.safe_epoch))?;
        row("max committed epoch", epoch(info.max_committed_epoch))?;
        let tables: Vec<_> = self.tables.values().collect();
        row("tables", format!("{} with {} rows", tables.len(), rows(&tables)))?;
        for table in tables.iter().take(TABLES_MAX) {
            row("", format!("{} ({} rows)", table.name, table.rows))?;
        }
        if tables.len() > TABLES_MAX {
            row("", format!("and {} more", tables.len() - TABLES_MAX))?;
        }
        let (files, size) = (info.sst_count, bytes(info.data_bytes));
        row("data files", format!("{files} with {size} in {}", self.request.hummock))?;
        self.show_copy(f)?;
        let mut row = |label: &str, value: String| writeln!(f, "{label:<LABEL_WIDTH$}{value}");
        row("will be lost", self.lost(info))?;
        for line in self.loss.lines() {
            row("", line)?;
        }
        row("newest snapshot there", self.newest_there())?;
        for (name, value) in &self.overwritten {
            row("parameter", format!("{name} becomes {}", mask(value)))?;
        }
        if self.shares_backups() {
            let shared = "it takes over the snapshots there. Should the old cluster go on, give this one \
                          --overwrite-backup-storage-directory";
            row("backup location", shared.to_owned())?;
        }
        row("target", self.target.to_string())?;
        let (ids, version) = (&self.ids, self.version.id);
        row(
            "ids continue at",
            format!(
                "object {}, data file {}, version {version}, snapshot {}",
                ids.object, ids.sst, ids.snapshot
            ),
        )
    }
}

impl Plan {
    /// Whether the data is at another location, but the snapshots are at that of the old cluster.
    fn shares_backups(&self) -> bool {
        let overwrite = &self.request.overwrite;
        let moves = overwrite.hummock || self.request.copy_data;
        moves && overwrite.backup_url.is_none() && overwrite.backup_directory.is_none()
    }

    fn show_copy(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Copy { from, files }) = &self.copy else { return Ok(()) };
        let (count, size) = (files.missing.len(), bytes(files.missing_bytes));
        let there = files.there;
        let label = "to be copied";
        writeln!(f, "{label:<LABEL_WIDTH$}{count} with {size} from {from}, {there} are there")
    }

    fn taken(&self, info: &SnapshotInfo) -> String {
        let taken = DateTime::parse_from_rfc3339(&info.created_at);
        match taken.map(|time| u64::try_from(time.timestamp_millis())) {
            Ok(Ok(ms)) => format!("{} ({})", info.created_at, self.age(ms)),
            _ if info.created_at.is_empty() => "-".to_owned(),
            _ => info.created_at.clone(),
        }
    }

    fn lost(&self, info: &SnapshotInfo) -> String {
        let Some(time) = info.max_committed_epoch.timestamp() else {
            return "everything written since".to_owned();
        };
        let time = time.format("%Y-%m-%d %H:%M:%S%.3f");
        format!(
            "what was written after {time} UTC ({})",
            self.age(info.max_committed_epoch.unix_ms())
        )
    }

    fn newest_there(&self) -> String {
        let newest = &self.newest.info;
        if newest.id == self.entry.info.id {
            return "this one".to_owned();
        }
        format!("{}, taken at {}", newest.id, self.taken(newest))
    }

    fn age(&self, unix_ms: u64) -> String {
        match self.request.now_ms.checked_sub(unix_ms) {
            Some(ms) => format!("{} ago", duration(ms)),
            None => format!("{} ahead of this clock", duration(unix_ms - self.request.now_ms)),
        }
    }
}

fn rows(tables: &[&TableInfo]) -> u64 {
    tables.iter().map(|table| table.rows).sum()
}

pub(super) fn epoch(epoch: Epoch) -> String {
    match epoch.timestamp() {
        Some(time) => format!("{epoch} ({} UTC)", time.format("%Y-%m-%d %H:%M:%S%.3f")),
        None => epoch.to_string(),
    }
}

/// A duration in its two largest units.
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A size in the largest unit of which there is at least one.
pub(super) fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = None;
    let mut tenths = u128::from(count) * 10;
    for name in units {
        if tenths < 10_000 {
            break;
        }
        tenths /= 1000;
        unit = Some(name);
    }
    match unit {
        None => format!("{count} B"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(duration(61_500), "1 min 1 s");
        assert_eq!(duration(3_600_000 * 49), "2 d 1 h");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(12_345), "12.3 kB");
        assert_eq!(bytes(7_000_000_000), "7.0 GB");
    }
}
