//! Pins: what a worker reads, so that vacuum does not delete it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::meta::command::{Pins as Report, SnapshotKey, WorkerInfo};
use crate::rpc::Replica;
use tidemark_ledger::id::VersionId;
use tidemark_ledger::state::State;

/// The pins of one worker.
#[derive(Debug, Default)]
pub struct Pins(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    versions: BTreeMap<VersionId, usize>,
    snapshots: BTreeMap<SnapshotKey, usize>,
}

/// Keeps the files of a version or of a snapshot, until it is dropped.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Pins>,
    what: Pinned,
}

#[derive(Debug)]
enum Pinned {
    Version(VersionId),
    Snapshot(SnapshotKey),
}

impl Pins {
    /// The newest state, with a pin on its version.
    pub fn latest(self: &Arc<Self>, replica: &Replica) -> (Arc<State>, Arc<Pin>) {
        // Under the lock, so that a report made meanwhile does not miss this version.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = replica.state();
        let version = state.version.id;
        *counts.versions.entry(version).or_default() += 1;
        let pins = Arc::clone(self);
        (state, Arc::new(Pin { pins, what: Pinned::Version(version) }))
    }

    /// A pin on a snapshot. It takes effect with the next report.
    pub fn snapshot(self: &Arc<Self>, snapshot: SnapshotKey) -> Arc<Pin> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.snapshots.entry(snapshot.clone()).or_default() += 1;
        Arc::new(Pin { pins: Arc::clone(self), what: Pinned::Snapshot(snapshot) })
    }

    /// What is pinned now. Sessions that begin later read the replica's version or a newer one.
    pub fn report(
        &self,
        worker: &str,
        info: &WorkerInfo,
        replica: &Replica,
        ids: &tidemark_ledger::sst_ids::SstIdPool,
    ) -> Report {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = replica.state();
        let newest = state.version.id;
        Report {
            worker: worker.to_owned(),
            info: info.clone(),
            version: counts.versions.keys().next().copied().unwrap_or(newest).min(newest),
            snapshots: counts.snapshots.keys().cloned().collect(),
            unfinished: ids.unfinished(state.next.sst),
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut counts = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.what {
            Pinned::Version(version) => release(&mut counts.versions, version),
            Pinned::Snapshot(snapshot) => release(&mut counts.snapshots, snapshot),
        }
    }
}

fn release<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
