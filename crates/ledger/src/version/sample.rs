//! Data files for tests of versions.

use std::sync::Arc;

use super::FileEntry;
use crate::epoch::Epoch;
use crate::id::{ObjectId, SstId};
use crate::sst::SstInfo;
use crate::storage::Checksum;

/// The table of every sample.
pub const TABLE: ObjectId = ObjectId(7);

/// A file of `rows` rows in one row group.
pub fn sst(id: u64, rows: u32) -> Arc<SstInfo> {
    Arc::new(SstInfo {
        id: SstId(id),
        written_for: TABLE,
        rows: u64::from(rows),
        size_bytes: 100,
        row_group_rows: vec![rows],
        sha256: Checksum::default(),
        block_sums: None,
        columns: Arc::default(),
        keys: None,
        inline: None,
    })
}

/// Another table than that of the samples.
pub const OTHER: ObjectId = ObjectId(9);

/// A file of the samples in the other table, from `epoch` on.
pub fn lent(sst: &Arc<SstInfo>, epoch: Epoch) -> FileEntry {
    FileEntry { table_id: OTHER, ..FileEntry::born(Arc::clone(sst), epoch) }
}
