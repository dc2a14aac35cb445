//! The keys that recent commits added to tables: tells whether a write that looked up its keys some
//! epochs ago may have missed one. Pure.
//!
//! Only the latest keys are kept, in a bounded number. A write that looked before the oldest known ones
//! is assumed to have missed one, and looks again.

use std::collections::{HashMap, VecDeque};

use crate::meta::command::WrittenKeys;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::ObjectId;

/// Maximum number of hashes kept for one table, eight bytes each.
const HASHES_MAX: usize = 1 << 17;

#[derive(Debug)]
pub struct RecentKeys {
    /// Nothing is known of commits at or before this epoch.
    started: Epoch,
    tables: HashMap<ObjectId, TableKeys>,
}

#[derive(Debug)]
struct TableKeys {
    known_from: Epoch,
    commits: VecDeque<(Epoch, WrittenKeys)>,
    hashes: usize,
}

impl RecentKeys {
    pub fn since(started: Epoch) -> Self {
        Self { started, tables: HashMap::new() }
    }

    /// Whether one of `keys`, looked up as of `base`, may have been added to the table since.
    pub fn may_have_come(&self, table: ObjectId, base: Epoch, keys: &WrittenKeys) -> bool {
        if *keys == WrittenKeys::None {
            return false;
        }
        let Some(known) = self.tables.get(&table) else { return base < self.started };
        let later = known.commits.iter().rev().take_while(|(epoch, _)| *epoch > base);
        base < known.known_from || { later }.any(|(_, written)| written.meet(keys))
    }

    /// Forgets a table that was dropped.
    pub fn forget(&mut self, table: ObjectId) {
        self.tables.remove(&table);
    }

    /// Records the keys that a commit added.
    pub fn record(&mut self, table: ObjectId, epoch: Epoch, keys: WrittenKeys) {
        if keys == WrittenKeys::None {
            return;
        }
        let started = self.started;
        let known = self.tables.entry(table).or_insert_with(|| TableKeys {
            known_from: started,
            commits: VecDeque::new(),
            hashes: 0,
        });
        known.hashes += keys.size();
        known.commits.push_back((epoch, keys));
        while known.hashes > HASHES_MAX {
            let Some((epoch, oldest)) = known.commits.pop_front() else { break };
            known.hashes -= oldest.size();
            known.known_from = epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: ObjectId = ObjectId(7);

    fn epoch(n: u64) -> Epoch {
        Epoch::from_u64(n << 16)
    }

    fn hashes(of: impl IntoIterator<Item = u64>) -> WrittenKeys {
        WrittenKeys::Hashes(of.into_iter().collect())
    }

    #[test]
    fn a_key_that_came_after_the_look_is_found() {
        let mut recent = RecentKeys::since(epoch(5));
        recent.record(TABLE, epoch(7), hashes([1, 2]));
        recent.record(TABLE, epoch(8), hashes([3]));
        let came = |base, keys: WrittenKeys| recent.may_have_come(TABLE, epoch(base), &keys);
        assert!(came(6, hashes([2])) && came(7, hashes([3])) && came(5, WrittenKeys::Any));
        assert!(!came(7, hashes([2])) && !came(6, hashes([9])) && !came(8, WrittenKeys::Any));
        assert!(came(4, hashes([9])), "what came before it is not known");
        assert!(!came(4, WrittenKeys::None));
    }

    #[test]
    fn what_is_not_kept_any_more_counts_as_come() {
        let mut recent = RecentKeys::since(epoch(1));
        for n in 2..5 {
            recent.record(TABLE, epoch(n), hashes(0..HASHES_MAX as u64 / 2));
        }
        assert!(recent.may_have_come(TABLE, epoch(1), &hashes([u64::MAX])));
        assert!(!recent.may_have_come(TABLE, epoch(3), &hashes([u64::MAX])));
    }
}
