//! The workers that follow the meta role, and what each of them still needs.
//!
//! A worker reports what it reads and which of its files are in flight, about once a second. One that
//! has been silent for [`SILENCE_MS_MAX`] is given up: it holds nothing any more, and nothing it staged
//! before can be committed, since vacuum may have deleted it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::command::{Pins, SnapshotKey, WorkerInfo};
use tidemark_ledger::id::{SstId, VersionId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst_ids::Unfinished;

/// How long the report of a worker is valid.
pub const SILENCE_MS_MAX: u64 = 60_000;

/// A process without a report for longer than this is shown as silent.
const QUIET_MS_MAX: u64 = 5_000;

#[derive(Debug, Default)]
pub struct Workers(Mutex<BTreeMap<String, Worker>>);

/// A worker, as `SHOW CLUSTER` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerNode {
    /// Zero is the meta role; the others are numbered as they register.
    pub id: u32,
    pub info: WorkerInfo,
    /// Whether it has reported recently.
    pub running: bool,
}

impl WorkerNode {
    /// The state of the process, as the catalog names it.
    pub fn state(&self) -> &'static str {
        if self.running { "RUNNING" } else { "SILENT" }
    }
}

#[derive(Clone, Debug)]
struct Worker {
    version: VersionId,
    snapshots: Vec<SnapshotKey>,
    unfinished: Unfinished,
    /// Files below this id were staged before the worker was registered, and may have been deleted.
    writes_from: SstId,
    last_report_ms: u64,
    /// `None` until the first report.
    info: Option<WorkerInfo>,
    id: u32,
}

/// A worker, as the catalog shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PinnedVersion {
    pub worker: String,
    pub version: VersionId,
    pub snapshots: Vec<SnapshotKey>,
}

/// Times are those of the meta role's monotonic clock: no clock step makes a worker silent.
impl Workers {
    /// Registers a worker that starts to follow at `version`; it may stage files from `next` on.
    pub fn register(&self, worker: &str, version: VersionId, next: SstId, now_ms: u64) {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = workers.get(worker).is_some_and(|known| known.lives(now_ms));
        if !lives {
            let id = next_id(&workers);
            workers.insert(worker.to_owned(), Worker::new(id, version, next, now_ms));
        }
    }

    /// Records a report. Returns whether the worker had been given up and starts over: it has lost the
    /// files that it reserved or staged before.
    pub fn report(&self, pins: Pins, next: SstId, now_ms: u64) -> bool {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = workers.remove(&pins.worker).filter(|known| known.lives(now_ms));
        let anew = known.is_none();
        let new = || Worker::new(next_id(&workers), pins.version, next, now_ms);
        let Worker { writes_from, id, .. } = known.unwrap_or_else(new);
        let worker = Worker {
            version: pins.version,
            snapshots: pins.snapshots,
            unfinished: pins.unfinished,
            writes_from,
            last_report_ms: now_ms,
            info: Some(pins.info),
            id,
        };
        workers.insert(pins.worker, worker);
        anew
    }

    /// The workers that have reported, by id.
    pub fn nodes(&self, now_ms: u64) -> Vec<WorkerNode> {
        let living = self.living(now_ms).into_iter();
        let node = |(_, worker): (String, Worker)| {
            let running = now_ms.saturating_sub(worker.last_report_ms) <= QUIET_MS_MAX;
            Some(WorkerNode { id: worker.id, info: worker.info?, running })
        };
        let mut nodes: Vec<WorkerNode> = living.filter_map(node).collect();
        nodes.sort_by_key(|node| node.id);
        nodes
    }

    pub fn lives(&self, worker: &str, now_ms: u64) -> bool {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.get(worker).is_some_and(|known| known.lives(now_ms))
    }

    pub fn leave(&self, worker: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
    }

    /// Checks that files of `worker` are as it staged them.
    ///
    /// # Errors
    /// [`ErrorKind::GivenUp`] if they may have been deleted: the statement must stage them again.
    pub fn check_staged(
        &self,
        worker: &str,
        files: impl Iterator<Item = SstId>,
        now_ms: u64,
    ) -> Result<(), MetaError> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = workers.get(worker).filter(|known| known.lives(now_ms));
        let oldest = files.min();
        match (known, oldest) {
            (_, None) => Ok(()),
            (Some(known), Some(oldest)) if oldest >= known.writes_from => Ok(()),
            _ => Err(MetaError::new(
                ErrorKind::GivenUp,
                "the rows this statement wrote were given up: another meta server leads by now, or \
                 nothing was heard of this server for too long",
            )
            .hint("Run the statement again.")),
        }
    }

    /// The worker that reads the oldest version, and that version.
    pub fn oldest_reader(&self, now_ms: u64) -> Option<(String, VersionId)> {
        let workers = self.living(now_ms).into_iter();
        workers.map(|(name, worker)| (name, worker.version)).min_by_key(|(_, version)| *version)
    }

    /// What each worker may have in flight.
    pub fn unfinished(&self, now_ms: u64) -> Vec<Unfinished> {
        self.living(now_ms).into_iter().map(|(_, worker)| worker.unfinished).collect()
    }

    pub fn reads(&self, snapshot: &SnapshotKey, now_ms: u64) -> bool {
        self.living(now_ms).iter().any(|(_, worker)| worker.snapshots.contains(snapshot))
    }

    pub fn pinned(&self, now_ms: u64) -> Vec<PinnedVersion> {
        let pinned = |(worker, w): (String, Worker)| PinnedVersion {
            worker,
            version: w.version,
            snapshots: w.snapshots,
        };
        self.living(now_ms).into_iter().map(pinned).collect()
    }

    fn living(&self, now_ms: u64) -> Vec<(String, Worker)> {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|_, worker| worker.lives(now_ms));
        workers.iter().map(|(name, worker)| (name.clone(), worker.clone())).collect()
    }
}

impl Worker {
    fn new(id: u32, version: VersionId, next: SstId, now_ms: u64) -> Self {
        Self {
            id,
            info: None,
            version,
            snapshots: vec![],
            unfinished: Unfinished::from(next),
            writes_from: next,
            last_report_ms: now_ms,
        }
    }

    fn lives(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_report_ms) <= SILENCE_MS_MAX
    }
}

fn next_id(workers: &BTreeMap<String, Worker>) -> u32 {
    workers.values().map(|worker| worker.id).max().map_or(1, |id| id.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::command::Role;

    fn pins(version: u64, unfinished_from: u64) -> Pins {
        Pins {
            worker: "f".to_owned(),
            info: WorkerInfo {
                role: Role::Frontend,
                addr: "127.0.0.1:4566".to_owned(),
                release: "0.1.0".to_owned(),
                started_ms: 7,
                parallelism: 2,
                memory_bytes: 1 << 30,
            },
            version: VersionId(version),
            snapshots: vec![],
            unfinished: Unfinished::from(SstId(unfinished_from)),
        }
    }

    fn staged(workers: &Workers, file: u64, now_ms: u64) -> bool {
        workers.check_staged("f", [SstId(file)].into_iter(), now_ms).is_ok()
    }

    #[test]
    fn a_worker_holds_what_it_said_last() {
        let workers = Workers::default();
        workers.register("f", VersionId(3), SstId(100), 0);
        assert_eq!(workers.oldest_reader(1), Some(("f".to_owned(), VersionId(3))));
        assert_eq!(workers.nodes(1), []);
        assert!(!workers.report(pins(5, 120), SstId(200), 1000));
        assert_eq!(workers.nodes(1000)[0].info, pins(5, 120).info);
        assert_eq!(workers.nodes(1000)[0].state(), "RUNNING");
        assert_eq!(workers.nodes(7000)[0].state(), "SILENT");
        assert_eq!(workers.oldest_reader(1000), Some(("f".to_owned(), VersionId(5))));
        assert_eq!(workers.unfinished(1000), [Unfinished::from(SstId(120))]);
        assert!(staged(&workers, 100, 1000));
    }

    #[test]
    fn a_silent_worker_holds_nothing_and_cannot_commit_what_it_had() {
        let workers = Workers::default();
        workers.register("f", VersionId(3), SstId(100), 0);
        let later = SILENCE_MS_MAX + 1;
        assert_eq!(workers.oldest_reader(later), None);
        assert!(!staged(&workers, 110, later));
        assert!(workers.report(pins(3, 110), SstId(150), later));
        assert!(!staged(&workers, 110, later));
        assert!(staged(&workers, 150, later));
        assert!(workers.check_staged("g", std::iter::empty(), later).is_ok());
    }
}
