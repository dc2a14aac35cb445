//! The scrub: regularly reads every data file of the newest version and checks that it is as it was
//! written, so that damage is found before the file is needed.
//!
//! A pass takes `scrub_interval_ms`. Progress is kept in memory: a meta role that starts to lead starts
//! at some file and goes round.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use super::MetaNode;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ObjectId, SstId, VersionId};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::StorageError;
use tidemark_ledger::{layout, metrics, params};

/// Longest pause between two checks of what is due.
const PAUSE_MS_MAX: u64 = 5000;
/// Longest time between two scans of the list of all files, of which there may be a million.
const MEASURE_MS_MAX: u64 = 60_000;
/// Maximum time credited for the pause between two checks: a longer one was not spent reading.
const EARNED_MS_MAX: u64 = 60_000;

/// The progress of the scrub.
#[derive(Debug)]
struct Progress {
    begun_ms: u64,
    looked_ms: u64,
    /// Bytes that may be read now, times the interval in ms: a moment may earn less than a byte.
    earned: u128,
    /// The files that this pass has yet to read.
    ahead: VecDeque<Arc<SstInfo>>,
    /// When each file was last read.
    read_ms: HashMap<SstId, u64>,
    damaged: BTreeSet<SstId>,
}

/// The data files of a version.
#[derive(Debug, Default)]
struct Files {
    version: Option<VersionId>,
    list: Vec<Arc<SstInfo>>,
    bytes: u64,
    /// When the whole list was last scanned.
    measured_ms: Option<u64>,
}

impl Files {
    /// Whether to scan the whole list now.
    fn are_due(&mut self, now_ms: u64, interval_ms: u64) -> bool {
        let pause_ms = (interval_ms / 8).min(MEASURE_MS_MAX);
        // The clock may go back.
        let is_over = |since_ms: u64| now_ms < since_ms || now_ms - since_ms >= pause_ms;
        let are_due = self.measured_ms.is_none_or(is_over);
        if are_due {
            self.measured_ms = Some(now_ms);
        }
        are_due
    }

    /// Takes the files of `version`. Returns false, and collects nothing, if it already has them.
    fn take(&mut self, version: VersionId, collect: impl FnOnce() -> Vec<Arc<SstInfo>>) -> bool {
        if self.version == Some(version) {
            return false;
        }
        self.list = collect();
        self.bytes = self.list.iter().map(|file| file.size_bytes).sum();
        self.version = Some(version);
        true
    }
}

/// The result of reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Whole,
    Damaged,
    /// The file is not in the newest version any more.
    Gone,
    /// The store did not respond.
    Unknown,
}

impl Progress {
    fn beginning_at(now_ms: u64) -> Self {
        Self {
            begun_ms: now_ms,
            looked_ms: now_ms,
            earned: 0,
            ahead: VecDeque::new(),
            read_ms: HashMap::new(),
            damaged: BTreeSet::new(),
        }
    }

    /// Credits the time that has passed: it earns bytes to read, so that all are read in `interval_ms`.
    fn earn(&mut self, now_ms: u64, total_bytes: u64, interval_ms: u64) {
        let passed = now_ms.saturating_sub(self.looked_ms).min(EARNED_MS_MAX);
        self.looked_ms = now_ms;
        let earned = self.earned + u128::from(total_bytes) * u128::from(passed);
        self.earned = earned.min(u128::from(total_bytes) * u128::from(interval_ms));
    }

    /// The next file, if enough bytes have been earned for it. A new pass goes through `files`, the
    /// first `first` of which come last.
    fn next(
        &mut self,
        files: &[Arc<SstInfo>],
        first: usize,
        interval_ms: u64,
    ) -> Option<Arc<SstInfo>> {
        if self.ahead.is_empty() {
            self.ahead = files.iter().cloned().collect();
            self.ahead.rotate_left(first.min(files.len()));
        }
        let size = self.ahead.front()?.size_bytes;
        self.earned = self.earned.checked_sub(u128::from(size) * u128::from(interval_ms))?;
        self.ahead.pop_front()
    }

    fn note(&mut self, sst: SstId, found: Found, now_ms: u64) {
        match found {
            Found::Unknown => return,
            Found::Damaged => self.damaged.insert(sst),
            Found::Whole | Found::Gone => self.damaged.remove(&sst),
        };
        self.read_ms.insert(sst, now_ms);
    }

    /// The age in ms of the oldest read among `files`, and the share of their bytes that was read
    /// within the interval. A file that was not read yet is as old as the scrub.
    fn coverage(&self, files: &[Arc<SstInfo>], now_ms: u64, interval_ms: u64) -> (u64, f64) {
        let (mut oldest_ms, mut bytes, mut read) = (now_ms, 0, 0);
        for file in files {
            let read_ms = self.read_ms.get(&file.id).copied();
            oldest_ms = oldest_ms.min(read_ms.unwrap_or(self.begun_ms));
            bytes += file.size_bytes;
            if read_ms.is_some_and(|ms| now_ms.saturating_sub(ms) <= interval_ms) {
                read += file.size_bytes;
            }
        }
        let share = if bytes == 0 { 1.0 } else { read as f64 / bytes as f64 };
        (now_ms.saturating_sub(oldest_ms), share)
    }

    /// Forgets files that no longer exist.
    fn keep(&mut self, files: &[Arc<SstInfo>]) {
        if self.read_ms.len() > files.len() || !self.damaged.is_empty() {
            let alive: BTreeSet<SstId> = files.iter().map(|file| file.id).collect();
            self.read_ms.retain(|sst, _| alive.contains(sst));
            self.damaged.retain(|sst| alive.contains(sst));
        }
    }
}

impl MetaNode {
    /// Reads data files at the rate that `scrub_interval_ms` sets. Never returns.
    pub async fn scrub_forever(self: Arc<Self>) {
        let mut progress = Progress::beginning_at(self.manager.clock().now_ms());
        let mut files = Files::default();
        loop {
            let interval_ms = self.manager.state().params.scrub_interval_ms();
            let pause_ms = if interval_ms == 0 { PAUSE_MS_MAX } else { interval_ms / 8 };
            tokio::time::sleep(Duration::from_millis(pause_ms.clamp(100, PAUSE_MS_MAX))).await;
            self.scrub(&mut progress, &mut files).await;
        }
    }

    /// Reads the files that are due.
    async fn scrub(&self, progress: &mut Progress, files: &mut Files) {
        let now_ms = self.manager.clock().now_ms();
        let state = self.manager.state();
        let interval_ms = state.params.scrub_interval_ms();
        if interval_ms == 0 {
            progress.looked_ms = now_ms;
            return;
        }
        let are_due = files.are_due(now_ms, interval_ms);
        let is_wanted = are_due || progress.ahead.is_empty();
        if is_wanted && files.take(state.version.id, || state.version.objects().cloned().collect())
        {
            progress.keep(&files.list);
        }
        progress.earn(now_ms, files.bytes, interval_ms);
        // It does not matter where a pass starts, as long as not every server starts at the same file.
        let first = usize::try_from(progress.begun_ms).unwrap_or(0) % files.list.len().max(1);
        while let Some(sst) = progress.next(&files.list, first, interval_ms) {
            let found = self.read_whole(&state, &sst).await;
            progress.note(sst.id, found, self.manager.clock().now_ms());
        }
        if are_due {
            let (age_ms, share) = progress.coverage(&files.list, now_ms, interval_ms);
            metrics::SCRUB_OLDEST_SECONDS.set(age_ms as f64 / 1000.0);
            metrics::SCRUB_COVERAGE.set(share);
        }
        metrics::SCRUB_DAMAGED.set(i64::try_from(progress.damaged.len()).unwrap_or(i64::MAX));
    }

    async fn read_whole(&self, state: &State, sst: &SstInfo) -> Found {
        let path = layout::sst(state.params.value(params::DATA_DIRECTORY), sst.id);
        let storage = self.manager.state_store();
        let found = match storage.is_whole(&path, sst.expected()).await {
            Ok(true) => Found::Whole,
            Ok(false) => Found::Damaged,
            Err(StorageError::NotFound { .. }) if self.is_named(sst.id) => Found::Damaged,
            Err(StorageError::NotFound { .. }) => Found::Gone,
            Err(error) => {
                warn!(%error, object = %path, "the scrub could not read a data file");
                Found::Unknown
            }
        };
        let outcome = match found {
            Found::Whole => metrics::OK,
            Found::Damaged => "damaged",
            Found::Gone => return found,
            Found::Unknown => metrics::FAILED,
        };
        metrics::SCRUBBED_OBJECTS.with_label_values(&[outcome]).inc();
        if found != Found::Unknown {
            metrics::SCRUBBED_BYTES.inc_by(sst.size_bytes);
        }
        if found == Found::Damaged {
            tell(state, sst, &storage.name_of(&path));
        }
        found
    }

    /// Whether the newest version names the file in some table, as alive or for its history.
    fn is_named(&self, sst: SstId) -> bool {
        self.manager.state().version.has_file(sst)
    }
}

fn tell(state: &State, sst: &SstInfo, object: &str) {
    error!(
        table = tables_with(state, sst), file = %sst.id, %object,
        "a data file is damaged or gone: risectl hummock repair-object brings back the copy that a backup has"
    );
}

/// The names of the tables that have the file. It may have been forgotten since it was listed.
fn tables_with(state: &State, sst: &SstInfo) -> String {
    let catalog = state.catalog.at(Epoch::LAST);
    let name = |id: ObjectId| match catalog.relation_by_id(id) {
        Some(relation) => relation.name.clone(),
        None => id.to_string(),
    };
    let names: Vec<_> = state.version.entries_of(sst.id).map(|file| name(file.table_id)).collect();
    if names.is_empty() { name(sst.written_for) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_ledger::params::Params;
    use tidemark_ledger::storage::Checksum;
    use tidemark_ledger::version::FileEntry;
    use tidemark_ledger::version::sample::{lent, sst};

    const DAY_MS: u64 = 86_400_000;

    fn files() -> Vec<Arc<SstInfo>> {
        let sst = |id| {
            Arc::new(SstInfo {
                id: SstId(id),
                written_for: ObjectId(1),
                rows: 1,
                size_bytes: 1000 * id,
                row_group_rows: vec![1],
                sha256: Checksum::default(),
                block_sums: None,
                columns: Arc::default(),
                keys: None,
                inline: None,
            })
        };
        (1..=4).map(sst).collect()
    }

    /// The files that are read in these milliseconds, with a check every second.
    fn read_in(progress: &mut Progress, from_ms: u64, ms: u64, interval_ms: u64) -> Vec<u64> {
        let mut read = vec![];
        for now_ms in (from_ms..=from_ms + ms).step_by(1000) {
            progress.earn(now_ms, 10_000, interval_ms);
            while let Some(sst) = progress.next(&files(), 2, interval_ms) {
                progress.note(sst.id, Found::Whole, now_ms);
                read.push(sst.id.0);
            }
        }
        read
    }

    #[test]
    fn a_pass_takes_the_interval_and_reads_every_file_once() {
        let mut progress = Progress::beginning_at(0);
        assert_eq!(read_in(&mut progress, 0, 99_000, 100_000), [3, 4, 1]);
        assert_eq!(read_in(&mut progress, 100_000, 0, 100_000), [2]);
        assert_eq!(progress.coverage(&files(), 100_000, 100_000).1, 1.0);
        assert_eq!(read_in(&mut progress, 101_000, 99_000, 100_000), [3, 4, 1, 2]);
    }

    #[test]
    fn damage_is_told_by_the_tables_that_have_the_file() {
        let epoch = Epoch::from_u64(1 << 16);
        let mut state = State::new("scrubbed".to_owned(), Params::default(), epoch);
        let (file, forgotten) = (sst(1, 10), sst(2, 10));
        let version = Arc::make_mut(&mut state.version);
        version.insert(FileEntry::born(Arc::clone(&file), epoch));
        version.insert(lent(&file, epoch));
        assert_eq!(tables_with(&state, &file), "7, 9", "neither table is in the catalog");
        assert_eq!(tables_with(&state, &forgotten), "7");
    }

    #[test]
    fn what_was_not_read_is_as_old_as_the_scrub() {
        let mut progress = Progress::beginning_at(5000);
        assert_eq!(progress.coverage(&files(), 9000, DAY_MS), (4000, 0.0));
        for file in &files()[..3] {
            progress.note(file.id, Found::Whole, 8000);
        }
        assert_eq!(progress.coverage(&files(), 9000, DAY_MS), (4000, 0.6));
        progress.note(SstId(4), Found::Unknown, 9000);
        assert_eq!(progress.coverage(&files(), 9000, DAY_MS), (4000, 0.6));
        progress.note(SstId(4), Found::Damaged, 9000);
        assert_eq!(progress.coverage(&files(), 9000, DAY_MS), (1000, 1.0));
        assert_eq!(progress.damaged.len(), 1);
        progress.keep(&files()[..3]);
        assert!(progress.damaged.is_empty() && progress.read_ms.len() == 3);
        assert_eq!(progress.coverage(&[], 9000, DAY_MS), (0, 1.0));
    }

    #[test]
    fn files_are_collected_when_the_version_changed_and_looked_through_now_and_then() {
        let mut known = Files::default();
        assert!(known.take(VersionId(1), files));
        assert_eq!((known.list.len(), known.bytes), (4, 10_000));
        assert!(!known.take(VersionId(1), || unreachable!("the version is the same")));
        assert!(known.take(VersionId(2), || files()[..1].to_vec()));
        assert_eq!((known.list.len(), known.bytes), (1, 1000));
        let due = |known: &mut Files, at_ms| known.are_due(at_ms, DAY_MS);
        assert!(due(&mut known, 5000) && !due(&mut known, 5000 + MEASURE_MS_MAX - 1));
        assert!(due(&mut known, 5000 + MEASURE_MS_MAX), "a minute is over");
        assert!(due(&mut known, 4000), "the clock went back");
        assert!(known.are_due(4100, 800), "a short interval");
    }

    #[test]
    fn a_clock_that_jumps_does_not_make_everything_due() {
        let mut progress = Progress::beginning_at(0);
        assert_eq!(read_in(&mut progress, DAY_MS, 0, DAY_MS), Vec::<u64>::new());
        assert_eq!(progress.earned, u128::from(10_000 * EARNED_MS_MAX));
    }
}
