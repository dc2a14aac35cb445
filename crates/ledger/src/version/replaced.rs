//! Checks that files hold the same live rows as the files they replace, before a delta is applied. No I/O.
//!
//! A file dies in a table for one of two reasons: the table is emptied, or other files replace it there. A
//! replacement states for each file which of its rows it leaves out. These must be exactly the rows that are
//! dead in that table in the version the delta applies to, whoever computed the replacement and when.

use std::collections::BTreeMap;

use super::positions::{Positions, Replaced};
use super::{FileStamp, Version, VersionDelta};
use crate::error::HummockError;
use crate::id::{ObjectId, SstId};

/// The deaths of one table's files in a delta.
#[derive(Default)]
struct Deaths<'a> {
    files: u64,
    replaced: Vec<&'a Replaced>,
}

impl Version {
    /// Checks that every file that dies in `delta` is of a table that is emptied, or is replaced by files
    /// that hold exactly its live rows. The delta must follow this version.
    pub fn check_deaths(&self, delta: &VersionDelta) -> Result<(), HummockError> {
        let mut tables: BTreeMap<ObjectId, Deaths<'_>> = BTreeMap::new();
        for (table, sst) in &delta.died {
            if self.open_file(*table, *sst).is_none() {
                return wrong(*table, &format!("file {sst} dies and is not alive"));
            }
            tables.entry(*table).or_default().files += 1;
        }
        for replaced in &delta.replaced {
            tables.entry(replaced.table_id).or_default().replaced.push(replaced);
        }
        tables.iter().try_for_each(|(table, deaths)| {
            if deaths.replaced.is_empty() {
                self.check_emptied(*table, deaths)
            } else {
                self.check_replaced(*table, deaths, delta)
            }
        })
    }

    fn check_emptied(&self, table: ObjectId, deaths: &Deaths<'_>) -> Result<(), HummockError> {
        let open = self.open_files(table).count() as u64;
        match deaths.files == open {
            true => Ok(()),
            false => wrong(table, &format!("{} of {open} files die for no reason", deaths.files)),
        }
    }

    fn check_replaced(
        &self,
        table: ObjectId,
        deaths: &Deaths<'_>,
        delta: &VersionDelta,
    ) -> Result<(), HummockError> {
        let mut died: Vec<SstId> =
            delta.died.iter().filter(|(of, _)| *of == table).map(|(_, sst)| *sst).collect();
        let mut replaced: Vec<SstId> = deaths.replaced.iter().map(|r| r.sst_id).collect();
        died.sort_unstable();
        replaced.sort_unstable();
        if died != replaced {
            return wrong(table, "other files die than are replaced");
        }
        let mut live_before = 0;
        for file in &deaths.replaced {
            live_before += self.check_left_out(file)?;
        }
        let live_after = delta.live_rows_born(table);
        match live_after == Some(live_before) {
            true => Ok(()),
            false => {
                wrong(table, &format!("{live_after:?} rows take the place of {live_before} rows"))
            }
        }
    }

    /// The number of live rows of a file that is replaced. Fails unless the rows left out are the dead ones.
    fn check_left_out(&self, replaced: &Replaced) -> Result<u64, HummockError> {
        let (table, sst) = (replaced.table_id, replaced.sst_id);
        let Some(file) = self.open_file(table, sst) else {
            return wrong(table, &format!("file {sst} is replaced and is not alive"));
        };
        let stamps = file.stamps.iter();
        let dead = stamps.fold(Positions::default(), |dead, stamp| dead.and(&stamp.positions));
        if dead != replaced.left_out {
            let left_out = replaced.left_out.count;
            let dead = dead.count;
            return wrong(
                table,
                &format!("{left_out} rows of file {sst} are left out, other {dead} rows are dead"),
            );
        }
        file.sst.rows.checked_sub(dead.count).map_or_else(
            || wrong(table, &format!("more rows of file {sst} are dead than it has")),
            Ok,
        )
    }
}

impl VersionDelta {
    /// The number of live rows in a table's new files, which may have dead rows from the start. `None` if
    /// more rows of a file are dead than it has.
    fn live_rows_born(&self, table: ObjectId) -> Option<u64> {
        let born = self.born.iter().filter(|sst| sst.written_for == table);
        born.map(|sst| {
            let of_file = |stamp: &&FileStamp| (stamp.table_id, stamp.sst_id) == (table, sst.id);
            let stamps = self.stamps.iter().filter(of_file);
            let dead: u64 = stamps.map(|stamp| stamp.positions.len()).sum();
            sst.rows.checked_sub(dead)
        })
        .sum()
    }
}

fn wrong<T>(table: ObjectId, what: &str) -> Result<T, HummockError> {
    Err(HummockError::Corrupt(format!("a commit to table {table} is not sound: {what}")))
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use std::sync::Arc;

    use super::*;
    use crate::epoch::Epoch;
    use crate::version::sample::{TABLE, sst};

    fn stamp(id: u64, positions: &[u32]) -> FileStamp {
        let positions = Arc::new(positions.iter().copied().collect());
        FileStamp { table_id: TABLE, sst_id: SstId(id), positions }
    }

    fn delta(version: &Version, edit: impl FnOnce(&mut VersionDelta)) -> VersionDelta {
        let epoch = Epoch::from_u64(version.max_committed_epoch.as_u64() + 1);
        let mut delta = VersionDelta::empty(version, epoch);
        edit(&mut delta);
        delta
    }

    /// Two files of ten rows; rows 1 and 2 of the first are dead.
    fn version() -> Version {
        let empty = Version::empty(Epoch::from_u64(1));
        let born = delta(&empty, |d| d.born = vec![sst(1, 10), sst(2, 10)]);
        let version = empty.apply(&born);
        let stamped = delta(&version, |d| d.stamps = vec![stamp(1, &[1]), stamp(1, &[2])]);
        version.apply(&stamped)
    }

    fn left_out(id: u64, positions: &[u32]) -> Replaced {
        let positions: RoaringBitmap = positions.iter().copied().collect();
        Replaced { table_id: TABLE, sst_id: SstId(id), left_out: Positions::from(&positions) }
    }

    /// Replaces the first file with one of `rows` rows, of which `dead` are dead, and leaves out the rows
    /// `without`.
    fn replacing(version: &Version, rows: u32, dead: &[u32], without: &[u32]) -> VersionDelta {
        delta(version, |d| {
            d.died = vec![(TABLE, SstId(1))];
            d.born = vec![sst(3, rows)];
            d.stamps = vec![stamp(3, dead)];
            d.replaced = vec![left_out(1, without)];
        })
    }

    fn refusal(version: &Version, delta: &VersionDelta) -> String {
        version.check_deaths(delta).unwrap_err().to_string()
    }

    #[test]
    fn a_replacement_holds_the_rows_that_are_alive() {
        let version = version();
        version.check_deaths(&replacing(&version, 8, &[], &[1, 2])).unwrap();
        version.check_deaths(&replacing(&version, 9, &[4], &[1, 2])).unwrap();
    }

    #[test]
    fn a_replacement_that_brings_rows_back_or_loses_some_is_refused() {
        let version = version();
        // Read before row 2 died; another row is left out instead; one too many.
        for without in [&[1][..], &[1, 3], &[1, 2, 3]] {
            let error = refusal(&version, &replacing(&version, 8, &[], without));
            assert!(error.contains("left out"), "{without:?}: {error}");
        }
        // The right rows are left out, but the new file has fewer or more rows.
        for rows in [7, 9] {
            let error = refusal(&version, &replacing(&version, rows, &[], &[1, 2]));
            assert!(error.contains("take the place of 8 rows"), "{error}");
        }
        let error = refusal(&version, &replacing(&version, 1, &[0, 1], &[1, 2]));
        assert!(error.contains("take the place"), "{error}");
    }

    #[test]
    fn a_file_dies_with_its_whole_table_or_is_replaced() {
        let version = version();
        let die = |ids: &[u64]| {
            delta(&version, |d| d.died = ids.iter().map(|id| (TABLE, SstId(*id))).collect())
        };
        version.check_deaths(&die(&[1, 2])).unwrap();
        version.check_deaths(&die(&[])).unwrap();
        assert!(refusal(&version, &die(&[1])).contains("1 of 2 files die for no reason"));
        assert!(refusal(&version, &die(&[1, 9])).contains("file 9 dies and is not alive"));
        // A second file dies with the one that is replaced.
        let mut both = replacing(&version, 8, &[], &[1, 2]);
        both.died.push((TABLE, SstId(2)));
        assert!(refusal(&version, &both).contains("other files die"));
    }

    #[test]
    fn sets_of_positions_differ_in_their_checksums() {
        let of = |positions: &[u32]| {
            Positions::from(&positions.iter().copied().collect::<RoaringBitmap>())
        };
        assert_eq!(of(&[]), Positions::default());
        assert_eq!(of(&[0, 5]), of(&[5]).and(&[0].into_iter().collect()));
        assert_ne!(of(&[0, 5]), of(&[1, 4]));
        // Stored in deltas, so it must never change.
        assert_eq!(of(&[0]).checksum, 0xe220_a839_7b1d_cdaf);
    }
}
