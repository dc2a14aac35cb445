//! The expected contents of each table at each epoch: naive sets of rows that know nothing of files.

use std::collections::{BTreeMap, BTreeSet};

use super::meta_store::Commit;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ObjectId, SstId};

/// A row. Its other contents follow from `tag`, which is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub key: i32,
    pub tag: i64,
}

/// Length in bytes of the long text of a row.
const LONG: usize = 400;

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
    (number ^ (number >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d)
}

impl Row {
    /// The text of the row: one row in four has a long one that hardly compresses.
    pub fn text(self) -> String {
        let tag = self.tag.unsigned_abs();
        if !tag.is_multiple_of(4) {
            return format!("row {tag}");
        }
        let words = (0..LONG / 16).map(|at| format!("{:016x}", mixed(tag * 1000 + at as u64)));
        words.collect()
    }
}

/// The effect of one write on one table.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    pub table: ObjectId,
    pub born: BTreeSet<SstId>,
    pub added: Vec<Row>,
    pub removed: Vec<Row>,
    /// Whether all rows are removed first.
    pub truncates: bool,
}

/// The reply that a write got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Committed(Epoch),
    Refused,
    Unknown,
}

/// A table that was created.
#[derive(Clone, Debug)]
pub struct Table {
    pub id: ObjectId,
    pub name: String,
    /// An epoch at which it exists.
    pub made: Epoch,
    /// When it was dropped, as far as its caller knows.
    pub dropped: Option<Epoch>,
    /// Whether a client tried to drop it.
    pub may_be_dropped: bool,
}

/// What all writers intended.
#[derive(Debug, Default)]
pub struct Model {
    /// The effects of each write, by a file that is born with this write only.
    pub meant: BTreeMap<SstId, Vec<Effect>>,
    pub told: Vec<(SstId, Told)>,
    pub tables: BTreeMap<String, Table>,
    next_tag: i64,
}

impl Model {
    pub fn next_tag(&mut self) -> i64 {
        self.next_tag += 1;
        self.next_tag
    }

    /// Forgets everything after this epoch: a snapshot was restored.
    pub fn go_back(&mut self, epoch: Epoch) {
        self.tables.retain(|_, table| table.made <= epoch);
        for table in self.tables.values_mut() {
            table.dropped = table.dropped.filter(|dropped| *dropped <= epoch);
        }
    }

    /// The rows of a table after each of these commits that touched it, by the epoch from which on they hold.
    pub fn history(&self, table: ObjectId, commits: &[Commit]) -> BTreeMap<Epoch, BTreeSet<Row>> {
        let mut history = BTreeMap::from([(Epoch::ZERO, BTreeSet::new())]);
        let mut rows: BTreeSet<Row> = BTreeSet::new();
        for commit in commits {
            let meant = commit.born.iter().filter_map(|sst| self.meant.get(sst)).flatten();
            let effects: Vec<&Effect> = meant.filter(|effect| effect.table == table).collect();
            if effects.is_empty() {
                continue;
            }
            if effects.iter().any(|effect| effect.truncates) {
                rows.clear();
                // Of the writes that share the commit, files of those before the truncation are not born.
                let born = effects.iter().filter(|e| e.born.is_subset(&commit.born));
                rows.extend(born.flat_map(|effect| &effect.added));
            } else {
                for effect in &effects {
                    for row in &effect.removed {
                        rows.remove(row);
                    }
                    rows.extend(&effect.added);
                }
            }
            history.insert(commit.epoch, rows.clone());
        }
        history
    }
}

/// The rows at an epoch of such a history.
pub fn rows_at(history: &BTreeMap<Epoch, BTreeSet<Row>>, epoch: Epoch) -> &BTreeSet<Row> {
    let (_, rows) = history.range(..=epoch).next_back().expect("a history begins with nothing");
    rows
}
