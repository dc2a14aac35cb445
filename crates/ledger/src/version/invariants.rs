//! The invariants of a version, checked at every commit, recovery and restore.

use roaring::RoaringBitmap;

use super::{FileEntry, Version, VersionDelta};
use crate::error::HummockError;

impl Version {
    /// Checks every invariant over every file: for recovery and restore.
    pub fn check(&self) -> Result<(), HummockError> {
        if self.safe_epoch > self.max_committed_epoch {
            return Err(HummockError::Corrupt(format!(
                "safe epoch {} is after max committed epoch {}",
                self.safe_epoch, self.max_committed_epoch
            )));
        }
        self.all_files().try_for_each(|file| self.check_file(file))
    }

    /// Checks the invariants of the files that `delta` touched, at a cost proportional to the delta.
    pub fn check_delta(&self, delta: &VersionDelta) -> Result<(), HummockError> {
        let born = delta.born.iter().map(|sst| (sst.table_id, sst.id));
        let stamped = delta.stamps.iter().map(|stamp| (stamp.table_id, stamp.sst_id));
        born.chain(stamped)
            .filter_map(|(table, sst)| self.open_file(table, sst))
            .try_for_each(|file| self.check_file(file))
    }

    fn check_file(&self, file: &FileEntry) -> Result<(), HummockError> {
        let wrong = |what: &str| {
            Err(HummockError::Corrupt(format!(
                "file {} of table {}: {what}",
                file.sst.id, file.sst.table_id
            )))
        };
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
