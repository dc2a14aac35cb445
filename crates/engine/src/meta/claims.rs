//! Which tables may need compaction, and which worker has claimed which table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemark_ledger::id::ObjectId;

/// Tables that may need compaction, and the claims on tables.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Tables>);

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub changed: BTreeSet<ObjectId>,
    pub claimed: BTreeMap<ObjectId, String>,
}

impl Claims {
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
