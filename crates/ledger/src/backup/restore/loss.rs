//! Estimates what a restore would lose, without the lost meta store: from the newest checkpoint and the files
//! in the data directory, and from the newest snapshot.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;
use serde::Serialize;

use super::show;
use crate::backup::detail::read_tables;
use crate::backup::listing::{ListedCheckpoint, Listing};
use crate::backup::{BackupError, ManifestEntry, OpenLocation, TableInfo, Tables};
use crate::checkpoint;
use crate::epoch::{Epoch, rfc3339};
use crate::id::ObjectId;
use crate::state::State;
use crate::version::Version;

/// Number of checkpoints that are tried, newest first.
const CHECKPOINTS_MAX: usize = 3;
/// A larger checkpoint is read only if nothing but the plan is requested.
const QUICK_BYTES_MAX: u64 = 16 << 20;

/// What was committed after the snapshot.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Loss {
    /// The newest commit that is known; `None` if none after the snapshot is.
    pub newest: Option<NewestCommit>,
    /// The tables whose row count is different at that commit, or that were created since.
    pub tables: Vec<TableLoss>,
    pub unnamed_files: UnnamedFiles,
    /// Checkpoints and snapshots that could not be read, and why.
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NewestCommit {
    pub epoch: Epoch,
    /// How it is known.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableLoss {
    pub name: String,
    /// Rows in the snapshot; `None` for a table that was created since.
    pub rows_restored: Option<u64>,
    /// Rows at the newest commit known.
    pub rows_newest: u64,
}

/// Data files in the data directory that the snapshot does not name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UnnamedFiles {
    pub count: u64,
    pub bytes: u64,
    /// RFC 3339, UTC.
    pub last_written_at: Option<String>,
}

/// A commit after the snapshot: its epoch, and the row count of each table then.
struct Later {
    newest: NewestCommit,
    /// `None` if they cannot be read.
    rows: Option<BTreeMap<ObjectId, u64>>,
}

/// The sources of what is known about the loss.
pub(super) struct LossSources<'a> {
    /// The data directory of the lost cluster, where it can be reached.
    pub data: Option<(&'a OpenLocation, &'a Listing)>,
    /// The backup location.
    pub backup: &'a OpenLocation,
    pub entry: &'a ManifestEntry,
    pub newest: &'a ManifestEntry,
    /// Whether nothing but the plan is requested, so that it may take longer.
    pub thorough: bool,
}

/// Estimates the loss. What cannot be read is reported in the result, and is no error.
pub(super) async fn estimate(state: &State, traces: &LossSources<'_>) -> Loss {
    let mut loss = Loss::default();
    let names = tables_of_newest(traces, &mut loss.unread).await;
    let mut later = by_snapshot(traces.entry, traces.newest, names.as_ref());
    let names = names.unwrap_or_default();
    if let Some((location, listed)) = traces.data {
        loss.unnamed_files = unnamed_files(&state.version, listed);
        let found = by_checkpoint(state, location, listed, traces, &mut loss.unread).await;
        let is_newer = |found: &Later| {
            later.as_ref().is_none_or(|known| found.newest.epoch > known.newest.epoch)
        };
        later = found.filter(is_newer).or(later);
    }
    if let Some(later) = later {
        let rows = later.rows.as_ref();
        loss.tables = rows.map(|rows| tables(state, rows, &names)).unwrap_or_default();
        loss.newest = Some(later.newest);
    }
    loss
}

/// The tables of the snapshot taken last; `None` if it is the one to restore or cannot be read.
async fn tables_of_newest(traces: &LossSources<'_>, unread: &mut Vec<String>) -> Option<Tables> {
    let LossSources { backup, entry, newest, .. } = *traces;
    if newest.info.id == entry.info.id {
        return None;
    }
    match read_tables(backup, newest).await {
        Ok(tables) => Some(tables),
        Err(error) => {
            unread.push(format!("meta snapshot {} ({})", newest.info.id, reason(error)));
            None
        }
    }
}

fn by_snapshot(
    entry: &ManifestEntry,
    newest: &ManifestEntry,
    tables: Option<&Tables>,
) -> Option<Later> {
    let epoch = newest.info.max_committed_epoch;
    if epoch <= entry.info.max_committed_epoch {
        return None;
    }
    let row_count =
        |(id, table): (&String, &TableInfo)| Some((ObjectId(id.parse().ok()?), table.rows));
    let rows = tables.map(|tables| tables.iter().filter_map(row_count).collect());
    let source = format!("meta snapshot {}", newest.info.id);
    Some(Later { newest: NewestCommit { epoch, source }, rows })
}

/// The newest checkpoint that can be read and is later than the snapshot.
async fn by_checkpoint(
    state: &State,
    location: &OpenLocation,
    listed: &Listing,
    traces: &LossSources<'_>,
    unread: &mut Vec<String>,
) -> Option<Later> {
    let later = listed.checkpoints.iter().filter(|found| found.version_id > state.version.id);
    for found in later.take(CHECKPOINTS_MAX) {
        let ListedCheckpoint { path, size_bytes, .. } = found;
        if *size_bytes > QUICK_BYTES_MAX && !traces.thorough {
            unread.push(format!("{path} (large: --dry-run reads it)"));
            return None;
        }
        match checkpoint::read_unproven(&location.storage, path).await {
            Ok(version) if version.max_committed_epoch > state.version.max_committed_epoch => {
                let epoch = version.max_committed_epoch;
                let rows = version.table_ids().map(|id| (id, version.rows_at(id, epoch)));
                let newest = NewestCommit { epoch, source: format!("checkpoint {path}") };
                return Some(Later { newest, rows: Some(rows.collect()) });
            }
            Ok(_) => return None,
            Err(error) => unread.push(format!("{path} ({})", reason(error.into()))),
        }
    }
    None
}

fn reason(error: BackupError) -> String {
    crate::meta_error::chain(&error)
}

/// The tables whose row counts differ. A table without files has no rows.
fn tables(state: &State, rows: &BTreeMap<ObjectId, u64>, names: &Tables) -> Vec<TableLoss> {
    let epoch = state.version.max_committed_epoch;
    let catalog = state.catalog.at(epoch);
    let restored = catalog.relations().filter(|relation| relation.as_table().is_some());
    let restored: BTreeMap<_, _> = restored.map(|table| (table.id, table)).collect();
    let mut found = vec![];
    for (id, table) in &restored {
        let (then, newest) = (state.version.rows_at(*id, epoch), rows.get(id).copied());
        if then != newest.unwrap_or_default() {
            found.push(TableLoss {
                name: catalog.full_name(table),
                rows_restored: Some(then),
                rows_newest: newest.unwrap_or_default(),
            });
        }
    }
    // Leaves out tables that were dropped before the snapshot, which have files without rows.
    let made_since = |id: &ObjectId| *id >= state.next.object;
    for (id, rows_newest) in rows.iter().filter(|(id, _)| made_since(id)) {
        let name = names.get(&id.to_string()).map(|table| table.name.clone());
        let name = name.unwrap_or_else(|| format!("table {id}"));
        found.push(TableLoss { name, rows_restored: None, rows_newest: *rows_newest });
    }
    found
}

fn unnamed_files(version: &Version, listed: &Listing) -> UnnamedFiles {
    let named: RoaringTreemap = version.objects().map(|sst| sst.id.0).collect();
    let unnamed = listed.files.iter().filter(|(sst, _)| !named.contains(sst.0));
    let mut found = UnnamedFiles::default();
    let mut last_ms = 0;
    for (_, file) in unnamed {
        found.count += 1;
        found.bytes += file.size_bytes;
        last_ms = last_ms.max(file.modified_ms);
    }
    found.last_written_at = (found.count > 0).then(|| rfc3339(last_ms));
    found
}

impl Loss {
    /// One line for each finding.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.newest {
            Some(newest) => {
                format!(
                    "newest commit known: epoch {}, by {}",
                    show::epoch(newest.epoch),
                    newest.source
                )
            }
            None => "no later commit is known".to_owned(),
        }];
        lines.extend(self.tables.iter().map(TableLoss::line));
        if let UnnamedFiles { count: count @ 1.., bytes, last_written_at } = &self.unnamed_files {
            let (size, last) = (show::bytes(*bytes), last_written_at.as_deref().unwrap_or("-"));
            lines.push(format!(
                "{count} data files with {size} that it does not name, last written {last}"
            ));
        }
        lines.extend(self.unread.iter().map(|checkpoint| format!("not read: {checkpoint}")));
        lines.push("the lost meta store may have known of more".to_owned());
        lines
    }
}

impl TableLoss {
    fn line(&self) -> String {
        let Self { name, rows_newest, .. } = self;
        match self.rows_restored {
            None => format!("{name}: made since, with {rows_newest} rows"),
            Some(then) if then <= *rows_newest => {
                format!("{name}: {then} of {rows_newest} rows stay, {} go", rows_newest - then)
            }
            Some(then) => {
                format!(
                    "{name}: {then} rows instead of {rows_newest}, {} come back",
                    then - rows_newest
                )
            }
        }
    }
}
