//! The meta role of a server: the manager, its workers, and the locks of the jobs around it.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{Mutex, broadcast};

use super::backup_locations::BackupLocations;
use super::claims::Claims;
use super::command::{Committed, Pins, SnapshotKey, WorkerInfo, Write};
use super::known_snapshots::KnownSnapshots;
use super::manager::Manager;
use super::misdated::Misdated;
use super::settings::MaintenanceSettings;
use super::workers::{WorkerNode, Workers};
use crate::compaction::Executor;
use tidemark_ledger::backup::ManifestCache;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst_ids::{SstIdPool, Staging};
use tidemark_ledger::state::{Change, State};

/// The meta role, as the RPC service uses it: the manager, and the jobs around it.
#[derive(Debug)]
pub struct MetaNode {
    pub manager: Manager,
    pub info: WorkerInfo,
    pub workers: Workers,
    /// Start time in ms, by the monotonic clock.
    pub(super) started_ms: u64,
    pub(super) settings: MaintenanceSettings,
    pub(super) executor: Executor,
    pub(super) sst_ids: Arc<SstIdPool>,
    pub(super) claims: Claims,
    /// The manifest that was listed last.
    pub(super) manifests: ManifestCache,
    pub(super) known: std::sync::Mutex<KnownSnapshots>,
    pub(super) misdated: std::sync::Mutex<Misdated>,
    pub(super) backup_locations: BackupLocations,
    /// Locked by jobs that use or move a backup location or delete data: one at a time.
    pub(super) job: Mutex<()>,
    /// Locked to read the files of snapshots that are not known yet: one reader at a time.
    pub(super) reading_snapshots: Mutex<()>,
    /// Locked while a compaction runs: one at a time.
    pub(super) compacting: Mutex<()>,
    /// Locked while a session starts to read snapshots, and while snapshots are deleted.
    pub(super) pinning: Mutex<()>,
}

impl MetaNode {
    pub async fn start(
        manager: Manager,
        settings: MaintenanceSettings,
        info: WorkerInfo,
    ) -> Result<Self, MetaError> {
        let reserving = manager.clone();
        let sst_ids = SstIdPool::start(move |count| {
            let manager = reserving.clone();
            Box::pin(async move { manager.reserve_ssts(count).await })
        });
        let sst_ids = sst_ids.await;
        let executor = Executor::new(manager.state_store(), settings.compaction_memory_bytes);
        let executor = executor.map_err(|e| MetaError::storage(&e))?;
        let backup_locations = BackupLocations::beginning_with(&manager.state());
        let started_ms = manager.clock().monotonic_ms();
        Ok(Self {
            manager,
            info,
            workers: Workers::default(),
            started_ms,
            settings,
            executor,
            sst_ids,
            claims: Claims::default(),
            manifests: ManifestCache::default(),
            known: std::sync::Mutex::default(),
            misdated: std::sync::Mutex::default(),
            backup_locations,
            job: Mutex::new(()),
            compacting: Mutex::new(()),
            reading_snapshots: Mutex::new(()),
            pinning: Mutex::new(()),
        })
    }

    /// The newest state and every change after it. Registers the worker, if it has a name.
    pub fn follow(&self, worker: &str) -> (Arc<State>, broadcast::Receiver<Arc<Change>>) {
        let (state, changes) = self.manager.follow();
        if !worker.is_empty() {
            let now_ms = self.manager.clock().monotonic_ms();
            self.workers.register(worker, state.version.id, state.next.sst, now_ms);
        }
        (state, changes)
    }

    /// Commits staged writes of a worker, each on its own; returns the outcomes in order.
    pub async fn write_all(
        &self,
        worker: &str,
        writes: Vec<Write>,
    ) -> Vec<Result<Committed, MetaError>> {
        let commits = writes.into_iter().map(|write| self.write(worker, write, vec![]));
        // All requests are sent before the first reply is awaited, so that they share a commit.
        join_all(commits).await
    }

    /// Commits a staged write of a worker; for `staged` see [`Manager::write`].
    pub async fn write(
        &self,
        worker: &str,
        write: Write,
        staged: Vec<Arc<Staging>>,
    ) -> Result<Committed, MetaError> {
        let born = write.tables.iter().flat_map(|table| &table.born);
        let now_ms = self.manager.clock().monotonic_ms();
        self.workers.check_staged(worker, born.map(|sst| sst.id), now_ms)?;
        self.manager.write(write, staged).await
    }

    /// The processes of the cluster, this one first.
    pub fn worker_nodes(&self) -> Vec<WorkerNode> {
        let this = WorkerNode { id: 0, info: self.info.clone(), running: true };
        let others = self.workers.nodes(self.manager.clock().monotonic_ms());
        std::iter::once(this).chain(others).collect()
    }

    pub fn settings(&self) -> &MaintenanceSettings {
        &self.settings
    }

    /// Records what a worker needs.
    ///
    /// Returns whether the worker had been given up, and starts over.
    ///
    /// # Errors
    /// [`ErrorKind::UndefinedSnapshot`] if a snapshot that it starts to read no longer exists.
    pub async fn report(&self, pins: Pins) -> Result<bool, MetaError> {
        let now_ms = self.manager.clock().monotonic_ms();
        let is_new = |snapshot: &&SnapshotKey| !self.workers.reads(snapshot, now_ms);
        let new: Vec<SnapshotKey> = pins.snapshots.iter().filter(is_new).cloned().collect();
        let pinning = self.pinning.lock().await;
        if !new.is_empty() {
            let listed = self.list_snapshots().await?;
            let is_listed = |snapshot: &SnapshotKey| {
                listed
                    .snapshot_metadata
                    .iter()
                    .any(|e| e.info.id == snapshot.id && e.sha256 == snapshot.sha256)
            };
            for snapshot in new {
                if !is_listed(&snapshot) && !self.is_kept_for_readers(&snapshot) {
                    let message = format!("meta snapshot {} was deleted", snapshot.id);
                    return Err(MetaError::new(ErrorKind::UndefinedSnapshot, message));
                }
            }
        }
        let next = self.manager.state().next.sst;
        let anew = self.workers.report(pins, next, now_ms);
        drop(pinning);
        Ok(anew)
    }
}
