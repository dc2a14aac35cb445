//! The uncommitted writes of an open transaction, visible only to its own statements.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidemark_engine::meta::command::{DeadRows, TableWrite};
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::sst_ids::Staging;
use tidemark_ledger::version::LiveFile;

/// The writes of one transaction, one entry per table.
#[derive(Debug, Default)]
pub struct Pending(Mutex<Writes>);

#[derive(Debug, Default)]
struct Writes {
    tables: BTreeMap<ObjectId, TableWrite>,
    /// Vacuum keeps the staged files while these are held.
    staged: Vec<Arc<Staging>>,
}

impl Pending {
    /// Adds the writes of a statement.
    pub fn add(&self, writes: Vec<TableWrite>, staged: Vec<Arc<Staging>>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.staged.extend(staged);
        for write in writes {
            match pending.tables.get_mut(&write.table_id) {
                // A `TRUNCATE` discards the transaction's earlier writes to the table.
                Some(before) if !write.truncate => join(before, write),
                _ => {
                    pending.tables.insert(write.table_id, write);
                }
            }
        }
    }

    /// Returns the files of a table as the transaction sees them; `committed` are those of its view.
    pub fn files(&self, table: ObjectId, committed: Vec<LiveFile>) -> Vec<LiveFile> {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(write) = pending.tables.get(&table) else { return committed };
        let committed = if write.truncate { vec![] } else { committed };
        let born = write.born.iter().map(LiveFile::staged);
        let files = committed.into_iter().chain(born).map(|file| {
            let dead = write.dead_rows.iter().find(|dead| dead.sst_id == file.sst.id);
            without(file, dead)
        });
        files.filter(|file| file.live_rows() > 0).collect()
    }

    /// Takes all writes with the guards of their files, and leaves this empty.
    pub fn take(&self) -> (Vec<TableWrite>, Vec<Arc<Staging>>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Writes { tables, staged } = std::mem::take(&mut *pending);
        (tables.into_values().collect(), staged)
    }
}

fn join(before: &mut TableWrite, write: TableWrite) {
    before.born.extend(write.born);
    before.keys = std::mem::take(&mut before.keys).and(write.keys);
    for dead in write.dead_rows {
        match before.dead_rows.iter_mut().find(|known| known.sst_id == dead.sst_id) {
            Some(known) => known.positions = Arc::new(&*known.positions | &*dead.positions),
            None => before.dead_rows.push(dead),
        }
    }
}

fn without(file: LiveFile, dead: Option<&DeadRows>) -> LiveFile {
    let Some(dead) = dead else { return file };
    let dead = match &file.dead {
        Some(known) => Arc::new(&**known | &*dead.positions),
        None => Arc::clone(&dead.positions),
    };
    LiveFile { dead: Some(dead), ..file }
}
