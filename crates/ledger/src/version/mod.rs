//! The version: which files make up which table at which epoch. Pure data.
//!
//! A [`Version`] answers every epoch in `[safe_epoch, max_committed_epoch]`: a table at an epoch is the files
//! alive at it, each without the rows whose stamp is at or before that epoch. A [`VersionDelta`] turns one
//! version into the next; [`Version::check`] checks the invariants.
//!
//! What is in a file is said by its [`SstInfo`], and which tables have it by a [`FileEntry`] for each: tables
//! may share a file, each with a lifetime and stamps of its own.

mod delta;
pub mod encoding;
mod entry;
mod invariants;
mod positions;
mod replaced;
mod stamps;

pub use delta::{FileStamp, VersionDelta};
pub use entry::{FileEntry, LiveFile};
pub use positions::{Positions, Replaced};
pub use stamps::{Stamp, Stamps};

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use roaring::RoaringTreemap;

use crate::epoch::Epoch;
use crate::id::{ObjectId, SstId, VersionId};
use crate::sst::SstInfo;

/// All files that are not yet forgotten, in the tables that have them. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Version {
    pub id: VersionId,
    /// The oldest epoch this version answers exactly.
    pub safe_epoch: Epoch,
    /// The newest epoch this version answers.
    pub max_committed_epoch: Epoch,
    tables: OrdMap<ObjectId, TableFiles>,
    /// The files that died, in order of their death, which is the order in which they are forgotten.
    deaths: OrdSet<(Epoch, ObjectId, SstId)>,
    /// The files that tables have although they were not written for them. All others are in one table.
    lent: OrdSet<(SstId, ObjectId)>,
    /// Total bytes of inline rows, which are stored once for each table that has them.
    pub inline_bytes: u64,
}

/// The files of one table. Dead files are kept apart, so that reads of the newest epoch do not visit them.
#[derive(Clone, Debug, Default, PartialEq)]
struct TableFiles {
    open: OrdMap<SstId, Arc<FileEntry>>,
    /// Open files with a single key, by that key; writes of single rows make such files.
    points: OrdSet<(Bytes, SstId)>,
    /// The other open files.
    spans: OrdSet<SstId>,
    /// Dead files, in order of their death.
    ended: OrdMap<(Epoch, SstId), Arc<FileEntry>>,
}

impl TableFiles {
    fn insert_open(&mut self, file: Arc<FileEntry>) {
        match file.sst.only_key() {
            Some(key) => {
                drop(self.points.insert((Bytes::copy_from_slice(key), file.sst.id)));
            }
            None => drop(self.spans.insert(file.sst.id)),
        }
        self.open.insert(file.sst.id, file);
    }

    fn remove_open(&mut self, sst: SstId) -> Option<Arc<FileEntry>> {
        let file = self.open.remove(&sst)?;
        match file.sst.only_key() {
            Some(key) => drop(self.points.remove(&(Bytes::copy_from_slice(key), sst))),
            None => drop(self.spans.remove(&sst)),
        }
        Some(file)
    }

    /// The open files that may hold one of `keys`, which are sorted.
    fn open_with_keys(&self, keys: &[Bytes]) -> impl Iterator<Item = &Arc<FileEntry>> {
        let points = keys.iter().flat_map(|key| {
            self.points.range((key.clone(), SstId(0))..=(key.clone(), SstId(u64::MAX)))
        });
        let points = points.map(|(_, sst)| sst);
        let may_hold = |file: &&Arc<FileEntry>| file.sst.may_hold_any(keys);
        points
            .filter_map(|sst| self.open.get(sst))
            .chain(self.spans.iter().filter_map(|sst| self.open.get(sst)).filter(may_hold))
    }

    /// The files that `epoch` sees, by id: those of `files`, and those `wanted` of the files that died after
    /// `epoch`.
    fn seen_at<'a>(
        &'a self,
        epoch: Epoch,
        files: impl Iterator<Item = &'a Arc<FileEntry>>,
        wanted: impl Fn(&SstInfo) -> bool,
    ) -> Vec<LiveFile> {
        let since = (Bound::Excluded((epoch, SstId(u64::MAX))), Bound::Unbounded);
        let ended = self.ended.range(since).map(|(_, file)| file);
        let mut found: Vec<LiveFile> = files
            .chain(ended.filter(|file| wanted(&file.sst)))
            .filter(|file| file.lifetime.born <= epoch)
            .map(|file| file.live_at(epoch))
            .filter(|file| file.live_rows() > 0)
            .collect();
        if !found.is_sorted_by_key(|file| file.sst.id) {
            found.sort_unstable_by_key(|file| file.sst.id);
        }
        found
    }

    /// All files, by id. The open ones are in order already and may be many, so the dead ones are merged in.
    fn by_id(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        let mut ended: Vec<_> = self.ended.values().collect();
        ended.sort_unstable_by_key(|file| file.sst.id);
        let (mut open, mut ended) = (self.open.values().peekable(), ended.into_iter().peekable());
        std::iter::from_fn(move || match (open.peek(), ended.peek()) {
            (Some(living), Some(dead)) if dead.sst.id < living.sst.id => ended.next(),
            (Some(_), _) => open.next(),
            (None, _) => ended.next(),
        })
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
            lent: OrdSet::new(),
            inline_bytes: 0,
        }
    }

    /// The files of a table as `epoch` sees them, by id. A file with no live row is left out.
    ///
    /// The cost is proportional to the number of open files and of files that died since `epoch`.
    pub fn files_at(&self, table: ObjectId, epoch: Epoch) -> Vec<LiveFile> {
        let Some(files) = self.tables.get(&table) else { return vec![] };
        files.seen_at(epoch, files.open.values(), |_| true)
    }

    /// The same files, limited to those that may contain one of `keys`, which must be sorted.
    ///
    /// The cost is proportional to the number of keys, of open files with several keys, and of files that
    /// died since `epoch`.
    pub fn files_with_keys(&self, table: ObjectId, epoch: Epoch, keys: &[Bytes]) -> Vec<LiveFile> {
        let Some(files) = self.tables.get(&table) else { return vec![] };
        files.seen_at(epoch, files.open_with_keys(keys), |sst| sst.may_hold_any(keys))
    }

    /// Number of rows of a table that are alive at `epoch`.
    pub fn rows_at(&self, table: ObjectId, epoch: Epoch) -> u64 {
        self.files_at(table, epoch).iter().map(LiveFile::live_rows).sum()
    }

    /// The open files of a table, by id: those that are still alive.
    pub fn open_files(&self, table: ObjectId) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.tables.get(&table).into_iter().flat_map(|files| files.open.values())
    }

    /// Every file of a table, alive or not, by id.
    pub fn table_files(&self, table: ObjectId) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.tables.get(&table).into_iter().flat_map(TableFiles::by_id)
    }

    /// Every file of every table, alive or not, by table and id. A file that several tables have comes once
    /// for each.
    pub fn all_files(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.tables.values().flat_map(TableFiles::by_id)
    }

    /// Every data file, once.
    pub fn data_files(&self) -> impl Iterator<Item = &Arc<SstInfo>> {
        let mut seen = RoaringTreemap::new();
        let files = self.all_files().map(|file| &file.sst);
        files.filter(move |sst| !self.may_be_shared(sst.id) || seen.insert(sst.id.0))
    }

    /// Every data file whose rows are in an object, once.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<SstInfo>> {
        self.data_files().filter(|sst| sst.is_object())
    }

    /// Number of entries: a file counts in each table that has it.
    pub fn file_count(&self) -> usize {
        self.tables.values().map(|files| files.open.len() + files.ended.len()).sum()
    }

    /// An open file of a table.
    pub fn open_file(&self, table: ObjectId, sst: SstId) -> Option<&Arc<FileEntry>> {
        self.tables.get(&table)?.open.get(&sst)
    }

    /// A file of a table, alive or dead. The cost is proportional to the number of the table's dead files.
    pub fn file_of(&self, table: ObjectId, sst: SstId) -> Option<&Arc<FileEntry>> {
        let files = self.tables.get(&table)?;
        files.open.get(&sst).or_else(|| files.ended.values().find(|file| file.sst.id == sst))
    }

    /// The entries of a file, alive or dead, by table. The cost is proportional to the number of
    /// tables and of dead files.
    pub fn entries_of(&self, sst: SstId) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.table_ids().filter_map(move |table| self.file_of(table, sst))
    }

    /// Whether a table has the file, alive or dead.
    pub fn has_file(&self, sst: SstId) -> bool {
        self.entries_of(sst).next().is_some()
    }

    fn may_be_shared(&self, sst: SstId) -> bool {
        let tables = (sst, ObjectId(0))..=(sst, ObjectId(u32::MAX));
        !self.lent.is_empty() && self.lent.range(tables).next().is_some()
    }

    /// Tables that have files, alive or not.
    pub fn table_ids(&self) -> impl Iterator<Item = ObjectId> {
        self.tables.keys().copied()
    }

    /// Adds a file to a table, with its lifetime and stamps there.
    pub fn insert(&mut self, mut file: FileEntry) {
        if file.sst.inline.is_some() {
            self.inline_bytes += file.sst.size_bytes;
        }
        let (table, sst) = (file.table_id, file.sst.id);
        if file.is_lent() {
            self.lent.insert((sst, table));
            // Entries that were read one by one share the memory of what they have in common.
            let owner = self.open_file(file.sst.written_for, sst);
            if let Some(owner) = owner.filter(|owner| owner.sst == file.sst) {
                file.sst = Arc::clone(&owner.sst);
            }
        }
        let files = self.tables.entry(table).or_default();
        match file.lifetime.died {
            None => files.insert_open(Arc::new(file)),
            Some(died) => {
                self.deaths.insert((died, table, sst));
                files.ended.insert((died, sst), Arc::new(file));
            }
        }
    }

    /// The files of tables that no epoch from `safe_epoch` on can see there. Other tables may still have them.
    pub fn over_by(&self, safe_epoch: Epoch) -> impl Iterator<Item = (Epoch, ObjectId, SstId)> {
        self.deaths.iter().take_while(move |(died, _, _)| *died <= safe_epoch).copied()
    }

    /// The version without the files that no epoch from `safe_epoch` on can see.
    #[must_use]
    pub fn retain_since(&self, safe_epoch: Epoch) -> Self {
        let mut kept = self.clone();
        kept.safe_epoch = kept.safe_epoch.max(safe_epoch);
        for (died, table, sst) in self.over_by(kept.safe_epoch) {
            if let Some(files) = kept.tables.get_mut(&table) {
                let gone = files.ended.remove(&(died, sst));
                let gone = gone.filter(|file| file.sst.inline.is_some());
                kept.inline_bytes -= gone.map_or(0, |file| file.sst.size_bytes);
                kept.lent.remove(&(sst, table));
                if files.open.is_empty() && files.ended.is_empty() {
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

#[cfg(any(test, feature = "testing"))]
pub mod sample;
#[cfg(test)]
pub(crate) mod tests;
