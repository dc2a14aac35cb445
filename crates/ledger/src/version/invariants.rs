//! The invariants of a version, checked at every commit, recovery and restore.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::{FileEntry, Version, VersionDelta};
use crate::error::HummockError;
use crate::id::SstId;
use crate::sst::SstInfo;

impl Version {
    /// Checks every invariant over every file: for recovery and restore.
    pub fn check(&self) -> Result<(), HummockError> {
        if self.safe_epoch > self.max_committed_epoch {
            return Err(HummockError::Corrupt(format!(
                "safe epoch {} is after max committed epoch {}",
                self.safe_epoch, self.max_committed_epoch
            )));
        }
        self.all_files().try_for_each(|file| self.check_file(file))?;
        self.check_identity()
    }

    /// Checks the invariants of the files that `delta` touched, at a cost proportional to the delta.
    pub fn check_delta(&self, delta: &VersionDelta) -> Result<(), HummockError> {
        let born = delta.born.iter().map(|sst| (sst.written_for, sst.id));
        let stamped = delta.stamps.iter().map(|stamp| (stamp.table_id, stamp.sst_id));
        born.chain(stamped)
            .filter_map(|(table, sst)| self.open_file(table, sst))
            .try_for_each(|file| self.check_file(file))
    }

    /// Checks that a table has a file once, and that an id means the same file in every table.
    fn check_identity(&self) -> Result<(), HummockError> {
        let mut last = None;
        let mut own = RoaringTreemap::new();
        let mut shared: HashMap<SstId, &Arc<SstInfo>> = HashMap::new();
        for file in self.all_files() {
            let sst = &file.sst;
            if last.replace((file.table_id, sst.id)) == Some((file.table_id, sst.id)) {
                return wrong(file, "is in the table twice");
            }
            if !file.is_lent() && !own.insert(sst.id.0) {
                return wrong(file, "was written for another table too");
            }
            if self.may_be_shared(sst.id) {
                let known = *shared.entry(sst.id).or_insert(sst);
                if !Arc::ptr_eq(known, sst) && known != sst {
                    return wrong(file, "is another file than that of this id in another table");
                }
            }
        }
        Ok(())
    }

    fn check_file(&self, file: &FileEntry) -> Result<(), HummockError> {
        let wrong = |what: &str| wrong(file, what);
        if file.lifetime.born > self.max_committed_epoch {
            return wrong("is born after the max committed epoch");
        }
        if file.lifetime.died.is_some_and(|died| died < file.lifetime.born) {
            return wrong("dies before it is born");
        }
        if file.sst.row_group_rows.iter().map(|n| u64::from(*n)).sum::<u64>() != file.sst.rows {
            return wrong("has row groups that do not add up to its rows");
        }
        let mut dead = RoaringBitmap::new();
        let mut last_epoch = file.lifetime.born;
        for stamp in file.stamps.iter() {
            if stamp.epoch < last_epoch {
                return wrong("has stamps out of order");
            }
            if !dead.is_disjoint(&stamp.positions) {
                return wrong("has a row that dies twice");
            }
            if stamp.positions.max().is_some_and(|last| u64::from(last) >= file.sst.rows) {
                return wrong("has a stamp past its last row");
            }
            dead |= &*stamp.positions;
            last_epoch = stamp.epoch;
        }
        Ok(())
    }
}

fn wrong(file: &FileEntry, what: &str) -> Result<(), HummockError> {
    let FileEntry { table_id, sst, .. } = file;
    Err(HummockError::Corrupt(format!("file {} of table {table_id}: {what}", sst.id)))
}
