//! The model: every state of the database by epoch, in plain maps.

use std::collections::BTreeMap;

use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SnapshotId;

pub type Row = Vec<Option<i64>>;

/// A table at one epoch.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Table {
    pub keyed: bool,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// The database at one epoch.
pub type World = BTreeMap<String, Table>;

/// Backup directory and id of a snapshot.
pub type SnapshotAt = (String, SnapshotId);

/// All past states that can still be queried.
#[derive(Clone, Debug)]
pub struct History {
    states: BTreeMap<Epoch, World>,
    /// The states that each existing snapshot covers.
    pub snapshots: BTreeMap<SnapshotAt, BTreeMap<Epoch, World>>,
    names: u32,
}

impl History {
    pub fn new(epoch: Epoch) -> Self {
        let states = BTreeMap::from([(epoch, World::new())]);
        Self { states, snapshots: BTreeMap::new(), names: 0 }
    }

    pub fn now(&self) -> &World {
        self.states.values().next_back().unwrap()
    }

    pub fn at(&self, epoch: Epoch) -> &World {
        at(&self.states, epoch)
    }

    /// Changes the database at `epoch`.
    pub fn change(&mut self, epoch: Epoch, edit: impl FnOnce(&mut World)) {
        let mut world = self.now().clone();
        edit(&mut world);
        assert!(self.states.insert(epoch, world).is_none(), "epoch {epoch} was used twice");
        assert_eq!(self.states.keys().next_back(), Some(&epoch), "epochs rise");
    }

    /// Whether any statement changed the database after `epoch`.
    pub fn changed_since(&self, epoch: Epoch) -> bool {
        self.states.keys().next_back().is_some_and(|last| *last > epoch)
    }

    pub fn remember(&mut self, snapshot: SnapshotAt) {
        let known = self.snapshots.insert(snapshot.clone(), self.states.clone());
        assert!(known.is_none(), "snapshot {snapshot:?} was taken twice");
    }

    /// Resets the database to a snapshot.
    pub fn go_back(&mut self, snapshot: &SnapshotAt) {
        self.states = self.snapshots[snapshot].clone();
    }

    pub fn fresh_name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    /// The name of a table, by index among the existing ones.
    pub fn table(&self, index: u8) -> Option<String> {
        let names: Vec<_> = self.now().keys().collect();
        (!names.is_empty()).then(|| names[usize::from(index) % names.len()].clone())
    }
}

pub fn at(states: &BTreeMap<Epoch, World>, epoch: Epoch) -> &World {
    states.range(..=epoch).next_back().expect("the past is known back to the first epoch").1
}

impl Table {
    /// Sorts the rows, as comparisons ignore their order.
    pub fn sorted(mut self) -> Self {
        self.rows.sort();
        self
    }

    /// Adds rows like `INSERT`: a row replaces the one with the same key.
    pub fn insert(&mut self, rows: &[Row]) {
        for row in rows {
            if self.keyed {
                self.rows.retain(|old| old[0] != row[0]);
            }
            self.rows.push(row.clone());
        }
    }
}
