//! Finds the view of an epoch: the newest one, and past ones that a meta snapshot covers. Caches snapshots.

use std::sync::{Arc, Mutex, PoisonError};

use super::read_view::ReadView;
use tidemark_engine::meta::command::SnapshotKey;
use tidemark_engine::worker::Worker;
use tidemark_ledger::backup::snapshot::SnapshotReader;
use tidemark_ledger::backup::{BackupError, ManifestEntry, OpenLocation};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::ErrorKind;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::params::Params;
use tidemark_ledger::state::State;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Snapshots kept in memory after their last session has ended.
const CACHED_MAX: usize = 4;
/// Number of valid ranges named in a hint.
const RANGES_SHOWN: usize = 3;

/// All views that statements can read.
#[derive(Debug)]
pub struct Views {
    worker: Arc<Worker>,
    snapshots: SnapshotCache,
}

/// Recently read snapshots, the last used one at the end. The checksum distinguishes snapshots with the same
/// id in different backup locations.
#[derive(Debug, Default)]
struct SnapshotCache(Mutex<Vec<(CacheKey, Arc<State>)>>);

type CacheKey = (SnapshotId, String);

impl Views {
    pub fn new(worker: Arc<Worker>) -> Self {
        Self { worker, snapshots: SnapshotCache::default() }
    }

    /// The newest view, with a pin on what it needs.
    pub fn latest(&self) -> ReadView {
        let (state, pin) = self.worker.pins.latest(&self.worker.replica);
        ReadView { pin: Some(pin), ..ReadView::latest(&state) }
    }

    /// The view of a past epoch. The snapshot that covers it is pinned before it is read. Fails with 22023 if
    /// none does.
    pub async fn at(&self, epoch: Epoch) -> Result<ReadView, SqlError> {
        let worker = &self.worker;
        loop {
            let snapshots = worker.client.list_snapshots().await?;
            let entry = holding(epoch, &snapshots.snapshot_metadata)?;
            let key = SnapshotKey { id: entry.id, sha256: entry.sha256.clone() };
            let pin = worker.pins.snapshot(key);
            match worker.report().await {
                // It was deleted after the listing: another snapshot may cover the epoch too.
                Err(RpcError::Refused(refused)) if refused.kind == ErrorKind::UndefinedSnapshot => {
                }
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    let params = Arc::clone(&worker.replica.state().params);
                    let state = self.snapshots.state(entry, &params).await?;
                    return Ok(ReadView { pin: Some(pin), ..ReadView::of(&state, epoch) });
                }
            }
        }
    }
}

fn holding(epoch: Epoch, snapshots: &[ManifestEntry]) -> Result<&ManifestEntry, SqlError> {
    let holds = |s: &&ManifestEntry| s.safe_epoch <= epoch && epoch <= s.max_committed_epoch;
    snapshots.iter().find(holds).ok_or_else(|| not_found(epoch, snapshots))
}

impl SnapshotCache {
    /// Returns the part of a snapshot that queries need, from the cache or storage.
    async fn state(&self, entry: &ManifestEntry, params: &Params) -> Result<Arc<State>, SqlError> {
        let key = (entry.id, entry.sha256.clone());
        if let Some(state) = self.lookup(&key) {
            return Ok(state);
        }
        let state = load(entry, params).await.map_err(|error| {
            let id = entry.id;
            let cause = tidemark_ledger::meta_error::chain(&error);
            let read = SqlError::new(
                SqlState::IO_ERROR,
                format!("failed to get meta snapshot {id}: {cause}"),
            );
            match error.hint() {
                Some(hint) => read.hint(hint),
                None => read,
            }
        })?;
        let state = Arc::new(state);
        self.keep(key, Arc::clone(&state));
        Ok(state)
    }

    fn lookup(&self, key: &CacheKey) -> Option<Arc<State>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| known == key)?;
        let used = kept.remove(found);
        let state = Arc::clone(&used.1);
        kept.push(used);
        Some(state)
    }

    fn keep(&self, key: CacheKey, state: Arc<State>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= CACHED_MAX {
            kept.remove(0);
        }
        kept.push((key, state));
    }
}

/// Reads the part of a snapshot that queries need.
async fn load(entry: &ManifestEntry, params: &Params) -> Result<State, BackupError> {
    let location = OpenLocation::open(&params.backup_location())?;
    let path = tidemark_ledger::layout::snapshot(&location.directory, entry.id);
    let reader = SnapshotReader::open(&location.storage, &path, Some(entry)).await?;
    reader.state().await
}

fn not_found(epoch: Epoch, snapshots: &[ManifestEntry]) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("Read backup error: backup include epoch {epoch} not found"),
    )
    .detail("An epoch can be read if a meta snapshot holds it.")
    .hint(nearest_ranges(epoch, snapshots))
}

/// Names the readable epoch ranges, nearest first.
fn nearest_ranges(epoch: Epoch, snapshots: &[ManifestEntry]) -> String {
    if snapshots.is_empty() {
        return "There is no meta snapshot yet; BACKUP takes one.".to_owned();
    }
    let distance = |s: &&ManifestEntry| {
        let [epoch, first, last] = [epoch, s.safe_epoch, s.max_committed_epoch].map(Epoch::as_u64);
        first.abs_diff(epoch).min(last.abs_diff(epoch))
    };
    let mut nearest: Vec<&ManifestEntry> = snapshots.iter().collect();
    nearest.sort_by_key(distance);
    let ranges: Vec<String> = nearest.iter().take(RANGES_SHOWN).map(|s| range_text(s)).collect();
    format!("Nearest valid ranges: {}", ranges.join("; "))
}

fn range_text(entry: &ManifestEntry) -> String {
    let time = |epoch: Epoch| epoch.timestamp().map_or_else(|| "-".to_owned(), |t| t.to_string());
    format!(
        "{} to {} (snapshot {}, {} to {} UTC)",
        entry.safe_epoch,
        entry.max_committed_epoch,
        entry.id,
        time(entry.safe_epoch),
        time(entry.max_committed_epoch)
    )
}
