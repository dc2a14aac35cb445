//! Caches which files the snapshots name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::command::SnapshotKey;
use tidemark_ledger::id::SstId;

/// The files of snapshots. They stay valid, since a snapshot never changes.
#[derive(Debug, Default)]
pub(super) struct KnownSnapshots {
    pub files: HashMap<SnapshotKey, Arc<RoaringTreemap>>,
    pub sizes: HashMap<SstId, u64>,
    /// Deleted while a session was reading them.
    pub deleted: BTreeSet<SnapshotKey>,
}

impl KnownSnapshots {
    /// Drops the snapshots that are not listed any more, except those that are being read.
    pub fn keep(&mut self, listed: &BTreeSet<SnapshotKey>) {
        let before = self.files.len();
        self.files.retain(|key, _| listed.contains(key) || self.deleted.contains(key));
        if self.files.len() < before {
            let named =
                self.files.values().fold(RoaringTreemap::new(), |all, files| all | &**files);
            self.sizes.retain(|sst, _| named.contains(sst.0));
        }
    }
}
