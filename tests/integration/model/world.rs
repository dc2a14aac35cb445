//! The model: every state of the database, by epoch, in plain maps.

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

/// Where a snapshot lies, and its number.
pub type SnapshotAt = (String, SnapshotId);

/// All that ever was, as far as it can be asked for.
#[derive(Clone, Debug)]
pub struct History {
    states: BTreeMap<Epoch, World>,
    /// What each snapshot that is there remembers.
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

    /// The database changes at `epoch`.
    pub fn change(&mut self, epoch: Epoch, edit: impl FnOnce(&mut World)) {
        let mut world = self.now().clone();
        edit(&mut world);
        assert!(self.states.insert(epoch, world).is_none(), "epoch {epoch} was used twice");
        assert_eq!(self.states.keys().next_back(), Some(&epoch), "epochs rise");
    }

    /// Whether a statement changed anything after `epoch`.
    pub fn changed_since(&self, epoch: Epoch) -> bool {
        self.states.keys().next_back().is_some_and(|last| *last > epoch)
    }

    pub fn remember(&mut self, snapshot: SnapshotAt) {
        let known = self.snapshots.insert(snapshot.clone(), self.states.clone());
        assert!(known.is_none(), "snapshot {snapshot:?} was taken twice");
    }

    /// The database goes on from a snapshot.
    pub fn go_back(&mut self, snapshot: &SnapshotAt) {
        self.states = self.snapshots[snapshot].clone();
    }

    pub fn fresh_name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    /// The name of the table at a place among those there are.
    pub fn table(&self, place: u8) -> Option<String> {
        let names: Vec<_> = self.now().keys().collect();
        (!names.is_empty()).then(|| names[usize::from(place) % names.len()].clone())
    }
}

pub fn at(states: &BTreeMap<Epoch, World>, epoch: Epoch) -> &World {
    states.range(..=epoch).next_back().expect("the past is known back to the first epoch").1
}

impl Table {
    /// As rows are compared: in no order.
    pub fn sorted(mut self) -> Self {
        self.rows.sort();
        self
    }

    /// Adds rows as `INSERT` does: one with a key that is there takes its place.
    pub fn insert(&mut self, rows: &[Row]) {
        for row in rows {
            if self.keyed {
                self.rows.retain(|old| old[0] != row[0]);
            }
            self.rows.push(row.clone());
        }
    }
}
