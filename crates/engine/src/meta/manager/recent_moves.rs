//! Where recent compactions moved rows: a write that decided before one of them finds its rows again. Pure.
//!
//! Only the latest moves are kept, for a bounded number of rows. A write whose rows were moved by a
//! forgotten compaction conflicts, as if the rows had been changed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::compaction::Moved;
use crate::meta::command::{DeadRows, TableWrite};
use tidemark_ledger::id::{ObjectId, SstId};
use tidemark_ledger::version::Version;

/// Maximum number of input rows whose new positions are kept, four bytes each.
pub const ROWS_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub struct RecentMoves {
    /// By the table and the input: rows that move in one table stay where they are in another.
    by_input: HashMap<(ObjectId, SstId), Arc<Moved>>,
    /// In commit order.
    moves: VecDeque<(ObjectId, Arc<Moved>)>,
    rows: usize,
}

impl RecentMoves {
    /// Records what a committed compaction of a table moved.
    pub fn record(&mut self, table: ObjectId, moved: Arc<Moved>) {
        self.rows += moved.rows_in();
        self.by_input.extend(moved.inputs().map(|input| ((table, input), Arc::clone(&moved))));
        self.moves.push_back((table, moved));
        while self.rows > ROWS_MAX {
            let Some((table, oldest)) = self.moves.pop_front() else { break };
            self.rows -= oldest.rows_in();
            // A table's file is compacted only once.
            for input in oldest.inputs() {
                self.by_input.remove(&(table, input));
            }
        }
    }

    /// Whether it is known where the rows of this file of a table went.
    pub fn knows(&self, table: ObjectId, sst: SstId) -> bool {
        self.by_input.contains_key(&(table, sst))
    }

    /// Changes the dead rows of a write to their positions in `version`. Rows that no longer exist, or
    /// whose move is not known, stay as they are.
    pub fn follow(&self, write: &mut TableWrite, version: &Version) {
        let table = write.table_id;
        let open = |sst: SstId| version.open_file(table, sst).is_some();
        let gone = |sst: SstId| self.knows(table, sst) && !open(sst);
        if !write.dead_rows.iter().any(|dead| gone(dead.sst_id)) {
            return;
        }
        let mut left: Vec<_> =
            write.dead_rows.iter().map(|dead| (dead.sst_id, (*dead.positions).clone())).collect();
        let mut found: BTreeMap<SstId, RoaringBitmap> = BTreeMap::new();
        while let Some((sst, positions)) = left.pop() {
            let moved = self.by_input.get(&(table, sst)).filter(|_| !open(sst));
            match moved.map(|moved| moved.output_positions(sst, &positions)) {
                // Rows that were dead at the compaction are in no output.
                Some(outputs) if count(outputs.values()) == positions.len() => left.extend(outputs),
                _ => *found.entry(sst).or_default() |= positions,
            }
        }
        let found = found.into_iter();
        write.dead_rows = found
            .map(|(sst_id, positions)| DeadRows { sst_id, positions: Arc::new(positions) })
            .collect();
    }
}

fn count<'a>(bitmaps: impl Iterator<Item = &'a RoaringBitmap>) -> u64 {
    bitmaps.map(RoaringBitmap::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::command::WrittenKeys;
    use tidemark_ledger::epoch::Epoch;
    use tidemark_ledger::version::VersionDelta;
    use tidemark_ledger::version::sample::{OTHER, TABLE, sst};

    fn epoch(n: u64) -> Epoch {
        Epoch::from_u64(n << 16)
    }

    /// All rows of `from` but the first are moved to `to`, in order.
    fn moved(from: u64, rows: u32, to: u64) -> Arc<Moved> {
        let mut moved = Moved::new([sst(from, rows)].iter());
        for position in 1..i64::from(rows) {
            moved.push(SstId(from), position).unwrap();
        }
        moved.close(&[sst(to, rows - 1)]);
        Arc::new(moved)
    }

    fn version(open: u64, rows: u32) -> Version {
        let empty = Version::empty(epoch(1));
        let mut delta = VersionDelta::empty(&empty, epoch(2));
        delta.born = vec![sst(open, rows)];
        empty.apply(&delta)
    }

    fn followed(recent: &RecentMoves, dead: u32, version: &Version) -> (SstId, u32) {
        let mut write = TableWrite {
            table_id: TABLE,
            definition_born: epoch(1),
            born: vec![],
            dead_rows: vec![DeadRows {
                sst_id: SstId(1),
                positions: Arc::new(RoaringBitmap::from_iter([dead])),
            }],
            keys: WrittenKeys::None,
            truncate: false,
        };
        recent.follow(&mut write, version);
        let [dead] = &write.dead_rows[..] else { panic!("{write:?}") };
        (dead.sst_id, dead.positions.min().unwrap())
    }

    #[test]
    fn rows_are_followed_through_compactions_of_compacted_files() {
        let mut recent = RecentMoves::default();
        recent.record(TABLE, moved(1, 5, 2));
        recent.record(TABLE, moved(2, 4, 3));
        assert_eq!(followed(&recent, 4, &version(3, 3)), (SstId(3), 2));
        assert_eq!(followed(&recent, 4, &version(2, 4)), (SstId(2), 3));
        assert_eq!(followed(&recent, 4, &version(1, 5)), (SstId(1), 4));
        // Dead at the first compaction, and dead at the second.
        assert_eq!(followed(&recent, 0, &version(3, 3)), (SstId(1), 0));
        assert_eq!(followed(&recent, 1, &version(3, 3)), (SstId(2), 0));
    }

    #[test]
    fn rows_that_moved_in_one_table_stay_in_another() {
        let mut recent = RecentMoves::default();
        recent.record(OTHER, moved(1, 5, 2));
        assert!(recent.knows(OTHER, SstId(1)) && !recent.knows(TABLE, SstId(1)));
        // The file was replaced in this table too, by a compaction that is not known any more.
        assert_eq!(followed(&recent, 4, &version(2, 4)), (SstId(1), 4));
        recent.record(TABLE, moved(1, 5, 3));
        assert_eq!(followed(&recent, 4, &version(3, 4)), (SstId(3), 3));
        assert!(recent.knows(OTHER, SstId(1)));
    }

    #[test]
    fn the_oldest_moves_are_forgotten() {
        let mut recent = RecentMoves::default();
        recent.record(TABLE, moved(1, 5, 2));
        recent.record(TABLE, moved(3, u32::try_from(ROWS_MAX).unwrap() - 4, 4));
        assert_eq!(followed(&recent, 4, &version(2, 4)), (SstId(1), 4));
        assert_eq!(recent.moves.len(), 1);
    }
}
