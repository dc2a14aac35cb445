//! The version: which files hold which table at which epoch. Pure data.
//!
//! A [`Version`] answers every epoch in `[safe_epoch, max_committed_epoch]`: a table at an epoch is
//! the files alive then, each without the rows whose stamp is not later than that epoch. A
//! [`VersionDelta`] turns one version into the next; [`Version::check`] names what must hold.

mod delta;
pub mod encoding;
mod invariants;

pub use delta::{FileStamp, VersionDelta};

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::epoch::{Epoch, Lifetime};
use crate::hummock::sst::SstInfo;
use crate::id::{ObjectId, SstId, VersionId};

/// Everything not yet forgotten. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Version {
    pub id: VersionId,
    /// The oldest epoch this version answers exactly.
    pub safe_epoch: Epoch,
    /// The newest.
    pub max_committed_epoch: Epoch,
    tables: OrdMap<ObjectId, OrdMap<SstId, Arc<FileEntry>>>,
    /// The files that died, in order of their death: what is forgotten next.
    deaths: OrdSet<(Epoch, ObjectId, SstId)>,
    /// Bytes of rows that lie in the metadata.
    pub inline_bytes: u64,
}

/// A data file with its lifetime and the stamps that killed rows in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub sst: Arc<SstInfo>,
    pub lifetime: Lifetime,
    /// In order of epoch; the positions of two stamps never overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stamps: Vec<Stamp>,
}

/// Rows of one file that died at one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    pub epoch: Epoch,
    #[serde(with = "crate::hummock::sst::stamps")]
    pub positions: Arc<RoaringBitmap>,
}

/// A file as one epoch sees it.
#[derive(Clone, Debug)]
pub struct LiveFile {
    pub sst: Arc<SstInfo>,
    /// Positions of rows dead by then; `None` when all rows live.
    pub dead: Option<Arc<RoaringBitmap>>,
}

impl LiveFile {
    pub fn live_rows(&self) -> u64 {
        self.sst.rows - self.dead.as_ref().map_or(0, |dead| dead.len())
    }
}

impl FileEntry {
    /// Positions dead at `epoch`. One stamp is shared, several are joined.
    fn dead_at(&self, epoch: Epoch) -> Option<Arc<RoaringBitmap>> {
        let due = self.stamps.partition_point(|stamp| stamp.epoch <= epoch);
        match &self.stamps[..due] {
            [] => None,
            [only] => Some(Arc::clone(&only.positions)),
            several => {
                let mut dead = RoaringBitmap::new();
                for stamp in several {
                    dead |= &*stamp.positions;
                }
                Some(Arc::new(dead))
            }
        }
    }

    /// The file as `epoch` sees it.
    pub fn live_at(&self, epoch: Epoch) -> LiveFile {
        LiveFile { sst: Arc::clone(&self.sst), dead: self.dead_at(epoch) }
    }

    /// Rows that are dead by now.
    pub fn dead_rows(&self) -> u64 {
        self.stamps.iter().map(|stamp| stamp.positions.len()).sum()
    }

    /// Positions that died after `epoch`.
    pub fn died_since(&self, epoch: Epoch) -> RoaringBitmap {
        let known = self.stamps.partition_point(|stamp| stamp.epoch <= epoch);
        let mut dead = RoaringBitmap::new();
        for stamp in &self.stamps[known..] {
            dead |= &*stamp.positions;
        }
        dead
    }

    /// Whether the row at `position` is dead by some stamp.
    pub fn any_dead(&self, positions: &RoaringBitmap) -> bool {
        self.stamps.iter().any(|stamp| !stamp.positions.is_disjoint(positions))
    }
}

impl Version {
    /// An empty version whose history begins at `epoch`.
    pub fn empty(epoch: Epoch) -> Self {
        Self {
            id: VersionId(1),
            safe_epoch: epoch,
            max_committed_epoch: epoch,
            tables: OrdMap::new(),
            deaths: OrdSet::new(),
            inline_bytes: 0,
        }
    }

    /// The files of a table as `epoch` sees them, by id. A file with no live row is left out.
    pub fn files_at(&self, table: ObjectId, epoch: Epoch) -> Vec<LiveFile> {
        self.table_files(table)
            .filter(|file| file.lifetime.alive_at(epoch))
            .map(|file| file.live_at(epoch))
            .filter(|file| file.live_rows() > 0)
            .collect()
    }

    /// Rows of a table alive at `epoch`.
    pub fn rows_at(&self, table: ObjectId, epoch: Epoch) -> u64 {
        self.files_at(table, epoch).iter().map(LiveFile::live_rows).sum()
    }

    /// Every file of a table, alive or not.
    pub fn table_files(&self, table: ObjectId) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.tables.get(&table).into_iter().flat_map(OrdMap::values)
    }

    /// Every file, of every table, alive or not, by table and id.
    pub fn all_files(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.tables.values().flat_map(OrdMap::values)
    }

    pub fn file_count(&self) -> usize {
        self.tables.values().map(OrdMap::len).sum()
    }

    pub fn file(&self, table: ObjectId, sst: SstId) -> Option<&Arc<FileEntry>> {
        self.tables.get(&table)?.get(&sst)
    }

    /// Tables that have files, alive or not.
    pub fn table_ids(&self) -> impl Iterator<Item = ObjectId> {
        self.tables.keys().copied()
    }

    /// Adds a file as it was written down; for decoding.
    pub fn insert(&mut self, file: FileEntry) {
        if file.sst.inline.is_some() {
            self.inline_bytes += file.sst.size_bytes;
        }
        if let Some(died) = file.lifetime.died {
            self.deaths.insert((died, file.sst.table_id, file.sst.id));
        }
        self.tables.entry(file.sst.table_id).or_default().insert(file.sst.id, Arc::new(file));
    }

    /// The files that no epoch from `safe_epoch` on can see.
    pub fn over_by(&self, safe_epoch: Epoch) -> impl Iterator<Item = (ObjectId, SstId)> {
        let over = self.deaths.iter().take_while(move |(died, _, _)| *died <= safe_epoch);
        over.map(|(_, table, sst)| (*table, *sst))
    }

    /// The version without what no epoch from `safe_epoch` on can see.
    #[must_use]
    pub fn retain_since(&self, safe_epoch: Epoch) -> Self {
        let mut kept = self.clone();
        kept.safe_epoch = kept.safe_epoch.max(safe_epoch);
        for (table, sst) in self.over_by(kept.safe_epoch) {
            if let Some(files) = kept.tables.get_mut(&table) {
                let gone = files.remove(&sst).filter(|file| file.sst.inline.is_some());
                kept.inline_bytes -= gone.map_or(0, |file| file.sst.size_bytes);
                if files.is_empty() {
                    kept.tables.remove(&table);
                }
            }
        }
        while let Some(first) = kept.deaths.get_min().filter(|d| d.0 <= kept.safe_epoch).copied() {
            kept.deaths.remove(&first);
        }
        kept
    }
}

#[cfg(test)]
pub(crate) mod tests;
