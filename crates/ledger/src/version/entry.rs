//! A table's hold on a data file: the pair of both, its lifetime, and the rows that died in it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::Stamps;
use crate::epoch::{Epoch, Lifetime};
use crate::id::ObjectId;
use crate::sst::SstInfo;

/// A data file in a table: since when and until when the table has it, and the stamps that killed rows of it
/// there. Another table may have the same file, with a lifetime and stamps of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct FileEntry {
    pub table_id: ObjectId,
    pub sst: Arc<SstInfo>,
    pub lifetime: Lifetime,
    pub stamps: Stamps,
}

/// A file as one epoch of its table sees it.
#[derive(Clone, Debug)]
pub struct LiveFile {
    pub table_id: ObjectId,
    pub sst: Arc<SstInfo>,
    /// Positions of the rows that are dead at that epoch; `None` if all rows are alive.
    pub dead: Option<Arc<RoaringBitmap>>,
}

/// An entry as it is stored: without its table where that is the one the file was written for, as it is for
/// all entries of releases in which a file was in no other table.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table_id: Option<ObjectId>,
    sst: Arc<SstInfo>,
    lifetime: Lifetime,
    #[serde(default, skip_serializing_if = "Stamps::is_empty")]
    stamps: Stamps,
}

impl From<Stored> for FileEntry {
    fn from(stored: Stored) -> Self {
        let Stored { table_id, sst, lifetime, stamps } = stored;
        Self { table_id: table_id.unwrap_or(sst.written_for), sst, lifetime, stamps }
    }
}

impl From<FileEntry> for Stored {
    fn from(file: FileEntry) -> Self {
        let table_id = file.is_lent().then_some(file.table_id);
        Self { table_id, sst: file.sst, lifetime: file.lifetime, stamps: file.stamps }
    }
}

impl FileEntry {
    /// A file that its table has from `epoch` on, since it was written for it.
    pub fn born(sst: Arc<SstInfo>, epoch: Epoch) -> Self {
        let (lifetime, stamps) = (Lifetime::since(epoch), Stamps::default());
        Self { table_id: sst.written_for, sst, lifetime, stamps }
    }

    /// Whether the file was written for another table.
    pub fn is_lent(&self) -> bool {
        self.table_id != self.sst.written_for
    }

    /// The file as `epoch` sees it.
    pub fn live_at(&self, epoch: Epoch) -> LiveFile {
        let (sst, dead) = (Arc::clone(&self.sst), self.stamps.dead_at(epoch));
        LiveFile { table_id: self.table_id, sst, dead }
    }
}

impl LiveFile {
    /// A file that is not committed yet, with all its rows.
    pub fn staged(sst: &Arc<SstInfo>) -> Self {
        Self { table_id: sst.written_for, sst: Arc::clone(sst), dead: None }
    }

    pub fn live_rows(&self) -> u64 {
        self.sst.rows - self.dead.as_ref().map_or(0, |dead| dead.len())
    }

    /// The inline rows, dead ones included, if it has any. They are verified before they are decoded.
    pub fn inline_rows(&self) -> Option<Result<RecordBatch, ArrowError>> {
        self.sst.inline_rows(self.table_id)
    }
}
